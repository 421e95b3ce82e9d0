"""What is tried again through a whole session, what is not, and what the client gets of it."""

from email.utils import formatdate

import pytest
import trio
from policed_session import (
    OK,
    UNIX_S,
    URL,
    Upstream,
    answer,
    policed,
    reset,
    saying,
    streams,
    unavailable,
)
from session_under_test import captured_log
from stream_client import chunk, delivered, stream_request

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import CircuitBreakerPolicy, RetryPolicy

__all__ = ["streams"]

FAILING = (502, 503, 504, 429)
KEY = {"headers": {"Idempotency-Key": "8e03978e"}}


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
async def test_a_refused_connection_is_tried_again_for_every_method(autojump_clock, method):
    async with policed(Upstream(OK, refuses=2)) as world:
        result = await world.send(method)
        assert (result.status, result.body) == (200, "fine")
        assert world.upstream.methods == [method]
        assert world.upstream.refused == 2
        assert result.attempts == 3


async def test_a_connection_refused_three_times_is_an_error(autojump_clock):
    async with policed(Upstream(refuses=9)) as world:
        result = await world.send("POST", body="x")
        assert (result.error_class, result.attempts, world.upstream.refused) == (ErrorClass.TRANSIENT, 3, 3)
        assert world.upstream.requests == []
        assert result.message == "HTTP request failed: cannot connect to upstream.test:80: Connection refused"


@pytest.mark.parametrize(
    ("method", "fields", "requests"),
    [
        ("GET", {}, 2),
        ("HEAD", {}, 2),
        ("PUT", {"body": "x"}, 2),
        ("DELETE", {}, 2),
        ("POST", {"body": "x"}, 1),
        ("PATCH", {"body": "x"}, 1),
        ("POST", {"body": "x", **KEY}, 2),
        ("PATCH", {"body": "x", **KEY}, 2),
    ],
)
@pytest.mark.parametrize("lost", [reset, saying(b"HTTP/1.1 20")], ids=["reset", "inside the head"])
async def test_a_request_that_was_written_is_sent_again_only_if_that_does_no_harm(
    autojump_clock, method, fields, requests, lost
):
    async with policed(Upstream(lost, answer(204)), circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1)) as w:
        result = await w.send(method, **fields)
        assert w.upstream.methods == [method] * requests
        assert result.attempts == requests
        assert len({(request.target, str(request.headers), request.body) for request in w.upstream.requests}) == 1
        if requests == 2:
            assert result.status == 204
        else:
            assert result.error_class is ErrorClass.TRANSIENT
            assert "the connection to upstream.test:80 was closed" in result.message
        assert w.pipeline.statistics().circuit_breaker.opened == 0


@pytest.mark.parametrize("status", FAILING)
@pytest.mark.parametrize(("method", "attempts"), [("GET", 3), ("POST", 1)])
async def test_the_last_of_three_answers_is_delivered_as_it_came(autojump_clock, status, method, attempts):
    steps = [answer(status, f"the {n}.", f"X-Number: {n}\r\n") for n in (1, 2, 3, 4)]
    async with policed(Upstream(*steps)) as world:
        result = await world.send(method, body="x")
        assert (result.status, result.body, result.attempts) == (status, f"the {attempts}.", attempts)
        assert result.headers["x-number"] == str(attempts)
        assert result.headers["content-length"] == "6"
        assert len(world.upstream.requests) == attempts
        assert world.upstream.connections == 1  # their bodies were read to the end, and it was kept
        assert world.pool.statistics().idle == 1


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 404, 408, 500, 501, 505])
async def test_other_answers_are_delivered_at_once(autojump_clock, status):
    async with policed(Upstream(answer(status), OK)) as world:
        result = await world.send()
        assert (result.status, result.attempts, len(world.upstream.requests)) == (status, 1, 1)


async def test_an_answer_that_is_no_http_is_not_asked_for_again(autojump_clock):
    async with policed(Upstream(saying(b"garbage\r\n\r\n"), OK)) as world:
        result = await world.send()
        assert (result.error_class, result.attempts) == (ErrorClass.TRANSIENT, 1)
        assert "does not speak HTTP/1.1" in result.message
        assert len(world.upstream.requests) == 1


async def test_the_pauses_double_with_full_jitter(autojump_clock):
    async with policed(Upstream(unavailable(), unavailable(), OK), random=lambda: 0.5) as world:
        assert (await world.send()).attempts == 3
        first, second, third = world.upstream.asked_at_s
        assert (second - first, third - second) == (pytest.approx(0.05), pytest.approx(0.1))


