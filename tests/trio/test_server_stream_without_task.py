"""A stream over a kept connection: passed on as it comes, with no task of its own, for as long as its client has room
and nothing is unusual."""

from __future__ import annotations

import gzip

import pytest
import trio
import trio.testing
from http_upstream import Peer
from policed_session import (
    OK,
    OTHER_URL,
    URL,
    Policed,
    Upstream,
    policed,
    saying,
    silent,
)
from stream_client import body, chunk, delivered, stream_request
from wire_client import execute_request
from without_task import CHUNKED, Tasks, kept, log, over_sockets, raw, steps, tasks

from connector_sdk.wire import (
    Cancel,
    CreditUpdate,
    ErrorClass,
    ExecuteResponse,
    ResponseEnd,
    ResponseMode,
)
from vastar_runtime.config.policy import DeadlinePolicy, RetryPolicy
from vastar_runtime.http.pool import Pool
from vastar_runtime.server import running

__all__ = ["log", "over_sockets", "tasks"]

TOKENS = [b"token %d " % number for number in range(20)]


async def streamed(world: Policed, request_id: int = 9, **fields: object):
    await world.client.send(stream_request(request_id, URL, **fields))
    return await delivered(world.client, request_id)


async def test_a_stream_of_tokens_needs_no_task(tasks: Tasks, log) -> None:
    upstream = Upstream(OK, steps(CHUNKED, *map(chunk, TOKENS), chunk(b"")), OK)
    async with policed(upstream, greets=True) as world:
        await kept(world, tasks)
        stream = await streamed(world)
        assert stream.pieces == TOKENS
        assert (stream.error_class, stream.head.attempts, stream.end.attempts) == (ErrorClass.SUCCESS, 1, 1)
        assert tasks.count == 0
        assert (await world.send()).body == "fine"
        assert (world.upstream.connections, tasks.count) == (1, 0)
    assert "bytes=170" in log.getvalue()


