"""What a session's log and answers say of queues, attempts and circuits; and uploads that are redirected, through it
all."""

import re

import pytest
import trio
import trio.testing
from policed_session import HOST, OK, OTHER_URL, URL, Upstream, answer, policed, reset, silent, streams, unavailable
from session_under_test import captured_log
from stream_client import delivered, end, stream_request

from connector_sdk.wire import Cancel, ErrorClass
from vastar_runtime.config.policy import CircuitBreakerPolicy, ConcurrencyPolicy, DeadlinePolicy, RetryPolicy
from vastar_runtime.errors import UpstreamError
from vastar_runtime.policies.circuit import State

__all__ = ["streams"]

NO_RETRIES = RetryPolicy(max_retries=0)
ONE = ConcurrencyPolicy(max_per_tenant=1)


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


def lines(log, event="request"):
    return [line for line in log.getvalue().splitlines() if re.search(rf'event="?{event}\b', line)]


def after(seconds, step=OK):
    async def later(peer):
        await trio.sleep(seconds)
        await step(peer)

    return later


def moved_to(url, status=307):
    return answer(status, "moved", f"Location: {url}\r\n")


# --- the request's line in the log ---


async def test_the_line_says_how_long_a_request_waited_for_its_turn_if_it_did(autojump_clock, log):
    async with policed(Upstream(after(3)), concurrency=ONE) as world:
        for _ in range(3):
            await world.begin(timeout_ms=60_000)
            await trio.sleep(0.5)
        for _ in range(3):
            assert (await world.result()).status == 200
    waited = [[int(ms) for ms in re.findall(r"\bqueued_ms=(\d+)", line)] for line in lines(log)]
    assert waited == [[], [pytest.approx(2500, abs=2)], [pytest.approx(5000, abs=2)]]


@pytest.mark.parametrize("how", ["time", "cancelled by the client"])
async def test_the_line_of_a_request_that_never_had_its_turn_says_it_too(autojump_clock, log, how):
    async with policed(Upstream(after(3)), concurrency=ONE, greets=True) as world:
        await world.client.send(stream_request(1, URL, parameters={"timeout_ms": 60_000}))
        await trio.sleep(0.5)
        timeout_ms = 1000 if how == "time" else 60_000
        await world.client.send(stream_request(2, URL, parameters={"timeout_ms": timeout_ms}))
        await trio.sleep(1)
        if how != "time":
            await world.client.send(Cancel(request_id=2))
        assert (await end(world.client, 2)).error_class.name == ("TIMEOUT" if how == "time" else "CANCELLED")
        assert (await delivered(world.client, 1)).data == b"fine"
    (line, other) = lines(log)
    assert re.search(r"\bqueued_ms=(999|100[01])\b", line)
    assert "attempts=" not in line
    assert "queued_ms=" not in other


async def test_the_line_says_the_attempts_if_there_were_several(autojump_clock, log):
    async with policed(Upstream(unavailable(), reset, OK)) as world:
        assert (await world.send()).attempts == 3
        assert (await world.send()).attempts == 1
    several, one = lines(log)
    assert "attempts=3" in several
    assert "attempts=" not in one


async def test_a_refused_connection_is_an_attempt(autojump_clock, log):
    async with policed(Upstream(refuses=2)) as world:
        assert (await world.send()).attempts == 3
    async with policed(Upstream(refuses=100)) as world:
        result = await world.send("POST", body="x")
        assert (result.error_class, result.attempts) == (ErrorClass.TRANSIENT, 3)
        for _ in range(2):
            await world.send()
        assert (await world.send()).attempts == 0, "the circuit is open"
    assert "attempts=3" in lines(log)[0]


async def test_a_circuit_s_opening_and_closing_are_in_the_log(autojump_clock, log):
    async with policed(Upstream(*[unavailable()] * 5, OK), retry=NO_RETRIES) as world:
        for _ in range(7):
            await world.send(url=URL + "?key=s3cr3t", headers={"Authorization": "Bearer s3cr3t"})
        (opened,) = lines(log, "circuit")
        assert "level=warning" in opened
        assert f'event="circuit opened" origin=http://{HOST} tenant=' in opened
        assert opened.endswith('failures=5 next_probe_in_ms=30000 error="status 503"')
        await trio.sleep(30)
        assert (await world.send()).status == 200
        closed = lines(log, "circuit")[1]
        assert "level=info" in closed
        assert f'event="circuit closed" origin=http://{HOST} tenant=' in closed
    assert len(lines(log, "circuit")) == 2
    assert "s3cr3t" not in log.getvalue()


# --- whose time it was ---


async def test_six_requests_that_queue_behind_a_slow_one_do_not_open_the_circuit(autojump_clock, log):
    breaker = CircuitBreakerPolicy(consecutive_failures=2)
    async with policed(Upstream(after(2)), concurrency=ONE, retry=NO_RETRIES, circuit_breaker=breaker) as world:
        await world.begin(timeout_ms=400)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(6):
            await world.begin(timeout_ms=700)
        results = [await world.result() for _ in range(7)]
        assert {result.error_class for result in results} == {ErrorClass.TIMEOUT}
        assert sorted(result.attempts for result in results)[-2:] == [1, 1], "a second one was sent"
        assert world.circuit() is State.CLOSED


