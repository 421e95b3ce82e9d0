"""The event-stream decoder against the rules of the HTML Standard, section 9.2."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk import ConnectorException, ErrorClass, ServerSentEvent, SSEDecoder, StreamError

EVERYTHING = (
    b"\xef\xbb\xbf: a comment\r\n"
    b"retry: 3000\r\n"
    b"id: 7\r\n"
    b"event: greeting\r\n"
    b"data: caf\xc3\xa9\r\n"
    b"data:  two \r\n"
    b"unknown: field\r\n"
    b"\r\n"
    b"data\r"
    b"\r"
    b"event: lost, it has no data\n"
    b"\n"
    b"data:last\n"
    b"\n"
)
EVENTS = [
    ServerSentEvent("café\n two ", "greeting", "7"),
    ServerSentEvent("", "message", "7"),
    ServerSentEvent("last", "message", "7"),
]


def _decode(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = SSEDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_a_stream_fed_whole_and_byte_by_byte() -> None:
    assert _decode(EVERYTHING) == EVENTS
    assert _decode(*(bytes([byte]) for byte in EVERYTHING)) == EVENTS


@given(st.lists(st.integers(0, len(EVERYTHING)), max_size=8).map(sorted))
def test_a_stream_cut_anywhere(cuts: list[int]) -> None:
    """Inside a UTF-8 sequence, inside a CRLF, with empty pieces: the events are the same."""
    edges = [0, *cuts, len(EVERYTHING)]
    assert _decode(*(EVERYTHING[a:b] for a, b in itertools.pairwise(edges))) == EVENTS


@pytest.mark.unmeasured
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1)))
def test_any_data_comes_back(end: str, events: list[list[str]]) -> None:
    stream = "".join("".join(f"data: {line}{end}" for line in lines) + end for lines in events)
    assert [event.data for event in _decode(stream.encode())] == ["\n".join(lines) for lines in events]


@given(st.lists(st.binary()))
def test_no_bytes_at_all_upset_it(pieces: list[bytes]) -> None:
    decoder = SSEDecoder()
    for piece in pieces:
        decoder.feed(piece)
    assert decoder.is_mid_event in (True, False)
    decoder.flush()


def test_an_event_is_there_with_the_first_byte_of_its_end() -> None:
    """A CR ends the line: the decoder does not wait to see whether an LF follows."""
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r") == []
    assert decoder.feed(b"\n\r") == [ServerSentEvent("a")]
    assert decoder.feed(b"\ndata: b\n\n") == [ServerSentEvent("b")]


def test_the_id_lasts_until_another_comes() -> None:
    ids = [event.id for event in _decode(b"id: 1\ndata\n\ndata\n\nid: a\0b\ndata\n\nid\ndata\n\n")]
    assert ids == ["1", "1", "1", ""]


@pytest.mark.parametrize(
    ("value", "retry_ms"),
    [(b"15", 15), (b"-1", None), (b"1.5", None), (b"", None), (b"9" * 99, None), (b"\xd9\xa3", None)],
)
def test_a_reconnection_time_is_digits_alone(value: bytes, retry_ms: int | None) -> None:
    decoder = SSEDecoder()
    decoder.feed(b"retry: " + value + b"\n")
    assert decoder.retry_ms == retry_ms


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    assert _decode(b"data: a\xffb\n\n") == [ServerSentEvent("a\ufffdb")]


@pytest.mark.parametrize(
    ("stream", "is_mid_event", "rest"),
    [
        (b"", False, None),
        (b"\xef\xbb\xbf", False, None),
        (b"data: a\n\n", False, None),
        (b"data: a\n\n: a comm", False, None),
        (b"data: a\n\nid: 7\n", False, None),
        (b"data: a\n\ndat", True, None),
        (b"data: a\n\nevent: x\n", True, None),
        (b"data: a\n\ndata: b", True, ServerSentEvent("b")),
        (b"event: x\ndata: a\r\n", True, ServerSentEvent("a", "x")),
    ],
)
def test_whether_the_stream_was_cut(stream: bytes, is_mid_event: bool, rest: ServerSentEvent | None) -> None:
    decoder = SSEDecoder()
    decoder.feed(stream)
    assert decoder.is_mid_event is is_mid_event
    assert decoder.flush() == rest


@pytest.mark.parametrize("stream", [b"x" * 101, b"data: 0123456789\n" * 7, b": comment" * 20])
def test_an_event_that_never_ends_is_refused(stream: bytes) -> None:
    """As one line, as many, as a comment: and again by every later call."""
    decoder = SSEDecoder(max_event_bytes=100)
    for _ in range(2):
        with pytest.raises(StreamError, match="exceeds the limit of 100 bytes") as e:
            decoder.feed(stream)
    assert isinstance(e.value, ConnectorException)
    assert e.value.error_class is ErrorClass.PERMANENT


def test_the_limit_is_for_one_event_not_for_the_stream() -> None:
    decoder = SSEDecoder(max_event_bytes=100)
    assert len(decoder.feed(b": comment\ndata: 0123456789\n\n" * 50)) == 50
