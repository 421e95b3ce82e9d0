"""A request over a connection that was kept: sent as soon as it is read, answered as soon as its answer is there, with
no task of its own; and whatever is not that simple is a task's from where it is."""

from __future__ import annotations

import gzip
import json
import socket

import pytest
import trio
import trio.testing
from http_upstream import Peer
from policed_session import OK, OTHER_URL, URL, Dialer, Step, Upstream, answer, policed, saying, silent, unavailable
from session_under_test import sockets
from stream_client import chunk
from wire_client import execute_request
from without_task import Tasks, in_two, kept, log, over_sockets, raw, tasks

from connector_sdk.wire import ErrorClass, ExecuteResponse
from vastar_runtime.config.policy import CircuitBreakerPolicy, DeadlinePolicy, RetryPolicy
from vastar_runtime.http import prompt_connection
from vastar_runtime.http.connection import SINGLE_WRITE_BYTES, Connection
from vastar_runtime.http.dial import Dialer as RealDialer
from vastar_runtime.http.pool import Pool
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.policies.circuit import State
from vastar_runtime.server import session

__all__ = ["log", "over_sockets", "tasks"]  # the fixtures

# --- what needs no task ---


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
async def test_over_a_kept_connection(method: str, tasks: Tasks, log) -> None:
    reply = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-A: b\r\n\r\n") if method == "HEAD" else answer(201, "fine")
    async with policed(Upstream(OK, reply)) as world:
        await kept(world, tasks)
        result = await world.send(method, body="sent" if method == "POST" else "")
        assert (result.body, result.attempts) == ("" if method == "HEAD" else "fine", 1)
        assert (tasks.count, world.upstream.connections) == (0, 1)
        assert world.upstream.requests[-1].body == (b"sent" if method == "POST" else b"")
    assert log.getvalue().count("event=request") == 2


async def test_the_first_one_has_a_task_because_it_must_connect(tasks: Tasks) -> None:
    async with policed() as world:
        await kept(world)
        assert tasks.count == 1


async def test_a_kept_connection_keeps_nothing_of_its_last_exchange() -> None:
    async with policed(Upstream(answer(200, "x" * 50_000))) as world:
        await kept(world)
        await world.send()
        (connection,) = world.pool.take_expired(float("inf"))
        assert connection._reader._data == b""
        assert connection.progress is Connection(connection.stream, "").progress
        await connection.close()


async def test_many_in_one_read(tasks: Tasks) -> None:
    """More than are begun in one turn; they come in one write, and so do their answers as far as they are there."""
    count = 3 * session.EVENTS_PER_TURN + 5
    async with policed(Upstream(OK)) as world:
        await world.client.send(*(execute_request(number, {"url": URL}) for number in range(count)))
        assert {(await world.client.receive()).request_id for _ in range(count)} == set(range(count))
        await trio.testing.wait_all_tasks_blocked()
        tasks.count = 0
        for number in range(2):  # now their connections are there
            await world.client.send(*(execute_request(number, {"url": URL}) for number in range(count)))
            assert {(await world.client.receive()).request_id for _ in range(count)} == set(range(count))
        assert tasks.count == 0


# --- what is a task's after all ---

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
EVENTS = b"data: one\n\ndata: [DONE]\n\n: more"


@pytest.mark.parametrize(
    ("step", "status", "text"),
    [
        (in_two(PLAIN, 3), 200, "fine"),
        (in_two(PLAIN, 38), 200, "fine"),
        (in_two(PLAIN, 40), 200, "fine"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"fine") + chunk(b"")), 200, "fine"),
        (raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" + PLAIN), 200, "fine"),
        (answer(404, "none"), 404, "none"),
        (answer(304), 304, ""),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine"), 200, "fine"),
        (raw(PLAIN + b"HTTP/1.1 200 OK\r\n"), 200, "fine"),
        (saying(b"HTTP/1.1 200 OK\r\n\r\nfine"), 200, "fine"),
        (saying(PLAIN), 200, "fine"),
        (
            raw(
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
                % len(gzip.compress(b"fine", mtime=0))
                + gzip.compress(b"fine", mtime=0)
            ),
            200,
            "fine",
        ),
        (
            raw(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s"
                % (len(EVENTS), EVENTS)
            ),
            200,
            "data: one\n\ndata: [DONE]\n\n",
        ),
    ],
    ids=[
        "in the head", "before the body", "in the body", "chunked", "interim", "404", "304", "closing", "surplus",
        "to the end of the connection", "whole, then closed", "gzip", "events",
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_plain_is_delivered_as_ever(step: Step, status: int, text: str) -> None:
    async with policed(Upstream(OK, step, OK)) as world:
        await kept(world)
        result = await world.send()
        assert (result.status, result.body, result.attempts) == (status, text, 1)
        assert len(world.upstream.requests) == 2
        assert (await world.send()).body == "fine"


async def test_a_redirect_is_followed(tasks: Tasks) -> None:
    async with policed(Upstream(OK, answer(302, "", "Location: /there\r\n"), OK)) as world:
        await kept(world, tasks)
        assert (await world.send()).body == "fine"
        assert [request.target for request in world.upstream.requests] == ["/path", "/path", "/there"]
        assert tasks.count == 1


async def test_what_failed_is_tried_again_and_counted(autojump_clock) -> None:
    breaker = CircuitBreakerPolicy(consecutive_failures=2)
    upstream = Upstream(OK, unavailable(), OK, unavailable(), unavailable(), unavailable())
    async with policed(upstream, circuit_breaker=breaker, retry=RetryPolicy(max_retries=1)) as world:
        await kept(world)
        assert ((result := await world.send()).status, result.attempts) == (200, 2)
        assert ((result := await world.send()).status, result.attempts) == (503, 2)
        assert world.circuit() is State.OPEN
        refused = await world.send()
        assert refused.error_class is ErrorClass.TRANSIENT
        assert "circuit open" in refused.message
        assert len(upstream.requests) == 5


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (saying(b""), "was closed before a response came"),
        (saying(b"HTTP/1.1 200 OK\r\nConte"), "was closed inside the response head"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), "cut the response body short"),
        (raw(b"What do you want?\r\n\r\n"), "does not speak HTTP/1.1"),
    ],
)
async def test_a_faulty_answer_has_its_cause(step: Step, message: str) -> None:
    async with policed(Upstream(OK, step), retry=RetryPolicy(max_retries=0)) as world:
        await kept(world)
        result = await world.send("POST", body="x")
        assert result.error_class is ErrorClass.TRANSIENT
        assert message in result.message
        assert len(world.upstream.requests) == 2


