"""Chat streams of AsyncOpenAIConnector: as they come, to their end, and every way to leave them."""

from __future__ import annotations

import contextlib
import gc
import json
import threading
from typing import Any

import anyio
import pytest
from scripted_daemon import Peer, ScriptedDaemon, socket_path
from test_async_openai import COMPLETION, HELLO, PATIENCE_S, USAGE, Run, run

import connector_sdk.async_openai
from connector_sdk import APIError, ConnectorException, StreamError
from connector_sdk.openai import AsyncOpenAIConnector, ChatChunk, ChatDelta, Usage
from connector_sdk.wire import ErrorClass, ExecuteRequest

__all__ = ["run", "socket_path"]

DONE = b"data: [DONE]\n\n"


def _event(**chunk: Any) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _text(text: str) -> bytes:
    return _event(choices=[{"delta": {"content": text}}])


def _begin(peer: Peer, request: ExecuteRequest, *pieces: bytes) -> None:
    peer.head(request, 200, ("Content-Type", "text/event-stream"))
    for piece in pieces:
        peer.chunk(request, piece)


def _two_words_and_no_end(peer: Peer, request: ExecuteRequest) -> None:
    _begin(peer, request, _text("one") + _text("two"))


async def _all_cancelled(connector: AsyncOpenAIConnector, daemon: ScriptedDaemon, *streams: int) -> None:
    """Wait until exactly these requests are cancelled; their connection is as good as before."""
    daemon.script = lambda peer, request: peer.answer(request, body=COMPLETION)
    while len(daemon.cancelled) < len(streams):
        assert await connector.chat_completion(HELLO) == "Hellö"
    assert sorted(daemon.cancelled) == [daemon.requests[number].request_id for number in streams]
    assert len(daemon.peers) == 1


def test_text_as_it_arrives(run: Run, socket_path: str) -> None:
    """The API says the second word only once the first has been read."""
    is_read = threading.Event()

    def script(peer: Peer, request: ExecuteRequest) -> None:
        _begin(peer, request, _text("") + _text("one"))
        assert is_read.wait(PATIENCE_S)
        peer.chunk(request, _event(choices=[], usage=USAGE) + _text("two") + DONE)
        peer.end(request.request_id)

    async def story(connector: AsyncOpenAIConnector) -> None:
        texts = connector.chat_completion_stream(HELLO)
        assert await anext(texts) == "one"
        is_read.set()
        assert [text async for text in texts] == ["two"]
        assert connector.last_usage == Usage(1, 2, 3)
        assert [text async for text in texts] == []

    with ScriptedDaemon(script, socket_path):
        run(story)


def test_typed_chunks_cut_anywhere(run: Run, socket_path: str) -> None:
    events = _event(id="i", model="m", choices=[{"delta": {"role": "assistant"}}]) + _text("é") + DONE

    def script(peer: Peer, request: ExecuteRequest) -> None:
        _begin(peer, request, *(events[at : at + 1] for at in range(len(events))))
        peer.end(request.request_id)

    async def story(connector: AsyncOpenAIConnector) -> None:
        async with connector.stream_chunks(HELLO) as chunks:
            assert [chunk async for chunk in chunks] == [
                ChatChunk("i", "m", ChatDelta("assistant")),
                ChatChunk(delta=ChatDelta(content="é")),
            ]
        assert connector.last_usage is None

    with ScriptedDaemon(script, socket_path):
        run(story)


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_server_that_knows_no_streams_gives_one_chunk(run: Run, socket_path: str, is_legacy: bool) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, headers={"content-type": "application/json"}, body=COMPLETION)

    async def story(connector: AsyncOpenAIConnector) -> None:
        chunk = ChatChunk(delta=ChatDelta("assistant", "Hellö"), usage=Usage(1, 2, 3), is_whole=True)
        assert [chunk async for chunk in connector.stream_chunks(HELLO)] == [chunk]
        assert connector.last_usage == Usage(1, 2, 3)

    with ScriptedDaemon(script, socket_path, is_legacy=is_legacy):
        run(story)


@pytest.mark.parametrize(
    ("rest", "error"),
    [
        (_event(error={"message": "out of luck"}), APIError),
        (b"data: {", StreamError),
        (None, ConnectorException),
    ],
)
def test_a_stream_that_fails_gives_what_came_before(
    run: Run, socket_path: str, rest: bytes | None, error: type[ConnectorException]
) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        _begin(peer, request, _text("one") + (rest or b""))
        peer.end(request.request_id, *(() if rest else (ErrorClass.TRANSIENT, "the upstream stopped")))

    async def story(connector: AsyncOpenAIConnector) -> None:
        texts = connector.chat_completion_stream(HELLO)
        assert await anext(texts) == "one"
        with pytest.raises(error) as e:
            await anext(texts)
        assert type(e.value) is error
        with pytest.raises(StopAsyncIteration):
            await anext(texts)

    with ScriptedDaemon(script, socket_path):
        run(story)


def test_every_way_to_leave_a_stream_cancels_it(run: Run, socket_path: str) -> None:
    async def story(connector: AsyncOpenAIConnector) -> None:
        closed = connector.chat_completion_stream(HELLO)
        assert await anext(closed) == "one"
        await closed.aclose()
        await closed.aclose()
        async with contextlib.aclosing(connector.chat_completion_stream(HELLO)) as texts:
            async for _ in texts:
                break
        async with connector.stream_chunks(HELLO) as chunks:
            await anext(chunks)
        for stream in (closed, texts, chunks):
            assert [item async for item in stream] == []
        await _all_cancelled(connector, daemon, 0, 1, 2)

    with ScriptedDaemon(_two_words_and_no_end, socket_path) as daemon:
        run(story)


