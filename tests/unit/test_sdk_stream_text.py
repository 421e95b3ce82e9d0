"""A streamed body as text, lines and events, however it is cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, socket_path

import connector_sdk.streaming
from connector_sdk import GET, RuntimeClient, ServerSentEvent, StreamedResponse, StreamError
from connector_sdk.wire import ExecuteRequest, ResponseHead

__all__ = ["socket_path"]


class _Pieces:
    """A body of these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)

    def next_piece(self) -> bytes:
        return next(self._pieces, b"")

    def end_within(self, timeout_ms: int) -> None:
        pass

    def close(self) -> None:
        pass


def _response(*pieces: bytes, content_type: str = "text/plain") -> StreamedResponse:
    return StreamedResponse(ResponseHead(status_code=200, headers=(("Content-Type", content_type),)), _Pieces(*pieces))


def _every_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def test_text_cut_inside_a_character() -> None:
    assert list(_response(*_every_byte("aé€😀".encode())).iter_text()) == ["a", "é", "€", "😀"]


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain; charset=iso-8859-1", b"\xe9", "é"),
        ('text/plain;Charset="UTF-16LE"; x=y', b"\xe9\x00", "é"),
        ("text/plain", b"\xff\xc3\xa9", "\ufffdé"),
        ("text/plain; charset=none-such", "é".encode(), "é"),
        ("text/plain; charset=hex", b"6161", "6161"),
        ("text/plain; charset=idna", "é".encode(), "é"),
        ("text/plain; charset=undefined", "é".encode(), "é"),
        ("text/plain; charset=", "é".encode(), "é"),
    ],
)
def test_the_charset_of_the_content_type_or_utf_8(content_type: str, body: bytes, text: str) -> None:
    assert "".join(_response(*_every_byte(body), content_type=content_type).iter_text()) == text


def test_a_character_that_the_end_cuts_off() -> None:
    assert list(_response(b"a\xe2\x82").iter_text()) == ["a", "\ufffd"]


@pytest.mark.parametrize("is_cut", [False, True])
def test_lines(is_cut: bool) -> None:
    """LF, CRLF and CR end a line, and nothing else does."""
    body = "one\ntwo\r\nthree\rfour\n\nsix\u2028still\x0bsix\r\n".encode()
    response = _response(*(_every_byte(body) if is_cut else [body]))
    assert list(response.iter_lines()) == ["one", "two", "three", "four", "", "six\u2028still\x0bsix"]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([], []),
        ([b"\n"], [""]),
        ([b"a"], ["a"]),
        ([b"a\r", b"\nb"], ["a", "b"]),
        ([b"a\r", b"\r", b"b"], ["a", "", "b"]),
        ([b"a\r", b"\n", b"\nb"], ["a", "", "b"]),
    ],
)
def test_ends_of_lines_that_are_cut(pieces: list[bytes], lines: list[str]) -> None:
    assert list(_response(*pieces).iter_lines()) == lines


def test_a_line_is_there_as_soon_as_its_end_is() -> None:
    lines = _response(b"one\rtwo", b"\n").iter_lines()
    assert next(lines) == "one"


def test_a_line_without_end_does_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector_sdk.streaming, "MAX_LINE_CHARACTERS", 10)
    lines = _response(b"ok\n", *[b"1234"] * 3).iter_lines()
    assert next(lines) == "ok"
    with pytest.raises(StreamError, match="a line exceeds the limit of 10 characters"):
        next(lines)


def test_events_one_byte_at_a_time_over_the_wire(socket_path: str) -> None:
    """An event that is not complete at the end is none."""
    body = "event: a\r\ndata: ü\r\n\r\ndata: 2\n\ndata: cut".encode()

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 200, ("content-type", "text/event-stream"))
        for piece in _every_byte(body):
            peer.chunk(request, piece)
        peer.end(request.request_id)

    with (
        ScriptedDaemon(script, socket_path),
        RuntimeClient(config_for(socket_path)) as client,
        client.stream_http(GET("http://u/")) as response,
    ):
        assert list(response.iter_sse()) == [ServerSentEvent("ü", "a"), ServerSentEvent("2")]


def test_one_iterator_goes_on_where_another_stopped() -> None:
    response = _response(b"one", b"two", b"three")
    assert next(response.iter_bytes()) == b"one"
    assert next(response.iter_text()) == "two"
    assert response.read() == b"three"
