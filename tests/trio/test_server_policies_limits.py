"""The time limits of a policy through a whole session: which one passed, and what the client is told."""

import pytest
import trio
import trio.testing
from policed_session import OK, UNIX_S, URL, Dialer, Upstream, policed, reset, silent, streams, unavailable
from session_under_test import captured_log
from stream_client import CHUNKED, chunk, delivered, stream_request

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import (
    CircuitBreakerPolicy,
    ConcurrencyPolicy,
    DeadlinePolicy,
    Rate,
    RateLimitPolicy,
    RetryPolicy,
)
from vastar_runtime.http.dial import Dialer as RealDialer
from vastar_runtime.http.pool import Pool
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.policies.circuit import State

__all__ = ["streams"]

NO_RETRIES = RetryPolicy(max_retries=0)
FIRST_BYTE = DeadlinePolicy(first_byte_timeout_ms=2000)
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


def after(seconds: float, data: bytes):
    async def step(peer):
        await trio.sleep(seconds)
        await peer.send(data)

    return step


# --- the whole request ---


@pytest.mark.parametrize(
    ("limits", "fields", "after_s", "words"),
    [
        ({"max_duration_ms": 3000}, {}, 3, "3000 ms passed (deadline.max_duration_ms)"),
        ({"max_duration_ms": 3000}, {"timeout_ms": 5000}, 3, "3000 ms passed (deadline.max_duration_ms)"),
        ({"max_duration_ms": 3000}, {"timeout_ms": 2000}, 2, "2000 ms passed (timeout_ms)"),
        ({"max_duration_ms": 3000}, {"in_ms": 5000}, 3, "3000 ms passed (deadline.max_duration_ms)"),
        ({"max_duration_ms": 3000}, {"in_ms": 2000}, 2, "2000 ms passed (deadline_at_ms)"),
        ({}, {}, 60, "nothing moved for 60 s (deadline.idle_timeout_ms)"),
        ({"idle_timeout_ms": 5000}, {}, 5, "nothing moved for 5 s (deadline.idle_timeout_ms)"),
        ({"idle_timeout_ms": 5000}, {"timeout_ms": 90_000}, 90, "90000 ms passed (timeout_ms)"),
        ({"idle_timeout_ms": 5000, "max_duration_ms": 3000}, {}, 3, "3000 ms passed (deadline.max_duration_ms)"),
        ({"idle_timeout_ms": 5000, "max_duration_ms": 9000}, {}, 5, "nothing moved for 5 s (deadline.idle_timeout_ms)"),
    ],
)
async def test_the_sooner_limit_wins_and_is_named(autojump_clock, limits, fields, after_s, words):
    async with policed(Upstream(silent), deadline=DeadlinePolicy(**limits)) as world:
        began_at_s = trio.current_time()
        if "in_ms" in fields:
            fields = {"deadline_at_ms": round((UNIX_S + began_at_s) * 1000) + fields["in_ms"]}
        result = await world.send(**fields)
        assert result.ended_at_s - began_at_s == pytest.approx(after_s, abs=0.002)
        assert (result.error_class, result.attempts) == (ErrorClass.TIMEOUT, 1)
        assert result.message.replace("1999 ms", "2000 ms") == (
            f"HTTP request timed out: {words} while waiting for the response head from upstream.test:80"
        )


async def test_the_longest_duration_ends_a_stream_that_goes_on(autojump_clock):
    async def endless(peer):
        await peer.send(CHUNKED)
        while True:
            await peer.send(chunk(b"x"))
            await trio.sleep(1)

    async with policed(Upstream(endless), deadline=DeadlinePolicy(max_duration_ms=5500), greets=True) as world:
        await world.client.send(stream_request(1, URL, parameters={"timeout_ms": 10**6}))
        stream = await delivered(world.client)
        assert (stream.data, stream.error_class, stream.end.attempts) == (b"x" * 6, ErrorClass.TIMEOUT, 1)
        assert "5500 ms passed (deadline.max_duration_ms) while reading the response body" in stream.message


async def test_waiting_for_a_turn_counts_and_is_said(autojump_clock):
    one = ConcurrencyPolicy(max_per_tenant=1)
    limits = DeadlinePolicy(max_duration_ms=3000)
    rate = RateLimitPolicy(per_tenant=Rate(2, 3600))
    breaker = CircuitBreakerPolicy(consecutive_failures=2)
    upstream = Upstream(after(3600, b""))
    async with policed(upstream, concurrency=one, deadline=limits, rate_limit=rate, circuit_breaker=breaker) as world:
        await world.begin()
        await trio.sleep(1)
        await world.begin(timeout_ms=1000)
        queued = await world.result()
        assert (queued.error_class, queued.attempts) == (ErrorClass.TIMEOUT, 0)
        assert queued.message == (
            "HTTP request timed out: 1000 ms passed (timeout_ms) while waiting for its turn "
            "(concurrency.max_per_tenant, admission.max_concurrent)"
        )
        assert (await world.result()).error_class is ErrorClass.TIMEOUT
        assert len(upstream.requests) == 1
        assert (await world.send()).error_class is ErrorClass.TIMEOUT  # its token was still there
        assert world.circuit() is State.OPEN  # by the two that the upstream did not answer


