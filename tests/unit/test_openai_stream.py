"""Chat streams through the connector: text as it arrives, typed chunks, usage, and leaving early."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, say_hello, socket_path

import connector_sdk.chat_answer
import connector_sdk.openai
from connector_sdk import ConnectorException, ErrorClass
from connector_sdk.openai import (
    ChatChunk,
    ChatCompletionRequest,
    ChatDelta,
    Message,
    OpenAIConnector,
    ToolCallDelta,
    Usage,
)
from connector_sdk.wire import ExecuteRequest

__all__ = ["socket_path"]

HELLO = ChatCompletionRequest("m", [Message("user", "hi")])
PATIENCE_S = 20
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def _event(**chunk: Any) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _text(text: str) -> bytes:
    return _event(choices=[{"delta": {"content": text}}])


def _stream(*pieces: bytes) -> Callable[[Peer, ExecuteRequest], None]:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 200, ("Content-Type", "text/event-stream"))
        for piece in pieces:
            peer.chunk(request, piece)
        peer.end(request.request_id)

    return script


def _connector(path: str, **settings: Any) -> OpenAIConnector:
    return OpenAIConnector(config=config_for(path), **{"max_retries": 0, **settings})


def test_text_as_it_arrives(socket_path: str) -> None:
    """The API says the second word only once the first has been read."""
    is_read = threading.Event()

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 200, ("Content-Type", "text/event-stream"))
        peer.chunk(request, _text("one"))
        assert is_read.wait(PATIENCE_S)
        peer.chunk(request, _text("two"))
        peer.chunk(request, b"data: [DONE]\n\n")
        peer.end(request.request_id)

    with ScriptedDaemon(script, socket_path) as daemon, _connector(socket_path) as connector:
        texts = connector.chat_completion_stream(HELLO)
        assert next(texts) == "one"
        is_read.set()
        assert list(texts) == ["two"]
        assert daemon.cancelled == []


@pytest.mark.parametrize("method", ["chat_completion_stream", "stream_chunks"])
def test_closing_the_iterator_cancels_the_completion(socket_path: str, method: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 200, ("Content-Type", "text/event-stream"))
        peer.chunk(request, _text("one") + _text("two"))

    with ScriptedDaemon(script, socket_path) as daemon, _connector(socket_path) as connector:
        pieces = getattr(connector, method)(HELLO)
        next(pieces)
        pieces.close()
        assert daemon.cancelled == [daemon.requests[0].request_id]
        assert len(daemon.peers) == 1


@pytest.mark.parametrize(
    ("limit", "value", "rest"), [("END_GRACE_MS", 10, b""), ("MAX_REST_BYTES", 10, b": what nobody asked for\n\n")]
)
def test_an_api_that_does_not_end_after_done(
    socket_path: str, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, rest: bytes
) -> None:
    """The completion is whole; whoever asked for it does not wait for the timeout."""
    monkeypatch.setattr(connector_sdk.openai, "END_GRACE_MS", 20_000)
    monkeypatch.setattr(connector_sdk.openai, limit, value)

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 200, ("Content-Type", "text/event-stream"))
        peer.chunk(request, _text("all") + b"data: [DONE]\n\n")
        if rest:
            peer.chunk(request, rest)
        peer.next_event()  # the client leaves

    with ScriptedDaemon(script, socket_path), _connector(socket_path) as connector:
        assert list(connector.chat_completion_stream(HELLO)) == ["all"]


def test_typed_chunks(socket_path: str) -> None:
    """Role, text, a tool call in parts, the reason for the end, the usage: each where the API has it."""
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    script = _stream(
        _event(id="i", model="m", choices=[{"delta": {"role": "assistant", "content": None}}]),
        _event(id="i", model="m", choices=[{"delta": {"content": "Hel"}, "finish_reason": None}]),
        _event(choices=[{"delta": {"tool_calls": [first]}}]),
        _event(choices=[{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}}]),
        _event(choices=[{"delta": {}, "finish_reason": "tool_calls"}]),
        _event(choices=[], usage=USAGE),
        b"data: [DONE]\n\n",
    )
    with ScriptedDaemon(script, socket_path), _connector(socket_path) as connector:
        assert list(connector.stream_chunks(HELLO)) == [
            ChatChunk("i", "m", ChatDelta("assistant")),
            ChatChunk("i", "m", ChatDelta(content="Hel")),
            ChatChunk(delta=ChatDelta(tool_calls=(ToolCallDelta(0, "c1", "function", "f", ""),))),
            ChatChunk(delta=ChatDelta(tool_calls=(ToolCallDelta(arguments='{"a"'),))),
            ChatChunk(finish_reason="tool_calls"),
            ChatChunk(usage=Usage(1, 2, 3)),
        ]
        assert connector.last_usage == Usage(1, 2, 3)


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"id": 7, "choices": 7, "usage": 7},
        {"choices": [7]},
        {"choices": [{"delta": 7, "finish_reason": 7}]},
        {"choices": [{"delta": {"content": 7, "role": [], "tool_calls": {}}}]},
    ],
)
def test_a_chunk_of_another_shape_says_nothing(socket_path: str, chunk: dict[str, Any]) -> None:
    with ScriptedDaemon(_stream(_event(**chunk)), socket_path), _connector(socket_path) as connector:
        assert list(connector.stream_chunks(HELLO)) == [ChatChunk()]


def test_a_tool_call_of_another_shape(socket_path: str) -> None:
    calls = [7, {"index": "x", "function": 7}]
    script = _stream(_event(choices=[{"delta": {"tool_calls": calls}}]))
    with ScriptedDaemon(script, socket_path), _connector(socket_path) as connector:
        (chunk,) = connector.stream_chunks(HELLO)
    assert chunk.delta.tool_calls == (ToolCallDelta(0), ToolCallDelta(1))


def test_the_usage_is_that_of_the_last_completion(socket_path: str) -> None:
    answer = {"choices": [{"message": {"content": "a"}}], "usage": USAGE}
    with ScriptedDaemon(say_hello, socket_path) as daemon, _connector(socket_path) as connector:
        assert connector.last_usage is None
        daemon.script = lambda peer, request: peer.answer(request, body=json.dumps(answer))
        connector.chat_completion(HELLO)
        assert connector.last_usage == Usage(1, 2, 3)
        daemon.script = _stream(_text("a"))
        assert list(connector.chat_completion_stream(HELLO)) == ["a"]
        assert connector.last_usage is None


def test_of_two_streams_the_usage_is_that_of_the_one_that_ended_last(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        usage = {"prompt_tokens": len(daemon.requests)}
        _stream(_text("a"), _event(choices=[], usage=usage), b"data: [DONE]\n\n")(peer, request)

    with ScriptedDaemon(script, socket_path) as daemon, _connector(socket_path) as connector:
        first, second, third = (connector.chat_completion_stream(HELLO) for _ in range(3))
        for stream in (first, second, third):
            next(stream)
        assert connector.last_usage is None
        assert (list(second), connector.last_usage) == ([], Usage(2))
        assert (list(first), connector.last_usage) == ([], Usage(1))
        third.close()
        assert connector.last_usage is None


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_server_that_knows_no_streams_gives_one_chunk(socket_path: str, is_legacy: bool) -> None:
    message = {"role": "assistant", "content": "whole"}
    body = json.dumps({"id": "i", "choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE})

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, headers={"content-type": "application/json"}, body=body)

    with ScriptedDaemon(script, socket_path, is_legacy=is_legacy), _connector(socket_path) as connector:
        chunk = ChatChunk("i", None, ChatDelta("assistant", "whole"), "stop", Usage(1, 2, 3), is_whole=True)
        assert list(connector.stream_chunks(HELLO)) == [chunk]


def test_the_existing_runtime_gives_the_stream_at_its_end(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        events = _text("a") + _text("b") + b"data: [DONE]\n\n"
        peer.answer(request, headers={"content-type": "text/event-stream"}, body=events.decode())

    with ScriptedDaemon(script, socket_path, is_legacy=True), _connector(socket_path) as connector:
        assert list(connector.chat_completion_stream(HELLO)) == ["a", "b"]


def test_an_upstream_that_breaks_off_after_text(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 200, ("Content-Type", "text/event-stream"))
        peer.chunk(request, _text("one"))
        peer.end(request.request_id, ErrorClass.TRANSIENT, "the upstream stopped")

    with ScriptedDaemon(script, socket_path), _connector(socket_path) as connector:
        texts = connector.chat_completion_stream(HELLO)
        assert next(texts) == "one"
        with pytest.raises(ConnectorException, match="the upstream stopped") as e:
            next(texts)
        assert e.value.is_retryable()


def test_an_endless_answer_that_is_no_stream_is_given_up(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector_sdk.chat_answer, "_MAX_ANSWER_BYTES", 1000)

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 500)
        peer.chunk(request, b"x" * 2000)

    with ScriptedDaemon(script, socket_path) as daemon, _connector(socket_path) as connector:
        with pytest.raises(ConnectorException, match="status 500: xxx"):
            list(connector.stream_chunks(HELLO))
        assert daemon.cancelled == [daemon.requests[0].request_id]