@pytest.mark.parametrize(
    ("parts", "data", "count"),
    [
        ([body(b"streamed")], b"streamed", 0),
        ([body(b"")], b"", 0),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", b"stre", b"amed"], b"streamed", 0),
        ([CHUNKED + chunk(b"stre") + chunk(b"amed") + chunk(b"")], b"streamed", 0),
        ([body(b"x" * 40_000)], b"x" * 40_000, 0),
        ([body(b"x" * 90_000)[:50_000], body(b"x" * 90_000)[50_000:]], b"x" * 90_000, 1),
        ([CHUNKED[:30], CHUNKED[30:] + chunk(b"streamed") + chunk(b"")], b"streamed", 1),
        ([CHUNKED + b"4\r\nst", b"re\r\n4\r\named\r\n0\r\n\r\n"], b"streamed", 0),
        ([CHUNKED, b"4;a=b\r\nstre\r\n", chunk(b"amed"), b"0\r\nTrailer: x\r\n\r\n"], b"streamed", 1),
        ([CHUNKED, b"".join(map(chunk, [b"x"] * 300)), chunk(b"")], b"x" * 300, 1),
        ([b"HTTP/1.1 404 No\r\nContent-Length: 8\r\n\r\nstreamed"], b"streamed", 1),
        ([b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 8\r\n\r\nstreamed"], b"streamed", 1),
        ([body(b"streamed") + b"surplus"], b"streamed", 1),
        (
            [
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
                chunk(gzip.compress(b"streamed", mtime=0)) + chunk(b""),
            ],
            b"streamed",
            1,
        ),
    ],
    ids=[
        "whole", "empty", "by length", "two chunks at once", "large and whole", "in bulk",
        "head in two", "chunk in two", "extensions and trailers",
        "more chunks at once than in a turn", "404", "closing", "surplus", "gzip",
    ],
)  # fmt: skip
async def test_a_stream_is_the_same_with_a_task_and_without(
    parts: list[bytes], data: bytes, count: int, tasks: Tasks
) -> None:
    async with policed(Upstream(OK, steps(*parts), OK), greets=True) as world:
        await kept(world, tasks)
        stream = await streamed(world)
        assert (stream.data, stream.error_class) == (data, ErrorClass.SUCCESS)
        assert tasks.count == count
        assert (await world.send()).body == "fine"


async def test_a_stream_whose_client_has_no_credit_waits_for_it_in_a_task(tasks: Tasks) -> None:
    gate = trio.Event()

    async def more(peer: Peer) -> None:
        await steps(CHUNKED, chunk(b"a" * 60), chunk(b"b" * 60))(peer)
        await gate.wait()
        await steps(chunk(b"c" * 60), chunk(b""))(peer)

    async with policed(Upstream(OK, more), greets=True, window_bytes=100) as world:
        await kept(world, tasks)
        await world.client.send(stream_request(9, URL))
        assert (await world.client.receive()).status_code == 200
        received = b""
        while len(received) < 100:
            received += (await world.client.receive()).data
        await trio.testing.wait_all_tasks_blocked()
        assert (received, tasks.count) == (b"a" * 60 + b"b" * 40, 1)
        await world.client.send(CreditUpdate(request_id=9, credit_delta=100))
        gate.set()
        rest = await delivered(world.client, 9, is_begun=True)
        assert rest.data == b"b" * 20 + b"c" * 60


async def test_a_stream_that_a_task_ended_leaves_its_connection_to_nobody(tasks: Tasks) -> None:
    """The pool was full in the moment of its end; then the upstream closes the connection."""
    gate = trio.Event()
    calls = 0

    async def later(peer: Peer) -> None:
        await steps(CHUNKED, chunk(b"token"))(peer)
        await gate.wait()
        await steps(chunk(b""))(peer)
        await peer.stream.aclose()

    async with policed(Upstream(OK, later, OK), pool=Pool(max_idle=1), greets=True) as world:
        await kept(world)
        await world.client.send(stream_request(9, URL))
        await world.client.receive()
        await world.client.receive()
        assert (await world.send(url=OTHER_URL)).status == 200
        gate.set()
        assert isinstance(await world.client.receive(), ResponseEnd)
        for _ in range(100):
            calls += 1
            await trio.testing.wait_all_tasks_blocked()
        (connection,) = world.pool.take_expired(float("inf"))
        assert connection._watch is None or connection._watch.call is None
        await connection.close()


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_an_encoding_that_an_empty_header_stands_before(is_streamed: bool) -> None:
    packed = gzip.compress(b"fine", mtime=0)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding:\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    async with policed(Upstream(raw(head % len(packed) + packed)), greets=True) as world:
        first = await world.send()
        if is_streamed:
            assert (await streamed(world)).data.decode() == first.body == "fine"
        else:
            assert (await world.send()).body == first.body == "fine"


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_nobody_is_called_for_what_a_task_will_read(
    is_streamed: bool, monkeypatch: pytest.MonkeyPatch, tasks: Tasks
) -> None:
    """The upstream goes on sending while the stream's client has no credit, and after half an answer."""
    calls = 0
    on_answer = running.RunningRequest._on_answer

    def counted(request: running.RunningRequest) -> None:
        nonlocal calls
        calls += 1
        on_answer(request)

    monkeypatch.setattr(running.RunningRequest, "_on_answer", counted)

    async def more(peer: Peer) -> None:
        await steps(CHUNKED, chunk(b"a" * 60), chunk(b"b" * 60), *(chunk(b"c" * 60) for _ in range(20)))(peer)
        await silent(peer)

    async with policed(Upstream(OK, more), greets=True, window_bytes=100) as world:
        await kept(world, tasks)
        mode = ResponseMode.STREAM if is_streamed else ResponseMode.BUFFERED
        await world.client.send(execute_request(9, {"url": URL}, response_mode=mode))
        for _ in range(100):
            await trio.testing.wait_all_tasks_blocked()
        assert (tasks.count, calls < 8) == (1, True)
        await world.client.send(Cancel(request_id=9))
        while not isinstance(message := await world.client.receive(), ResponseEnd | ExecuteResponse):
            pass
        assert message.error_class is ErrorClass.CANCELLED


async def test_more_header_fields_than_any_client_takes() -> None:
    many = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"a:b\r\n" * 5000 + b"\r\n"
    async with policed(Upstream(OK, raw(many)), greets=True, retry=RetryPolicy(max_retries=0)) as world:
        await kept(world)
        assert "sent 5001 header fields, more than 4096" in (await world.send()).message


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([CHUNKED, chunk(b"half")], "cut the response body short"),
        ([CHUNKED + b"9\r\nhalf"], "cut the response body short"),
        ([CHUNKED, chunk(b"half"), b"x\r\n"], "does not speak HTTP/1.1"),
        ([CHUNKED, b"4\r\nhalfXX"], "does not speak HTTP/1.1"),
    ],
)
async def test_a_stream_that_breaks_off_has_its_cause(parts: list[bytes], message: str) -> None:
    async def step(peer: Peer) -> None:
        await steps(*parts)(peer)
        await peer.stream.aclose()

    async with policed(Upstream(OK, step, OK), greets=True) as world:
        await kept(world)
        stream = await streamed(world)
        assert (stream.data, stream.error_class) == (b"half", ErrorClass.TRANSIENT)
        assert message in stream.message
        assert (await world.send()).body == "fine"


