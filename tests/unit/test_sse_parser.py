"""SSEParser, as the existing SDK has it, and the chat streams that it reads."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from connector_sdk import APIError, ErrorClass, SSEParser, StreamError
from connector_sdk.sse import ChatStreamDecoder


def _chunk(content: str | None, **more: object) -> str:
    delta = {} if content is None else {"content": content}
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta}], **more}) + "\n\n"


OPENAI = (
    'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n'
    + _chunk("Hel")
    + ": keep-alive\n\n"
    + _chunk("lö", id="1")
    + 'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    + 'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'
    + "data: [DONE]\n\n"
    + _chunk("after the end")
)
# As the simulator of the existing runtime sends it: a new id with every chunk, no finish_reason, no [DONE].
SIMULATOR = (
    _chunk("Hel", id="a", usage=None)
    + _chunk("lö", id="b")
    + 'data: {"id": "c", "choices": [], "usage": {"total_tokens": 3}}\n\n'
)


@pytest.mark.parametrize("stream", [OPENAI, SIMULATOR, SIMULATOR.rstrip(), OPENAI.replace("\n", "\r\n")])
def test_a_whole_stream(stream: str) -> None:
    assert SSEParser.parse_stream(stream) == "Hellö"
    assert list(SSEParser.parse_stream_generator(stream)) == ["Hel", "lö"]


def test_a_text_without_events_holds_no_text() -> None:
    assert SSEParser.parse_stream("") == ""
    assert SSEParser.parse_stream(": nothing\n\n") == ""


@pytest.mark.parametrize(
    ("chunk", "content"),
    [
        (_chunk("a"), "a"),
        (_chunk("a").rstrip(), "a"),
        (_chunk("a").removeprefix("data: "), "a"),
        ("data: [DONE]", None),
        (": comment", None),
        ("", None),
        ("data:", None),
        (_chunk(None), None),
        ('data: {"choices": []}', None),
        ('data: {"choices": null}', None),
        ('data: {"choices": [7]}', None),
        ('data: {"choices": [{"delta": null}]}', None),
        ('data: {"choices": [{"delta": {"content": null}}]}', None),
        ('data: {"choices": [{"delta": {"content": 7}}]}', None),
    ],
)
def test_one_chunk(chunk: str, content: str | None) -> None:
    assert SSEParser.parse_chunk(chunk) == content


@pytest.mark.parametrize("chunk", ["data: {broken", "data: 7", "data: [1]", "data: " + "[" * 100_000])
def test_a_chunk_that_is_no_json_object_is_shown(chunk: str) -> None:
    with pytest.raises(StreamError, match="no JSON") as e:
        SSEParser.parse_chunk(chunk)
    assert chunk[6:20] in str(e.value)
    assert len(str(e.value)) < 200


def test_an_error_inside_a_stream_carries_what_the_api_says() -> None:
    error = {"message": "too busy", "type": "server_error", "code": "overloaded", "param": None}
    with pytest.raises(APIError, match="too busy") as e:
        SSEParser.parse_stream(_chunk("a") + "data: " + json.dumps({"error": error}) + "\n\n")
    assert (e.value.status, e.value.type, e.value.code) == (200, "server_error", "overloaded")
    assert e.value.is_retryable()


def _fed(*pieces: bytes) -> Iterator[str]:
    """The texts of a chat stream that comes in these pieces and then ends, or has said that it has."""
    decoder = ChatStreamDecoder()
    for piece in (*pieces, b""):
        for chunk in decoder.feed(piece):
            yield from (choice["delta"]["content"] for choice in chunk["choices"] if choice["delta"].get("content"))
        if decoder.is_ended:
            return


def test_chunks_come_with_the_pieces_that_complete_them() -> None:
    """Nothing waits for the end of the stream."""
    decoder = ChatStreamDecoder()
    ends = {}
    for end in range(1, len(OPENAI.encode()) + 1):
        for chunk in decoder.feed(OPENAI.encode()[end - 1 : end]):
            ends[end] = chunk
        if decoder.is_ended:
            break
    events = [event for event in OPENAI.encode().split(b"\n\n") if event.startswith(b"data: {")][:-1]
    assert list(ends.values()) == [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert list(ends) == [OPENAI.encode().index(event) + len(event) + 2 for event in events]
    assert end == len(OPENAI.encode()) - len(_chunk("after the end"))


def test_chunks_after_the_end_are_none_even_in_the_same_piece() -> None:
    assert list(_fed(OPENAI.encode())) == ["Hel", "lö"]
    assert list(_fed(SIMULATOR.encode())) == ["Hel", "lö"]


@pytest.mark.parametrize("end", ["", "\n", ": bye", "data: [DONE]", "data: [DONE]\n", "data: [DONE]\n\n"])
def test_a_stream_may_end_after_an_event_with_or_without_done(end: str) -> None:
    assert list(_fed((_chunk("a") + end).encode())) == ["a"]


@pytest.mark.parametrize("kept", [1, 4, 10, len(_chunk("b")) - 2, len(_chunk("b")) - 1])
def test_a_stream_cut_inside_an_event_is_an_error_after_what_came_before(kept: int) -> None:
    stream = _fed((_chunk("a") + _chunk("b")[:kept]).encode())
    assert next(stream) == "a"
    with pytest.raises(StreamError, match="broke off inside an event") as e:
        next(stream)
    assert e.value.error_class is ErrorClass.TRANSIENT


@pytest.mark.parametrize("body", [b"", b"<html>\n\n</html>\n\n", b": only a comment\n\n"])
def test_an_answer_without_any_event_is_no_empty_completion(body: bytes) -> None:
    with pytest.raises(StreamError):
        list(_fed(body))