def test_a_loop_that_is_left_without_a_word(run: Run, socket_path: str) -> None:
    """Nothing holds the iterator any more."""

    async def story(connector: AsyncOpenAIConnector) -> None:
        async for _ in connector.stream_chunks(HELLO):
            break
        gc.collect()
        await _all_cancelled(connector, daemon, 0)

    with ScriptedDaemon(_two_words_and_no_end, socket_path) as daemon:
        run(story)


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_task_that_is_cancelled_cancels_its_stream_and_no_other(run: Run, socket_path: str, has_begun: bool) -> None:
    is_asked = threading.Event()

    def script(peer: Peer, request: ExecuteRequest) -> None:
        if len(daemon.requests) == 1 or has_begun:
            _two_words_and_no_end(peer, request)
        if len(daemon.requests) == 2:
            is_asked.set()

    async def story(connector: AsyncOpenAIConnector) -> None:
        async def read() -> None:
            with leaving:
                async for _ in connector.chat_completion_stream(HELLO):
                    pass

        leaving = anyio.CancelScope()
        other = connector.chat_completion_stream(HELLO)
        assert await anext(other) == "one"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            assert await anyio.to_thread.run_sync(is_asked.wait, PATIENCE_S)
            await anyio.wait_all_tasks_blocked()
            leaving.cancel()
        await _all_cancelled(connector, daemon, 1)
        assert await anext(other) == "two"
        await other.aclose()

    with ScriptedDaemon(script, socket_path) as daemon:
        run(story)


def test_another_task_stops_the_stream(run: Run, socket_path: str) -> None:
    """A stop button: the reader's loop ends at once, as after the last word."""

    async def story(connector: AsyncOpenAIConnector) -> None:
        async def read() -> None:
            said.extend([text async for text in texts])

        said: list[str] = []
        texts = connector.chat_completion_stream(HELLO)
        assert await anext(texts) == "one"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await anext(texts)
            await texts.aclose()
        assert said == ["two"]
        await _all_cancelled(connector, daemon, 0)

    with ScriptedDaemon(_two_words_and_no_end, socket_path) as daemon:
        run(story)


def test_another_task_stops_the_stream_before_its_first_word(run: Run, socket_path: str) -> None:
    is_asked = threading.Event()

    async def story(connector: AsyncOpenAIConnector) -> None:
        async def read() -> None:
            assert [text async for text in texts] == []

        texts = connector.chat_completion_stream(HELLO)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            assert await anyio.to_thread.run_sync(is_asked.wait, PATIENCE_S)
            await texts.aclose()
        await _all_cancelled(connector, daemon, 0)

    with ScriptedDaemon(lambda peer, request: is_asked.set(), socket_path) as daemon:
        run(story)


def test_the_end_that_follows_the_last_chunk_is_waited_for(
    run: Run, socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel would cost the connection to the API."""
    monkeypatch.setattr(connector_sdk.async_openai, "END_GRACE_MS", PATIENCE_S * 1000)
    may_end = threading.Event()

    def script(peer: Peer, request: ExecuteRequest) -> None:
        _begin(peer, request, _text("all") + DONE)
        assert may_end.wait(PATIENCE_S)
        peer.end(request.request_id)

    async def story(connector: AsyncOpenAIConnector) -> None:
        async def read_on() -> None:
            assert [text async for text in texts] == []
            is_over.set()

        is_over = anyio.Event()
        texts = connector.chat_completion_stream(HELLO)
        assert await anext(texts) == "all"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_on)
            await anyio.wait_all_tasks_blocked()
            assert not is_over.is_set()
            may_end.set()
        daemon.script = lambda peer, request: peer.answer(request, body=COMPLETION)
        await connector.chat_completion(HELLO)  # a cancel would have come before it

    with ScriptedDaemon(script, socket_path) as daemon:
        run(story)
    assert daemon.cancelled == []


@pytest.mark.parametrize(
    ("limit", "value", "rest"), [("END_GRACE_MS", 10, b""), ("MAX_REST_BYTES", 10, b": what nobody asked for\n\n")]
)
def test_an_api_that_does_not_end_after_done(
    run: Run, socket_path: str, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, rest: bytes
) -> None:
    """The completion is whole; whoever asked for it does not wait for the timeout."""
    monkeypatch.setattr(connector_sdk.async_openai, "END_GRACE_MS", 10 * PATIENCE_S * 1000)
    monkeypatch.setattr(connector_sdk.async_openai, limit, value)

    def script(peer: Peer, request: ExecuteRequest) -> None:
        _begin(peer, request, _text("all") + DONE, rest)

    async def story(connector: AsyncOpenAIConnector) -> None:
        assert [text async for text in connector.chat_completion_stream(HELLO)] == ["all"]
        await _all_cancelled(connector, daemon, 0)

    with ScriptedDaemon(script, socket_path) as daemon:
        run(story)


def test_of_two_streams_the_usage_is_that_of_the_one_that_ended_last(run: Run, socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        if len(daemon.requests) == 2:
            for number, waiting in enumerate(daemon.requests):
                usage = {"prompt_tokens": number + 1}
                _begin(peer, waiting, _text("a"), _event(choices=[], usage=usage), DONE)
                peer.end(waiting.request_id)

    async def story(connector: AsyncOpenAIConnector) -> None:
        async def begin(stream: Any) -> None:
            await anext(stream)

        streams = [connector.chat_completion_stream(HELLO) for _ in range(2)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(begin, streams[0])
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(begin, streams[1])
        seen = []
        for stream in reversed(streams):
            assert [text async for text in stream] == []
            seen.append(connector.last_usage)
        assert seen == [Usage(2), Usage(1)]

    with ScriptedDaemon(script, socket_path) as daemon:
        run(story)