async def test_a_stream_whose_connection_dies_before_the_head_is_asked_for_once_more() -> None:
    async with policed(Upstream(OK, saying(b""), steps(body(b"fine"))), greets=True) as world:
        await kept(world)
        stream = await streamed(world)
        assert (stream.data, stream.head.attempts) == (b"fine", 2)


@pytest.mark.parametrize("parts", [(), (CHUNKED,), (CHUNKED, chunk(b"token"))], ids=["no head", "head", "token"])
@pytest.mark.parametrize("end", ["cancel", "deadline", "client"])
async def test_a_stream_that_is_ended_in_any_state(parts: tuple[bytes, ...], end: str, autojump_clock, log) -> None:
    async def step(peer: Peer) -> None:
        await steps(*parts)(peer)
        await silent(peer)

    async with policed(Upstream(OK, step), greets=True) as world:
        await kept(world)
        await world.client.send(stream_request(9, URL, parameters={"timeout_ms": 3000}))
        for _ in parts:
            await world.client.receive()
        await trio.testing.wait_all_tasks_blocked()
        assert world.pool.statistics().active == 1
        if end == "client":
            await world.client.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
        else:
            if end == "cancel":
                await world.client.send(Cancel(request_id=9))
            last = await world.client.receive()
            assert isinstance(last, ResponseEnd)
            assert last.error_class is (ErrorClass.CANCELLED if end == "cancel" else ErrorClass.TIMEOUT)
        assert (world.pool.statistics().active, world.pool.statistics().idle) == (0, 0)


async def test_a_stream_between_whose_pieces_too_long_a_time_goes_by(autojump_clock) -> None:
    async def step(peer: Peer) -> None:
        await steps(CHUNKED, chunk(b"one"))(peer)
        await trio.sleep(1.9)
        await steps(chunk(b"two"))(peer)
        await silent(peer)

    deadline = DeadlinePolicy(between_bytes_timeout_ms=2000)
    async with policed(Upstream(OK, step), greets=True, deadline=deadline) as world:
        await kept(world)
        stream = await streamed(world)
        assert (stream.data, stream.error_class) == (b"onetwo", ErrorClass.TIMEOUT)
        assert "nothing moved for 2 s (deadline.between_bytes_timeout_ms)" in stream.message


@pytest.mark.parametrize("where", ["try_begin", "try_pass_on"])
async def test_an_internal_error_ends_a_stream(where: str, monkeypatch: pytest.MonkeyPatch, log) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with policed(greets=True) as world:
        await kept(world)
        with monkeypatch.context() as patched:
            patched.setattr(f"vastar_runtime.connectors.http.HttpCall.{where}", fail)
            stream = await streamed(world)
        assert (stream.error_class, stream.head) == (ErrorClass.PERMANENT, None)
        world.nothing_is_held()
        assert (await world.send()).body == "fine"
    assert "ZeroDivisionError" in log.getvalue()