async def test_a_connection_that_dies_in_the_moment_is_replaced_for_what_may_be_repeated() -> None:
    async with policed(Upstream(OK, saying(b""), OK), retry=RetryPolicy(max_retries=0)) as world:
        await kept(world)
        assert (await world.send()).body == "fine"
        assert (len(world.upstream.requests), world.upstream.connections) == (3, 2)


async def test_a_connection_that_died_while_it_was_idle_is_not_used(tasks: Tasks) -> None:
    async def then_close(peer: Peer) -> None:
        await OK(peer)
        await peer.stream.aclose()

    async with policed(Upstream(then_close, OK)) as world:
        await kept(world, tasks)
        await trio.testing.wait_all_tasks_blocked()
        assert (await world.send("POST", body="x")).body == "fine"
        assert (world.upstream.connections, tasks.count) == (2, 1)


async def test_a_reset_has_the_kernels_word(nursery: trio.Nursery) -> None:
    """Over TCP: a Unix socket knows no reset."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(PLAIN)
        await stream.receive_some(1)  # what is left unread makes a reset of the close
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await trio.aclose_forcefully(stream)

    nursery.start_soon(trio.serve_listeners, serve, [listener])
    port = listener.socket.getsockname()[1]
    async with policed(dialer=RealDialer(Proxies({})), retry=RetryPolicy(max_retries=0)) as world:
        url = f"http://127.0.0.1:{port}/"
        assert (await world.send(url=url)).status == 200
        result = await world.send("POST", url=url, body="x")
        assert result.error_class is ErrorClass.TRANSIENT
        assert f"the connection to 127.0.0.1:{port} was reset before a response came (Connection reset by peer)" in (
            result.message
        )


# --- limits ---


async def test_a_request_that_the_kernel_takes_in_part_is_sent_to_its_end(tasks: Tasks) -> None:
    def small() -> tuple[trio.SocketStream, trio.SocketStream]:
        ours, theirs = sockets()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return ours, theirs

    text = "0123456789abcdef" * 900  # with its head a little under what is sent in one write
    async with policed(Upstream(OK)) as world:
        dialer = world.dialer
        assert isinstance(dialer, Dialer)
        dialer.pair = small
        await kept(world, tasks)
        assert (await world.send("POST", body=text)).body == "fine"
        assert world.upstream.requests[-1].body == text.encode()
        assert tasks.count == 1


async def test_a_pool_that_keeps_no_more_is_for_a_task_to_close_one(tasks: Tasks) -> None:
    gate = trio.Event()

    async def later(peer: Peer) -> None:
        await gate.wait()
        await OK(peer)

    async with policed(Upstream(OK, later, OK), pool=Pool(max_idle=1)) as world:
        await kept(world)
        slow = await world.begin()
        assert (await world.send(url=OTHER_URL)).status == 200  # whose connection takes the only place
        assert (world.pool.statistics().idle, tasks.count) == (1, 2)
        gate.set()
        assert (await world.client.receive()).request_id == slow
        assert (world.pool.statistics().idle, tasks.count) == (1, 3)
        assert (await world.send()).status == 200
        assert world.upstream.connections == 1  # the other one's was closed for it


async def test_a_large_request_has_a_task(tasks: Tasks) -> None:
    async with policed() as world:
        await kept(world, tasks)
        text = "x" * SINGLE_WRITE_BYTES
        assert (await world.send("POST", body=text)).status == 200
        assert world.upstream.requests[-1].body == text.encode()
        assert tasks.count == 1


async def test_a_head_that_must_come_in_time_is_a_tasks_matter(autojump_clock, tasks: Tasks) -> None:
    deadline = DeadlinePolicy(first_byte_timeout_ms=700)
    async with policed(Upstream(OK, silent), deadline=deadline, retry=RetryPolicy(max_retries=0)) as world:
        await kept(world, tasks)
        result = await world.send()
        assert "no response head from upstream.test:80 within 700 ms" in result.message
        assert tasks.count == 1


async def test_a_kernel_that_watches_no_more_sockets(monkeypatch: pytest.MonkeyPatch, tasks: Tasks) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with policed() as world:
        await kept(world, tasks)
        monkeypatch.setattr(prompt_connection, "watch", full)
        assert (await world.send()).body == "fine"
        assert tasks.count == 1


async def test_an_answer_in_json_has_the_same_shape_on_both_ways() -> None:
    reply = raw(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\nSet-Cookie: a\r\nContent-Length: 2\r\n\r\n\xff\xfe")
    async with policed(Upstream(reply)) as world:
        await world.begin()
        first = await world.client.receive()
        await world.begin()
        second = await world.client.receive()
        assert isinstance(first, ExecuteResponse)
        assert isinstance(second, ExecuteResponse)
        assert first.payload
        assert json.loads(first.payload) == json.loads(second.payload or b"")
        assert "body_base64" in json.loads(first.payload)
