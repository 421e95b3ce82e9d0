"""Idle connections: whose they are, how long they are kept, and that all of them are closed in the end."""

from __future__ import annotations

import trio
from http_upstream import IDLE, Peer, hello, start_client, start_upstream
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock, memory_stream_pair, wait_all_tasks_blocked

from vastar_runtime.http.connection import Connection
from vastar_runtime.http.pool import REAP_INTERVAL_S, Pool, PoolKey
from vastar_runtime.http.url import Origin

Far = trio.StapledStream[MemorySendStream, MemoryReceiveStream]

ORIGIN = Origin("http", "host.example", 80)
KEY = PoolKey("tenant", ORIGIN)


def connection() -> tuple[Connection, Far]:
    near, far = memory_stream_pair()
    return Connection(near, "host.example:80"), far


async def is_closed(far: Far) -> bool:
    try:
        await far.send_all(b"x")
    except trio.BrokenResourceError:
        return True
    return False


async def test_the_connection_used_last_is_used_next() -> None:
    pool = Pool()
    (first, _), (second, _) = connection(), connection()
    pool.keep_idle(KEY, first)
    pool.keep_idle(KEY, second)
    assert pool.take_idle(KEY) is second
    assert pool.take_idle(KEY) is first
    assert pool.take_idle(KEY) is None
    assert pool.statistics() == IDLE


async def test_connections_are_for_their_tenant_and_origin_alone() -> None:
    pool = Pool()
    kept, _ = connection()
    pool.keep_idle(KEY, kept)
    for key in (PoolKey("Tenant", ORIGIN), PoolKey("", ORIGIN), PoolKey("tenant", ORIGIN._replace(scheme="https"))):
        assert pool.take_idle(key) is None
    assert pool.take_idle(KEY) is kept


async def test_tenants_never_share_a_connection(nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello)
    client = start_client(nursery)
    for tenant in ("one", "two", "one", "two", "three"):
        await client.fetch(upstream.url(), tenant=tenant)
    assert upstream.connections == 3
    assert client.pool.statistics().idle == 3


async def test_beyond_max_idle_the_one_unused_longest_is_given_back_to_be_closed() -> None:
    pool = Pool(max_idle=2)
    connections = [connection()[0] for _ in range(3)]
    keys = [PoolKey(str(number), ORIGIN) for number in range(3)]
    assert pool.keep_idle(keys[0], connections[0]) is None
    assert pool.keep_idle(keys[1], connections[1]) is None
    assert pool.take_idle(keys[0]) is connections[0]
    assert pool.keep_idle(keys[0], connections[0]) is None  # now the youngest
    assert pool.keep_idle(keys[2], connections[2]) is connections[1]
    assert pool.statistics().idle == 2
    assert pool.take_idle(keys[1]) is None


async def test_an_exchange_closes_the_connection_that_its_own_pushes_out(nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello)
    client = start_client(nursery, max_idle=1)
    for tenant in ("one", "two"):
        await client.fetch(upstream.url(), tenant=tenant)
    assert client.pool.statistics().idle == 1
    while upstream.open_connections > 1:
        await wait_all_tasks_blocked()


async def test_an_idle_connection_expires(autojump_clock: MockClock) -> None:
    pool = Pool(idle_expiry_s=90)
    old, old_far = connection()
    young, young_far = connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.reap_forever)
        pool.keep_idle(KEY, old)
        await trio.sleep(60)
        pool.keep_idle(PoolKey("other", ORIGIN), young)
        await trio.sleep(30 + REAP_INTERVAL_S + 1)
        assert await is_closed(old_far)
        assert not await is_closed(young_far)
        assert pool.statistics().idle == 1
        await trio.sleep(60)
        assert await is_closed(young_far)
        assert pool.statistics() == IDLE
        nursery.cancel_scope.cancel()


async def test_a_connection_that_is_used_again_and_again_does_not_expire(autojump_clock: MockClock) -> None:
    pool = Pool(idle_expiry_s=90)
    used, _ = connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.reap_forever)
        for _ in range(50):
            pool.keep_idle(KEY, used)
            await trio.sleep(80)
            assert pool.take_idle(KEY) is used
        nursery.cancel_scope.cancel()


async def test_one_that_the_upstream_closed_is_reaped_before_it_expires(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    close = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"hello")
        await close.wait()

    upstream = await start_upstream(nursery, script)
    client = start_client(nursery)
    await client.fetch(upstream.url())
    await wait_all_tasks_blocked()
    mock_clock.jump(REAP_INTERVAL_S + 1)
    await wait_all_tasks_blocked()
    assert client.pool.statistics().idle == 1
    close.set()
    while upstream.open_connections:
        await wait_all_tasks_blocked()
    mock_clock.jump(REAP_INTERVAL_S + 1)
    await wait_all_tasks_blocked()
    assert client.pool.statistics() == IDLE


async def test_when_the_reaper_is_cancelled_every_idle_connection_is_closed() -> None:
    pool = Pool()
    far_ends = []
    for number in range(5):
        kept, far = connection()
        pool.keep_idle(PoolKey(str(number), ORIGIN), kept)
        far_ends.append(far)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.reap_forever)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [await is_closed(far) for far in far_ends] == [True] * 5
    assert pool.statistics() == IDLE
