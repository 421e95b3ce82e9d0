"""The reader of responses against h11: the same bytes, cut anywhere, are the same response to both."""

from __future__ import annotations

from collections.abc import Sequence

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vastar_runtime.http import plain_head
from vastar_runtime.http.h11_responses import H11Response
from vastar_runtime.http.plain_head import MAX_REMEMBERED_LINES
from vastar_runtime.http.response import END, INTERIM, NEED_DATA, ResponseHead
from vastar_runtime.http.response_reader import ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

# What a response may be put together of: whole ones, halves of them, and what does not belong there.
PARTS = [
    OK, b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 304\r\n",
    b"HTTP/1.1 200\n", b"HTTP/1.1 099 x\r\n", b"HTTP/2 200\r\n", b"HTTP/1.1 200 \xff\r\n", b"HTTP/1.1 200 a\0b\r\n",
    b"Content-Length: 5\r\n", b"content-length:5 \r\n", b"Content-Length: 5, 5\r\n", b"Content-Length: 0\r\n",
    b"Content-Length: 05\r\n", b"Content-Length: +5\r\n", b"Content-Length: " + b"1" * 21 + b"\r\n",
    b"Content-Length: \r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: Chunked \r\n",
    b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding:\r\n", b"Connection: close\r\n", b"Connection: a, CLOSE\r\n",
    b"Connection: keep-alive\r\n", b"Connection: closed\r\n", b"Upgrade: x\r\n", b"X: y\r\n", b"X:\r\n", b"X: a b \r\n",
    b"X : y\r\n", b" folded\r\n", b"X: \x80\xff\r\n", b"X: a\x0bb\r\n", b"X\r\n", b": x\r\n", b"Y: z\n", b"X: a\rb\r\n",
    b"\r\n", b"\n", b"\r", b"hello", b"0", b"5\r\n", b"5\r\nhello\r\n", b"3\r\nhel\r\n2\r\nlo\r\n", b"5;x=y\r\n",
    b"5 \r\n", b"0005\r\nhello\r\n", b"0x5\r\nhello\r\n", b"-5\r\n", b"+5\r\n", b"5_0\r\n", b"\r\n5\r\n", b"0\r\n\r\n",
    b"0\r\nTrailer: x\r\n\r\n", b"000\r\n\r\n", b"0\r\n", b"A" * 21 + b"\r\n", b"f" * 16 + b"\r\n", b"\0", b"x" * 200,
]  # fmt: skip

responses = st.lists(st.sampled_from(PARTS) | st.binary(max_size=6), max_size=12).map(b"".join)
whole = st.builds(
    lambda head, lines, body: head + b"".join(lines) + b"\r\n" + body,
    st.sampled_from([OK, b"HTTP/1.1 404 Not Found\r\n", b"HTTP/1.1 204 x\r\n"]),
    st.lists(st.sampled_from(PARTS[10:30]), max_size=4),
    responses,
)


def judged(reader: ResponseReader, pieces: Sequence[bytes], ends: bool) -> tuple[object, ...]:
    """All that a reader makes of a response: interim ones, head, body, how it ends, whether another may follow."""
    head, body, interim = None, b"", 0
    waiting = [*pieces, *([b""] if ends else [])]
    while True:
        try:
            event = reader.next_event()
        except h11.RemoteProtocolError as error:
            return head, body, interim, "refused", error.error_status_hint
        if event is NEED_DATA:
            if not waiting:
                return head, body, interim, "waits"
            reader.receive_data(waiting.pop(0))
        elif isinstance(event, ResponseHead):
            head = (event.status_code, event.headers)
        elif isinstance(event, bytes):
            assert event
            body += event
        elif event is INTERIM:
            interim += 1
        else:
            for rest in waiting:
                if rest:
                    reader.receive_data(rest)
            return head, body, interim, repr(event), event is END and reader.may_go_on


class ByH11(ResponseReader):
    """Everything is h11's."""

    def begin(self, method: str, closes: bool) -> None:
        super().begin(method, closes)
        self._h11 = H11Response(method, closes)


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in at})
    return [piece for piece in (data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)) if piece]


@settings(max_examples=1500, deadline=None)
@given(
    whole | responses,
    st.lists(st.integers(0, 400), max_size=6),
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.booleans(),
    st.booleans(),
)
@example(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", [50, 51, 52, 57, 58, 59], "GET", False, False)
@example(CHUNKED + b"5\r\nhello\rX0\r\n\r\n", [], "GET", False, False)
@example(CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\n\r\n", [60], "GET", False, False)
@example(OK + b"Content-Length: 5\r\n\r\nhelloHTTP/1.1", [], "GET", False, False)
@example(
    OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", [], "GET", False, False
)
def test_it_judges_as_h11_does(data: bytes, at: list[int], method: str, ends: bool, closes: bool) -> None:
    ours, theirs = ResponseReader(), ByH11()
    for reader in (ours, theirs):
        reader.begin(method, closes)
    assert judged(ours, cut(data, at), ends) == judged(theirs, cut(data, at), ends)


@pytest.mark.parametrize(
    "data", [OK + b"Content-Length: 5\r\n\r\nhello", CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"]
)
def test_a_plain_response_is_not_handed_over(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h11.Connection", None)
    reader = ResponseReader()
    for _ in range(2):
        reader.begin("GET", False)
        assert judged(reader, [data], False)[1:] == (b"hello", 0, "END", True)


def test_a_chunked_body_cut_at_every_byte_is_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"2\r\nhe\r\n00003\r\nllo\r\n0\r\n\r\n"
    monkeypatch.setattr("h11.Connection", None)
    reader = ResponseReader()
    reader.begin("GET", False)
    assert judged(reader, [CHUNKED, *cut(body, range(len(body)))], False)[1:] == (b"hello", 0, "END", True)


def test_what_follows_a_response_keeps_the_connection_from_going_on() -> None:
    reader = ResponseReader()
    reader.begin("GET", False)
    assert judged(reader, [OK + b"Content-Length: 5\r\n\r\nhello", b"!"], False)[-1] is False


@pytest.mark.parametrize("line", [b"Set-Cookie: session=1", b"Content-Length: 5", b"X: " + b"y" * 200])
def test_secrets_lengths_and_long_lines_are_not_remembered(line: bytes) -> None:
    reader = ResponseReader()
    reader.begin("HEAD", False)
    judged(reader, [OK + line + b"\r\n\r\n"], False)
    assert line not in plain_head._REMEMBERED


@pytest.mark.parametrize(
    "line", [b"Set-Cookie: a", b"X-Subject-Token: a", b"Location: /?code=a", b"X-Api-Key: a", b"X: " + b"y" * 200]
)
def test_a_head_with_what_may_be_secret_is_not_remembered(line: bytes) -> None:
    for _ in range(2):  # also when its lines have been seen
        reader = ResponseReader()
        reader.begin("GET", False)
        judged(reader, [OK + line + b"\r\nContent-Length: 0\r\n\r\n"], False)
    assert not [block for block in plain_head._HEADS if line in block]
    assert line not in plain_head._REMEMBERED


def test_however_many_lines_come_few_are_remembered() -> None:
    for number in range(3):
        reader = ResponseReader()
        reader.begin("GET", False)
        lines = b"".join(b"X-%d-%d: a\r\n" % (number, index) for index in range(4000))
        judged(reader, [OK + lines + b"Content-Length: 0\r\n\r\n"], False)
    assert 0 < len(plain_head._REMEMBERED) <= MAX_REMEMBERED_LINES
