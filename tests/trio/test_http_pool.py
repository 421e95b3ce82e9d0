"""Slots: how many exchanges there may be at once, in which order, and none lost whatever is cancelled."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import trio
from http_upstream import IDLE, Peer, client_tls, hello, server_tls, start_client, start_upstream, tunnel_to
from trio.testing import MockClock, wait_all_tasks_blocked

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import DeadlinePolicy
from vastar_runtime.errors import RequestError
from vastar_runtime.http.pool import Pool, PoolKey, PoolStatistics
from vastar_runtime.http.url import Origin
from vastar_runtime.policies.deadline import Deadline

ORIGIN = Origin("http", "host.example", 80)
KEY = PoolKey("tenant", ORIGIN)


async def test_beyond_the_limit_requests_wait_their_turn_in_order() -> None:
    pool = Pool(limit_per_origin=2)
    order: list[int] = []

    async def exchange(number: int) -> None:
        await pool.acquire_slot(KEY)
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(exchange, number)
            await wait_all_tasks_blocked()
        assert order == [0, 1]
        assert pool.statistics() == PoolStatistics(active=2, waiting=3, idle=0)
        for _ in range(3):
            pool.release_slot(KEY)
            await wait_all_tasks_blocked()
        assert order == [0, 1, 2, 3, 4]
        assert pool.statistics() == PoolStatistics(active=2, waiting=0, idle=0)
        pool.release_slot(KEY)
        pool.release_slot(KEY)
    assert pool.statistics() == IDLE


async def test_the_limit_is_per_tenant_and_origin(autojump_clock: MockClock) -> None:
    pool = Pool(limit_per_origin=1)
    keys = [KEY, PoolKey("other", ORIGIN), PoolKey("tenant", Origin("https", "host.example", 443))]
    keys.append(PoolKey("tenant", ORIGIN._replace(port=81)))
    for key in keys:
        with trio.fail_after(1):
            await pool.acquire_slot(key)
    for key in keys:
        with trio.move_on_after(1) as scope:
            await pool.acquire_slot(key)
        assert scope.cancelled_caught
        pool.release_slot(key)
    assert pool.statistics() == IDLE


async def test_waiting_ends_with_the_requests_deadline_which_says_what_it_waited_for(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        client = start_client(nursery, limit_per_origin=1)
        await client.pool.acquire_slot(KEY)
        deadline = Deadline(deadline_at_ms=0, timeout_ms=1500, policy=DeadlinePolicy(), unix_now_s=0)
        exchange = client.exchange("http://host.example/")
        exchange._progress = deadline.progress
        began = trio.current_time()
        with deadline.scope:
            await exchange.open()
        await exchange.close()
        assert trio.current_time() - began == pytest.approx(1.5)
        assert deadline.passed().message == (
            "HTTP request timed out: 1500 ms passed (timeout_ms) while waiting for a free connection to host.example:80"
        )
        assert client.pool.statistics() == PoolStatistics(active=1, waiting=0, idle=0)
        client.pool.release_slot(KEY)
        assert client.pool.statistics() == IDLE
        nursery.cancel_scope.cancel()


async def test_one_who_gives_up_waiting_does_not_take_a_turn() -> None:
    pool = Pool(limit_per_origin=1)
    await pool.acquire_slot(KEY)
    got = trio.Event()

    async def patient() -> None:
        await pool.acquire_slot(KEY)
        got.set()

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as impatient:
            impatient.start_soon(pool.acquire_slot, KEY)
            await wait_all_tasks_blocked()
            nursery.start_soon(patient)
            await wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        assert pool.statistics() == PoolStatistics(active=1, waiting=1, idle=0)
        pool.release_slot(KEY)
        await got.wait()
        pool.release_slot(KEY)
    assert pool.statistics() == IDLE


@pytest.mark.parametrize("released_first", [True, False])
async def test_a_slot_handed_over_in_the_moment_of_a_cancel_is_not_lost(released_first: bool) -> None:
    pool = Pool(limit_per_origin=1)
    await pool.acquire_slot(KEY)
    outcome: list[bool] = []

    async def exchange() -> None:
        with trio.CancelScope():
            await pool.acquire_slot(KEY)
            outcome.append(True)
            pool.release_slot(KEY)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange)
        await wait_all_tasks_blocked()
        if released_first:
            pool.release_slot(KEY)
            nursery.cancel_scope.cancel()
        else:
            nursery.cancel_scope.cancel()
            pool.release_slot(KEY)
    assert pool.statistics() == IDLE
    with trio.fail_after(1):
        await pool.acquire_slot(KEY)
    pool.release_slot(KEY)


@pytest.mark.parametrize(
    ("host", "has_tls", "least_steps"),
    [("127.0.0.1", False, 3), ("localhost", False, 6), ("127.0.0.1", True, 6)],
    ids=["plain", "by name", "tls"],
)
async def test_wherever_an_exchange_is_cancelled_nothing_is_left_over(
    nursery: trio.Nursery, host: str, has_tls: bool, least_steps: int
) -> None:
    """Cancelled at its first step, its second, and so on, until one gets through: connect, TLS, redirect, body."""

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            if request.target == "/":
                await peer.answer(b"moved", status=302, headers="Location: /there\r\n")
            else:
                await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n")
                await peer.send(b"2\r\nlo\r\n0\r\n\r\n")

    upstream = await start_upstream(nursery, script, tls=server_tls() if has_tls else None)
    proxy = await start_upstream(nursery, tunnel_to(upstream.port))
    environ = {"https_proxy": f"http://127.0.0.1:{proxy.port}"} if has_tls else {}

    kept = 0
    for steps in itertools.count(1):
        client = start_client(nursery, environ, client_tls() if has_tls else None, limit_per_origin=1)
        with trio.CancelScope() as scope:
            cancel = _CancelAfter(steps, scope)
            trio.lowlevel.add_instrument(cancel)
            try:
                answer = await client.fetch(upstream.url(host=host))
            finally:
                trio.lowlevel.remove_instrument(cancel)
        statistics = client.pool.statistics()
        assert (statistics.active, statistics.waiting) == (0, 0)
        assert not client.pool._active
        assert not client.pool._waiting
        kept += statistics.idle  # also of one that was cancelled when its exchange was complete already
        if not scope.cancelled_caught:
            assert answer.body == b"hello"
            assert statistics.idle == 1
            break
    assert steps >= least_steps
    assert kept < steps
    while upstream.open_connections > kept:
        await wait_all_tasks_blocked()


class _CancelAfter(trio.abc.Instrument):
    """Cancels the scope once its own task has been scheduled so many times."""

    def __init__(self, steps: int, scope: trio.CancelScope) -> None:
        self._left = steps
        self._scope = scope
        self._task = trio.lowlevel.current_task()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


async def test_an_idle_limit_is_answered_in_time_with_the_slots_still_there(mock_clock: MockClock, nursery) -> None:
    """A hanging upstream under a deadline: Timeout, connection closed, slot free for the next."""

    async def hangs(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    upstream = await start_upstream(nursery, hangs, hello)
    client = start_client(nursery, limit_per_origin=1)
    deadline = Deadline(deadline_at_ms=0, timeout_ms=None, policy=DeadlinePolicy(), unix_now_s=0)
    errors: list[RequestError] = []

    async def run() -> None:
        exchange = client.exchange(upstream.url())
        exchange._progress = deadline.progress
        with deadline.scope:
            try:
                await exchange.open()
            finally:
                await exchange.close()
        errors.append(deadline.passed())

    async with trio.open_nursery() as requests:
        requests.start_soon(run)
        while not upstream.requests:
            await wait_all_tasks_blocked()
        mock_clock.jump(59)
        await wait_all_tasks_blocked()
        assert not errors
        mock_clock.jump(1.1)
    assert errors[0].error_class is ErrorClass.TIMEOUT
    assert errors[0].message == (
        "HTTP request timed out: nothing moved for 60 s (deadline.idle_timeout_ms) while "
        f"waiting for the response head from 127.0.0.1:{upstream.port}"
    )
    assert client.pool.statistics() == IDLE
    assert (await client.fetch(upstream.url())).body == b"hello"
    while upstream.open_connections > 1:
        await wait_all_tasks_blocked()


async def test_a_hundred_requests_share_what_connections_there_may_be(nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello)
    client = start_client(nursery, limit_per_origin=3)
    async with trio.open_nursery() as requests:
        for _ in range(100):
            requests.start_soon(partial(client.fetch, upstream.url()))
    assert len(upstream.requests) == 100
    assert upstream.connections <= 3
    assert client.pool.statistics().active == 0