async def test_six_requests_that_wait_on_a_hung_upstream_open_it(autojump_clock, log):
    async with policed(Upstream(silent), retry=NO_RETRIES) as world:
        for _ in range(6):
            await world.begin(timeout_ms=700)
        for _ in range(6):
            assert (await world.result()).error_class is ErrorClass.TIMEOUT
        assert world.circuit() is State.OPEN


async def test_time_spent_on_connecting_is_the_upstream_s(autojump_clock, log):
    async with policed(retry=NO_RETRIES) as world:

        async def hangs(origin, timeout_s, guard):
            await trio.sleep(timeout_s)
            raise UpstreamError("not in a test of 700 ms")

        world.dialer.dial = hangs
        for _ in range(5):
            result = await world.send(timeout_ms=700)
            assert (result.error_class, result.attempts) == (ErrorClass.TIMEOUT, 1)
            assert result.message.endswith(f"while connecting to {HOST}:80")
        assert world.circuit() is State.OPEN


# --- one place, written in two ways ---


async def test_a_host_with_and_without_the_root_s_dot_has_one_circuit(autojump_clock, log):
    dotted = f"http://{HOST}./path"
    async with policed(Upstream(unavailable(), reset), retry=NO_RETRIES) as world:
        for number in range(5):
            await world.send(url=URL if number % 2 else dotted)
        assert world.circuit() is State.CLOSED, "resets do not count"
    policy = CircuitBreakerPolicy(consecutive_failures=4)
    async with policed(Upstream(unavailable()), retry=NO_RETRIES, circuit_breaker=policy) as world:
        for number in range(4):
            assert (await world.send(url=URL if number % 2 else dotted)).status == 503
        for url in (URL, dotted):
            refused = await world.send(url=url)
            assert refused.message.startswith(f"circuit open for http://{HOST}, ")
        assert world.upstream.requests[0].header("host") == f"{HOST}."


# --- resets ---


async def test_an_open_circuit_sends_an_upstream_that_resets_at_most_one_request_an_opening(autojump_clock, log):
    closing = answer(503, headers="Connection: close\r\n")  # or a request that finds its connection dead goes out twice
    async with policed(Upstream(*[closing] * 5, reset)) as world:
        for _ in range(5):
            await world.send("POST", body="x")
        for _ in range(29):
            await trio.sleep(1)
            assert (await world.send()).attempts == 0
        await trio.sleep(1)
        assert (await world.send()).attempts == 1
        for _ in range(59):
            await trio.sleep(1)
            assert (await world.send()).attempts == 0
        assert len(world.upstream.requests) == 6


# --- redirected uploads ---


@pytest.mark.parametrize("size", [20_000, 2_000_000])
@pytest.mark.parametrize("status", [307, 308])
async def test_a_large_upload_is_redirected(autojump_clock, log, size, status):
    async with policed(Upstream(moved_to(OTHER_URL, status)), Upstream(OK)) as world:
        result = await world.send("POST", body="x" * size)
        assert (result.status, result.attempts) == (200, 2)
        assert [len(request.body) for request in world.other.requests] == [size]
    assert lines(log, "internal") == []


@pytest.mark.parametrize("size", [20_000, 2_000_000])
async def test_a_large_upload_that_is_redirected_before_it_has_been_read(autojump_clock, log, size):
    async def read_nothing(peer):
        """The answer comes first."""

    first = Upstream(moved_to(OTHER_URL))
    first.reads_body = read_nothing
    async with policed(first, Upstream(unavailable(), OK), deadline=DeadlinePolicy(max_duration_ms=5000)) as world:
        result = await world.send("PUT", body="x" * size)
        assert (result.status, result.attempts) == (200, 3)
        assert [len(request.body) for request in world.other.requests] == [size, size]
    assert lines(log, "internal") == []


async def test_a_303_after_a_large_upload_becomes_a_get(autojump_clock, log):
    async with policed(Upstream(moved_to(OTHER_URL, 303)), Upstream(OK)) as world:
        assert (await world.send("POST", body="x" * 2_000_000)).status == 200
        assert [(request.method, request.body) for request in world.other.requests] == [("GET", b"")]


@pytest.mark.parametrize(("key", "attempts"), [("8e03978e", 3), ("", 1)])
async def test_an_idempotency_key_vouches_also_where_the_request_was_redirected_to(autojump_clock, log, key, attempts):
    async with policed(Upstream(moved_to(OTHER_URL)), Upstream(unavailable())) as world:
        result = await world.send("POST", body="x", headers={"Idempotency-Key": key})
        assert (result.status, len(world.other.requests)) == (503, attempts)
        assert world.other.requests[0].header("idempotency-key") == key
