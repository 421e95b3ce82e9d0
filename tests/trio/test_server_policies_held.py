"""What a request has taken and what its retries meet, through a whole session; and what a Cancel leaves."""

import pytest
import trio
from policed_session import OK, URL, Upstream, policed, silent, streams, unavailable
from session_under_test import captured_log
from stream_client import delivered, end, head, piece, stream_request

from connector_sdk.wire import Cancel, ErrorClass
from vastar_runtime.config.policy import CircuitBreakerPolicy, ConcurrencyPolicy, Rate, RateLimitPolicy

__all__ = ["streams"]


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


async def test_a_retry_that_the_rate_limit_refuses_leaves_the_answer_with_its_body(autojump_clock):
    limit = RateLimitPolicy(per_tenant=Rate(2, 3600))
    async with policed(Upstream(unavailable(body="1"), unavailable(body="2"), OK), rate_limit=limit) as world:
        result = await world.send()
        assert (result.status, result.body, result.attempts) == (503, "2", 2)
        assert len(world.upstream.requests) == 2
        refused = await world.send()
        assert (refused.error_class, refused.attempts) == (ErrorClass.RATE_LIMITED, 0)
        assert refused.message == (
            f"rate limit of 2/h (burst 2) of tenant 'tenant' is used up; next in {refused.retry_after_ms} ms "
            "(rate_limit.per_tenant)"
        )
        assert 1_790_000 < refused.retry_after_ms <= 1_800_000


async def test_a_retry_that_finds_the_circuit_open_leaves_the_answer_with_its_body(autojump_clock):
    breaker = CircuitBreakerPolicy(consecutive_failures=2)
    async with policed(Upstream(unavailable(body="1"), unavailable(body="2"), OK), circuit_breaker=breaker) as world:
        result = await world.send()
        assert (result.status, result.body, result.attempts) == (503, "2", 2)
        assert len(world.upstream.requests) == 2


async def test_a_pause_is_ended_by_the_client_s_cancel_and_everything_is_given_back(autojump_clock):
    upstream = Upstream(unavailable(9, "x" * 200_000), OK)
    async with policed(upstream, greets=True, concurrency=ConcurrencyPolicy(max_per_tenant=1)) as world:
        await world.client.send(stream_request(1, URL, parameters={"timeout_ms": 60_000}))
        await trio.sleep(1)
        await world.client.send(stream_request(2, URL))
        await trio.sleep(4)
        found = world.pipeline.statistics()
        assert (found.admission.running, found.admission.waiting, found.retry.retrying) == (1, 1, 1)
        await world.client.send(Cancel(request_id=1))
        last = await end(world.client, 1)
        assert (last.error_class, last.error_message, last.attempts) == (
            ErrorClass.CANCELLED,
            "cancelled by the client",
            1,
        )
        assert (await delivered(world.client, 2)).data == b"fine"


async def test_a_probe_cancelled_while_the_last_answer_is_let_go_of_leaves_the_circuit_to_others(autojump_clock):
    async def endless(peer):
        await peer.send(b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.gone()

    breaker = CircuitBreakerPolicy(consecutive_failures=1, open_ms=500)
    async with policed(Upstream(endless, OK), greets=True, circuit_breaker=breaker) as world:
        await world.client.send(stream_request(1, URL))
        await trio.sleep(1.5)
        await world.client.send(Cancel(request_id=1))
        assert (await end(world.client)).error_class is ErrorClass.CANCELLED
        world.nothing_is_held()
        await world.client.send(stream_request(2, URL))
        assert (await delivered(world.client, 2)).data == b"fine"


@pytest.mark.parametrize("limits", [{}, {"timeout_ms": 60_000}])
async def test_a_client_s_cancel_is_answered_as_such_whatever_limits_there_are(autojump_clock, limits):
    async with policed(Upstream(silent), greets=True) as world:
        for request_id in range(1, 11):
            await world.client.send(stream_request(request_id, URL, parameters=limits))
            await trio.sleep(1)
            await world.client.send(Cancel(request_id=request_id))
            last = await end(world.client, request_id)
            assert (last.error_class, last.error_message) == (ErrorClass.CANCELLED, "cancelled by the client")
        assert len(world.upstream.requests) == 10  # no circuit has opened


async def test_the_head_of_a_slow_stream_ends_its_retry_so_that_others_have_the_budget(autojump_clock):
    async def slow(peer):
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        await trio.sleep(10)
        await peer.send(b"b")

    async with policed(Upstream(unavailable(), slow), greets=True, window_bytes=10) as world:
        await world.client.send(stream_request(1, URL))
        assert (await head(world.client)).attempts == 2
        assert await piece(world.client) == b"a"
        found = world.pipeline.statistics().retry
        assert (found.active, found.retrying, found.retried) == (1, 0, 1)
        assert await piece(world.client) == b"b"
        await end(world.client)