# --- Retry-After ---


@pytest.mark.parametrize("status", FAILING)
@pytest.mark.parametrize("what", ["seconds", "date"])
async def test_retry_after_is_waited_for(autojump_clock, status, what):
    value = "3" if what == "seconds" else formatdate(UNIX_S + trio.current_time() + 3, usegmt=True)
    async with policed(Upstream(unavailable(value, status=status), OK), random=lambda: 0.5) as world:
        assert (await world.send()).attempts == 2
        first, second = world.upstream.asked_at_s
        # A date is of whole seconds, and has lost the part of one that had passed.
        assert second - first == pytest.approx(3.05, abs=0.001 if what == "seconds" else 1)


@pytest.mark.parametrize(
    "value",
    ["11", "3600", "1000000000", "99999999999999999999999", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"],
    ids=lambda value: value[:30],
)
async def test_a_retry_after_beyond_the_limit_goes_to_the_client_at_once(autojump_clock, value):
    async with policed(Upstream(unavailable(value, "later", 429), OK)) as world:
        began_at_s = trio.current_time()
        result = await world.send()
        assert (result.status, result.body, result.attempts) == (429, "later", 1)
        assert result.headers["retry-after"] == value
        assert result.ended_at_s == began_at_s


@pytest.mark.parametrize(
    "value",
    [
        *("-1", "1e9", "0", "", "soon", "1.5", "\u0661", "nan", "inf", "0x10", "1, 2", "\xff"),
        *("Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 01 Jan 0000 00:00:00 GMT", "Wed, 30 Feb 2028 00:00:00 GMT"),
        "Mon, 99 Foo 2026 99:99:99 GMT",
    ],
    ids=ascii,
)
async def test_a_retry_after_that_says_nothing_changes_nothing(autojump_clock, value):
    raw = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: %s\r\n\r\n" % value.encode()

    async def step(peer):
        await peer.send(raw)

    async with policed(Upstream(step, OK), random=lambda: 0.5) as world:
        began_at_s = trio.current_time()
        result = await world.send()
        assert (result.status, result.attempts) == (200, 2)
        assert result.ended_at_s - began_at_s == pytest.approx(0.05)


async def test_a_pause_that_the_client_s_time_does_not_allow_is_not_begun(autojump_clock):
    async with policed(Upstream(unavailable(5, "no"), OK)) as world:
        result = await world.send(timeout_ms=4000)
        assert (result.status, result.body, result.attempts) == (503, "no", 1)
        deadline_at_ms = int((UNIX_S + trio.current_time()) * 1000) + 4000
        world.upstream.steps[1] = unavailable(5, "no")
        result = await world.send(deadline_at_ms=deadline_at_ms)
        assert (result.status, result.body, result.attempts) == (503, "no", 1)


# --- streams ---


async def test_a_stream_is_tried_again_before_its_head_and_tells_how_often(autojump_clock):
    async with policed(Upstream(unavailable(), reset, OK), greets=True) as world:
        await world.client.send(stream_request(1, URL))
        stream = await delivered(world.client)
        assert (stream.head.status_code, stream.head.attempts, stream.end.attempts) == (200, 3, 3)
        assert stream.data == b"fine"


async def test_a_stream_that_was_cut_is_not_begun_again(autojump_clock):
    cut = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    async with policed(Upstream(cut, OK), greets=True) as world:
        await world.client.send(stream_request(1, URL))
        stream = await delivered(world.client)
        assert (stream.data, stream.error_class, stream.end.attempts) == (b"half", ErrorClass.TRANSIENT, 1)
        assert "cut the response body short" in stream.message
        assert len(world.upstream.requests) == 1


async def test_a_buffered_answer_that_was_cut_is_not_asked_for_again_either(autojump_clock):
    cut = saying(b"HTTP/1.1 503 No\r\nContent-Length: 100\r\n\r\nhalf")
    async with policed(Upstream(cut), retry=RetryPolicy(max_retries=0)) as world:
        result = await world.send()
        assert (result.error_class, result.attempts, len(world.upstream.requests)) == (ErrorClass.TRANSIENT, 1, 1)


async def test_a_failed_answer_whose_body_never_ends_does_not_hold_up_the_next_attempt(autojump_clock):
    async def endless(peer):
        await peer.send(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x"))
        await peer.gone()

    async with policed(Upstream(endless, OK)) as world:
        result = await world.send()
        assert (result.status, result.attempts, world.upstream.connections) == (200, 2, 2)
        assert world.upstream.asked_at_s[1] - world.upstream.asked_at_s[0] <= 1.1
