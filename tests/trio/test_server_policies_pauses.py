"""Time limits between the pieces of a body, and what does not count as one: the client's pauses, and ours."""

import pytest
import trio
import trio.testing
from policed_session import URL, Dialer, Upstream, answer, policed, streams, unavailable
from session_under_test import captured_log
from stream_client import CHUNKED, chunk, delivered, end, head, piece, stream_request

from connector_sdk.wire import CreditUpdate, ErrorClass
from vastar_runtime.config.policy import DeadlinePolicy, Rate, RateLimitPolicy
from vastar_runtime.policies.circuit import State

__all__ = ["streams"]

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"
BETWEEN = DeadlinePolicy(between_bytes_timeout_ms=3000)


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


@pytest.mark.parametrize("fields", [{}, {"timeout_ms": 10**6}])
async def test_a_body_that_stops_ends_with_a_timeout_that_says_so(autojump_clock, fields):
    async def step(peer):
        await peer.send(HALF)
        await peer.gone()

    async with policed(Upstream(step), deadline=BETWEEN, greets=True) as world:
        await world.client.send(stream_request(1, URL, parameters=fields))
        stream = await delivered(world.client)
        assert (stream.data, stream.error_class, stream.end.attempts) == (b"half", ErrorClass.TIMEOUT, 1)
        assert stream.message == (
            "HTTP request timed out: nothing moved for 3 s (deadline.between_bytes_timeout_ms) while reading the "
            "response body from upstream.test:80"
        )
        assert world.circuit() is State.CLOSED


async def test_a_body_that_goes_on_in_time_may_take_any_time(autojump_clock):
    async def step(peer):
        await trio.sleep(50)  # the head is not what it is about
        await peer.send(CHUNKED)
        for _ in range(100):
            await trio.sleep(2.9)
            await peer.send(chunk(b"x"))
        await peer.send(chunk(b""))

    async with policed(Upstream(step), deadline=BETWEEN) as world:
        assert (await world.send()).body == "x" * 100


async def test_while_the_client_takes_nothing_it_does_not_run(autojump_clock):
    async def step(peer):
        await peer.send(HALF)
        await peer.gone()

    async with policed(Upstream(step), deadline=BETWEEN, greets=True, window_bytes=3) as world:
        await world.client.send(stream_request(1, URL, parameters={"timeout_ms": 10**8}))
        await head(world.client)
        assert await piece(world.client) == b"hal"
        await trio.sleep(1000)
        await world.client.send(CreditUpdate(request_id=1, credit_delta=10))
        resumed_at_s = trio.current_time()
        assert await piece(world.client) == b"f"
        last = await end(world.client)
        assert "deadline.between_bytes_timeout_ms" in last.error_message
        assert trio.current_time() - resumed_at_s == pytest.approx(3)


async def test_a_request_s_body_that_is_still_being_sent_does_not_make_it_run(autojump_clock):
    """An upstream that answers first, and then reads slowly."""
    size = 400_000

    async def step(peer):
        await peer.rest_of_body(size, lambda _: trio.sleep(1))
        await peer.gone()

    async def answer_first(peer):
        await peer.send(HALF + b"done")

    upstream = Upstream(step)
    upstream.reads_body = answer_first
    async with trio.open_nursery() as nursery:
        dialer = Dialer(nursery, {"upstream.test": upstream})
        dialer.pair = trio.testing.lockstep_stream_pair
        async with policed(dialer=dialer, deadline=BETWEEN, greets=True, window_bytes=4) as world:
            await world.client.send(stream_request(1, URL, parameters={"method": "PUT", "body": "x" * size}))
            await head(world.client)
            assert await piece(world.client) == b"half"
            await trio.sleep(1000)
            assert len(upstream.requests[0].body) == size
            await world.client.send(CreditUpdate(request_id=1, credit_delta=10))
            assert await piece(world.client) == b"done"
            assert (await end(world.client)).error_class is ErrorClass.SUCCESS
        nursery.cancel_scope.cancel()


async def test_of_the_idle_time_and_that_between_bytes_the_shorter_one_counts(autojump_clock):
    limits = DeadlinePolicy(idle_timeout_ms=2000, between_bytes_timeout_ms=3000)

    async def step(peer):
        await peer.send(HALF)
        await peer.gone()

    async with policed(Upstream(step), deadline=limits) as world:
        assert "nothing moved for 2 s (deadline.idle_timeout_ms)" in (await world.send()).message


async def test_the_pause_before_a_retry_is_not_idle_time(autojump_clock):
    async with policed(Upstream(unavailable(9), answer(200)), deadline=DeadlinePolicy(idle_timeout_ms=1000)) as world:
        result = await world.send()
        assert (result.status, result.attempts) == (200, 2)


async def test_a_refused_retry_s_answer_still_has_its_time_limit(autojump_clock):
    async def stops(peer):
        await peer.send(b"HTTP/1.1 503 No\r\nRetry-After: 9\r\nContent-Length: 8\r\n\r\nhalf")
        await peer.gone()

    limits = DeadlinePolicy(idle_timeout_ms=2000)
    async with policed(Upstream(stops), deadline=limits, rate_limit=RateLimitPolicy(per_tenant=Rate(1, 3600))) as world:
        began_at_s = trio.current_time()
        result = await world.send()
        assert (result.error_class, result.attempts) == (ErrorClass.TIMEOUT, 1)
        assert result.message == (
            "HTTP request timed out: nothing moved for 2 s (deadline.idle_timeout_ms) while reading the response "
            "body from upstream.test:80"
        )
        assert result.ended_at_s - began_at_s == pytest.approx(11, abs=0.01)