@pytest.mark.parametrize("by", ["time", "cancel"])
async def test_waiting_for_a_connection_is_no_fault_of_the_upstream(autojump_clock, by):
    breaker = CircuitBreakerPolicy(consecutive_failures=1)
    upstream = Upstream(after(10, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), OK)
    async with policed(upstream, circuit_breaker=breaker, pool=Pool(limit_per_origin=1)) as world:
        await world.begin(timeout_ms=60_000)
        await trio.sleep(1)
        late = await world.send(timeout_ms=1000)
        assert (late.error_class, late.attempts) == (ErrorClass.TIMEOUT, 0)
        assert late.message == (
            "HTTP request timed out: 1000 ms passed (timeout_ms) while waiting for a free connection to "
            "upstream.test:80"
        )
        assert world.circuit() is State.CLOSED
        assert (await world.result()).status == 200
        assert (await world.send()).status == 200


async def test_a_request_whose_own_time_passes_while_the_upstream_is_silent_counts_against_it(autojump_clock):
    async with policed(Upstream(silent)) as world:
        for _ in range(5):
            assert world.circuit() is State.CLOSED
            assert (await world.send(timeout_ms=1000)).error_class is ErrorClass.TIMEOUT
        assert world.circuit() is State.OPEN


# --- to connect ---


class NoAnswer(trio.abc.HostnameResolver):
    """A name server that is not there."""

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        await trio.sleep_forever()

    async def getnameinfo(self, sockaddr, flags):
        raise AssertionError


async def test_connecting_that_takes_too_long_is_tried_again_and_then_said(autojump_clock):
    trio.socket.set_custom_hostname_resolver(NoAnswer())
    limits = DeadlinePolicy(connect_timeout_ms=1500)
    async with policed(dialer=RealDialer(Proxies({})), deadline=limits) as world:
        began_at_s = trio.current_time()
        result = await world.send("POST", body="x")
        assert result.error_class is ErrorClass.TIMEOUT
        assert result.message == (
            "HTTP request failed: connecting to upstream.test:80 took longer than 1.5 s (deadline.connect_timeout_ms)"
        )
        assert result.ended_at_s - began_at_s == pytest.approx(3 * 1.5, abs=0.01)
        assert (await world.send("POST", body="x")).error_class is ErrorClass.TIMEOUT
        assert world.circuit() is State.OPEN


async def test_every_attempt_may_take_so_long_to_connect(autojump_clock):
    async with policed(Upstream(unavailable(), reset, OK), deadline=DeadlinePolicy(connect_timeout_ms=250)) as world:
        assert (await world.send()).attempts == 3
        assert set(world.dialer.timeouts_s) == {0.25}


# --- to the first byte ---


async def test_no_head_in_time_is_tried_again(autojump_clock):
    async with policed(Upstream(silent, silent, OK), deadline=FIRST_BYTE) as world:
        began_at_s = trio.current_time()
        result = await world.send()
        assert (result.status, result.attempts) == (200, 3)
        assert result.ended_at_s - began_at_s == pytest.approx(4)


@pytest.mark.parametrize(("method", "attempts"), [("GET", 3), ("POST", 1)])
async def test_no_head_in_time_is_said_after_the_last_attempt(autojump_clock, method, attempts):
    breaker = CircuitBreakerPolicy(consecutive_failures=attempts)
    async with policed(Upstream(silent), deadline=FIRST_BYTE, circuit_breaker=breaker) as world:
        result = await world.send(method, body="x")
        assert (result.error_class, result.attempts) == (ErrorClass.TIMEOUT, attempts)
        assert result.message == (
            "HTTP request failed: no response head from upstream.test:80 within 2000 ms "
            "(deadline.first_byte_timeout_ms)"
        )
        assert world.circuit() is State.OPEN


async def test_a_head_in_time_ends_that_limit(autojump_clock):
    slow = after(1.9, HALF)

    async def step(peer):
        await slow(peer)
        await trio.sleep(50)
        await peer.send(b"done")

    async with policed(Upstream(step), deadline=FIRST_BYTE) as world:
        assert (await world.send()).body == "halfdone"


async def test_interim_responses_are_no_head(autojump_clock):
    async def step(peer):
        while True:
            await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
            await trio.sleep(0.5)

    async with policed(Upstream(step), deadline=FIRST_BYTE, retry=NO_RETRIES) as world:
        assert "within 2000 ms (deadline.first_byte_timeout_ms)" in (await world.send()).message


@pytest.mark.parametrize("answers", [True, False])
async def test_a_long_upload_has_its_time_and_the_limit_begins_with_its_last_byte(autojump_clock, answers):
    size = 400_000

    async def slowly(peer):
        await peer.rest_of_body(size, lambda _: trio.sleep(1))

    # What was read last is looked at for a second, before this step begins.
    upstream = Upstream(after(0.9, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") if answers else silent)
    upstream.reads_body = slowly
    async with trio.open_nursery() as nursery:
        dialer = Dialer(nursery, {"upstream.test": upstream})
        dialer.pair = trio.testing.lockstep_stream_pair
        async with policed(dialer=dialer, deadline=FIRST_BYTE, retry=NO_RETRIES) as world:
            began_at_s = trio.current_time()
            result = await world.send("PUT", body="x" * size)
            (read_at_s,) = upstream.asked_at_s
            assert read_at_s - began_at_s > 5
            assert len(upstream.requests[0].body) == size
            if answers:
                assert result.status == 200
            else:
                assert "within 2000 ms (deadline.first_byte_timeout_ms)" in result.message
                assert result.ended_at_s - read_at_s == pytest.approx(1)
        nursery.cancel_scope.cancel()
