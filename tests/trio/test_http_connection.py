"""One connection, byte by byte: how the end of a message is found, and every way in which an upstream gets it wrong."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import trio
from trio.testing import memory_stream_pair

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import UpstreamError
from vastar_runtime.http.connection import (
    MAX_EVENTS_PER_TURN,
    MAX_HEADER_BLOCK_BYTES,
    Connection,
    ConnectionLost,
    ResponseHead,
)
from vastar_runtime.http.request import build_request
from vastar_runtime.http.url import parse_url

OK = b"HTTP/1.1 200 OK\r\n"


class Conversation:
    """A connection and its exchange, with an upstream that has said everything already."""

    def __init__(self, method: str = "GET", body: bytes = b"", **connection_options) -> None:
        stream, self.upstream = memory_stream_pair()
        self.connection = Connection(stream, "host.example:80", **connection_options)
        self.request = build_request(method, parse_url("http://host.example/path?query"), (), body)
        self.head = ResponseHead(0, ())
        self.body: list[bytes] = []

    async def run(self, answer: bytes = b"", *, closes: bool = False, pieces: Iterable[bytes] | None = None) -> bytes:
        """Send the request, read the response; its body."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._upstream, pieces if pieces is not None else [answer], closes)
            await self.connection.send_request(self.request, lambda _: None)
            self.head = await self.connection.receive_head()
            self.body.clear()
            while (piece := await self.connection.receive_body()) is not None:
                self.body.append(piece)
        return b"".join(self.body)

    async def _upstream(self, pieces: Iterable[bytes], closes: bool) -> None:
        for piece in pieces:
            await self.upstream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        if closes:
            await self.upstream.send_eof()

    async def fails(self, answer: bytes, *, closes: bool = False) -> UpstreamError:
        with pytest.RaisesGroup(UpstreamError) as caught:
            await self.run(answer, closes=closes)
        error = caught.value.exceptions[0]
        assert isinstance(error, UpstreamError)
        assert error.error_class is ErrorClass.TRANSIENT
        return error


def header(conversation: Conversation, name: bytes) -> bytes | None:
    return dict(conversation.head.headers).get(name)


# --- how a request is written ---


async def test_a_request_is_written_in_origin_form() -> None:
    conversation = Conversation("POST", b"hello")
    await conversation.run(OK + b"Content-Length: 0\r\n\r\n")
    assert bytes(await conversation.upstream.receive_some()) == (
        b"POST /path?query HTTP/1.1\r\nhost: host.example\r\naccept: */*\r\ncontent-length: 5\r\n\r\nhello"
    )


async def test_through_a_proxy_it_is_written_in_absolute_form_with_the_proxys_authorization() -> None:
    conversation = Conversation(
        origin_form_prefix="http://host.example", extra_headers=((b"proxy-authorization", b"Basic x"),)
    )
    await conversation.run(OK + b"Content-Length: 0\r\n\r\n")
    assert bytes(await conversation.upstream.receive_some()) == (
        b"GET http://host.example/path?query HTTP/1.1\r\nhost: host.example\r\naccept: */*\r\n"
        b"proxy-authorization: Basic x\r\n\r\n"
    )


# --- where a response ends ---

RESPONSES = {
    "content-length": (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    "content-length 0": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "content-length twice the same": (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    "chunked, empty": (OK + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", b""),
    "chunked, padded sizes": (OK + b"Transfer-Encoding: chunked\r\n\r\n00005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "chunk extensions": (
        OK + b'Transfer-Encoding: chunked\r\n\r\n5;name=value;quoted="x"\r\nhello\r\n0;last\r\n\r\n',
        b"hello",
    ),
    "trailers": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Checksum: 1\r\nX-Other: 2\r\n\r\n",
        b"hello",
    ),
    "no reason phrase": (b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "no blank after the status": (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", b"hello"),
    "a 100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    "103 and 102 first": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
        + OK + b"Content-Length: 5\r\n\r\nhello",
        b"hello",
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "204 with a length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 10\r\n\r\n", b""),
    "204 that is chunked": (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", b""),
}  # fmt: skip


@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_ends_where_it_says_however_it_arrives(name: str) -> None:
    answer, body = RESPONSES[name]
    for pieces in ([answer], [answer[at : at + 1] for at in range(len(answer))]):
        conversation = Conversation()
        assert await conversation.run(pieces=pieces) == body
        assert conversation.connection.reuse()
        assert await conversation.run(pieces=pieces) == body  # and the next one on the same connection


@pytest.mark.parametrize("fields", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_an_answer_to_head_has_no_body_whatever_it_says(fields: bytes) -> None:
    conversation = Conversation("HEAD")
    assert await conversation.run(OK + fields + b"\r\n") == b""
    assert conversation.connection.reuse()


@pytest.mark.parametrize("status_line", [OK, b"HTTP/1.0 200 OK\r\n"])
@pytest.mark.parametrize("connection", [b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n"])
async def test_a_body_without_a_length_ends_with_the_connection(status_line: bytes, connection: bytes) -> None:
    conversation = Conversation()
    assert await conversation.run(pieces=[status_line + connection + b"\r\nhel", b"lo"], closes=True) == b"hello"
    assert conversation.body == [b"hel", b"lo"]
    assert not conversation.connection.reuse()


@pytest.mark.parametrize("head", [OK + b"Connection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
async def test_a_connection_that_will_be_closed_is_not_used_again(head: bytes) -> None:
    conversation = Conversation()
    assert await conversation.run(head + b"Content-Length: 5\r\n\r\nhello") == b"hello"
    assert not conversation.connection.reuse()


@pytest.mark.parametrize("surplus", [b"\r\n", b"x", OK + b"Content-Length: 0\r\n\r\n"])
async def test_bytes_after_the_response_make_the_connection_unusable(surplus: bytes) -> None:
    conversation = Conversation()
    assert await conversation.run(OK + b"Content-Length: 5\r\n\r\nhello" + surplus) == b"hello"
    assert not conversation.connection.reuse()


async def test_an_unfinished_exchange_makes_the_connection_unusable() -> None:
    conversation = Conversation()
    await conversation.upstream.send_all(OK + b"Content-Length: 5\r\n\r\nhel")
    await conversation.connection.send_request(conversation.request, lambda _: None)
    await conversation.connection.receive_head()
    assert await conversation.connection.receive_body() == b"hel"
    assert not conversation.connection.buffered_end()
    assert not conversation.connection.reuse()


async def test_headers_come_in_lower_case_in_order_and_repeated() -> None:
    conversation = Conversation()
    fields = b"Set-Cookie: a=1\r\nX-Empty:\r\nSET-COOKIE:  b=2 \r\nX-Latin: caf\xe9\r\n"
    await conversation.run(b"HTTP/1.1 418 I'm a teapot\r\n" + fields + b"Content-Length: 0\r\n\r\n")
    assert conversation.head.status_code == 418
    assert conversation.head.headers == (
        (b"set-cookie", b"a=1"), (b"x-empty", b""), (b"set-cookie", b"b=2"), (b"x-latin", b"caf\xe9"),
        (b"content-length", b"0"),
    )  # fmt: skip


async def test_a_header_block_of_many_kilobytes_is_fine() -> None:
    conversation = Conversation()
    cookie = b"c" * (MAX_HEADER_BLOCK_BYTES - 1000)
    await conversation.run(OK + b"Set-Cookie: " + cookie + b"\r\nContent-Length: 0\r\n\r\n")
    assert header(conversation, b"set-cookie") == cookie


# --- what is not HTTP ---

NOT_HTTP = {
    "garbage": b"\x00\xff\x17garbage\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "an SMTP greeting that goes on": b"220 mail.example ESMTP\r\n" * 10 + b"\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a header without a colon": OK + b"Header\r\n\r\n",
    "a blank before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "a folded first header": OK + b" folded\r\n\r\n",
    "NUL in a header": OK + b"X: a\0b\r\n\r\n",
    "two different lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "two different lengths in one": OK + b"Content-Length: 5, 6\r\n\r\nhello!",
    "a negative length": OK + b"Content-Length: -5\r\n\r\nhello",
    "a length in words": OK + b"Content-Length: five\r\n\r\nhello",
    "a length of 5000 digits": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhello",
    "an unknown transfer encoding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("name", NOT_HTTP)
async def test_what_is_not_http_is_said_to_be_none(name: str) -> None:
    error = await Conversation().fails(NOT_HTTP[name])
    assert not isinstance(error, ConnectionLost)
    assert error.message.startswith("HTTP request failed: host.example:80 does not speak HTTP/1.1: ")
    assert len(error.message) < 300


TOO_LONG = {
    "a header block": OK + b"X-Pad: " + b"x" * 1024 * 1024 + b"\r\n\r\n",
    "a header block in many lines": OK + b"X-Pad: x\r\n" * 105_000 + b"\r\n",
    "an interim response": b"HTTP/1.1 103 Hints\r\nX-Pad: " + b"x" * 1024 * 1024,
    "a status line without end": b"HTTP/1.1 200 " + b"x" * 1024 * 1024,
    "trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Pad: " + b"x" * 1024 * 1024,
    "an extension of a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 1024 * 1024,
}


@pytest.mark.parametrize("name", TOO_LONG)
async def test_a_mebibyte_of_headers_is_refused_with_the_limit(name: str) -> None:
    error = await Conversation().fails(TOO_LONG[name])
    assert error.message == "HTTP request failed: host.example:80 sent a header block of over 65536 bytes"


BAD_CHUNKS = {
    "no hexadecimal number": b"xyz\r\nhello\r\n",
    "a negative size": b"-5\r\nhello\r\n",
    "an empty size": b"\r\nhello\r\n",
    "a size of 0x5": b"0x5\r\nhello\r\n",
    "a size of 21 digits": b"1" + b"0" * 20 + b"\r\n",
    "more than the size says": b"3\r\nhello\r\n0\r\n\r\n",
    "a trailer without a colon": b"0\r\nTrailer\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_a_chunk_that_is_wrong_ends_the_exchange(name: str) -> None:
    conversation = Conversation()
    error = await conversation.fails(OK + b"Transfer-Encoding: chunked\r\n\r\n" + BAD_CHUNKS[name])
    assert error.message.startswith("HTTP request failed: host.example:80 does not speak HTTP/1.1: ")
    assert conversation.head.status_code == 200
    assert not conversation.connection.reuse()


@pytest.mark.parametrize("size", [2**64, 2**64 - 1, 2**63])
async def test_a_chunk_of_2_to_the_64_bytes_is_read_as_it_comes(size: int) -> None:
    """No memory is set aside for it, and no number overflows; its end never comes."""
    conversation = Conversation()
    error = await conversation.fails(OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\nhello" % size, closes=True)
    assert conversation.body == [b"hello"]
    assert error.message == "HTTP request failed: host.example:80 cut the response body short"


# --- cut off ---


@pytest.mark.parametrize("name", ["content-length", "chunked", "trailers"])
async def test_closed_at_every_point(name: str) -> None:
    answer, _ = RESPONSES[name]
    end_of_head = answer.index(b"\r\n\r\n") + 4
    for cut in range(len(answer)):
        error = await Conversation().fails(answer[:cut], closes=True)
        assert isinstance(error, ConnectionLost)
        assert error.before_response is (cut == 0)
        if cut == 0:
            expected = "the connection to host.example:80 was closed before a response came"
        elif cut < end_of_head:
            expected = "the connection to host.example:80 was closed inside the response head"
        else:
            expected = "host.example:80 cut the response body short"
        assert error.message == f"HTTP request failed: {expected}"


async def test_closed_after_an_interim_response_is_closed_inside_the_head() -> None:
    error = await Conversation().fails(b"HTTP/1.1 100 Continue\r\n\r\n", closes=True)
    assert isinstance(error, ConnectionLost)
    assert not error.before_response
    assert "inside the response head" in error.message


async def test_a_new_exchange_forgets_how_far_the_last_one_came() -> None:
    conversation = Conversation()
    await conversation.run(OK + b"Content-Length: 0\r\n\r\n")
    assert conversation.connection.reuse()
    error = await conversation.fails(b"", closes=True)
    assert isinstance(error, ConnectionLost)
    assert error.before_response


# --- writing to a connection that breaks ---


async def test_nothing_could_be_written_is_told_from_something_was() -> None:
    conversation = Conversation("POST", b"hello")
    await conversation.upstream.aclose()
    with pytest.raises(ConnectionLost) as caught:
        await conversation.connection.send_request(conversation.request, lambda _: None)
    assert caught.value.before_response
    assert not conversation.connection.has_written

    large = Conversation("POST", bytes(100_000))
    await large.connection.send_request(large.request, lambda _: None)
    assert large.connection.has_written  # the head, at least
    await large.upstream.aclose()
    with pytest.raises(ConnectionLost) as caught:
        await large.connection.receive_head()
    assert caught.value.before_response
    await large.connection.close()


async def test_an_upload_reports_that_it_moves() -> None:
    conversation = Conversation("POST", bytes(300_000))
    waits: list[str] = []
    await conversation.upstream.send_all(OK + b"Content-Length: 0\r\n\r\n")
    await conversation.connection.send_request(conversation.request, waits.append)
    assert (await conversation.connection.receive_head()).status_code == 200
    assert await conversation.connection.receive_body() is None
    assert waits == ["sending the request body to host.example:80"] * 6
    assert conversation.connection.reuse()


async def test_many_tiny_chunks_are_joined_and_let_others_run() -> None:
    """An upstream that sends a byte a chunk costs us ten events a byte, and must not keep everybody else waiting."""
    conversation = Conversation()
    await conversation.upstream.send_all(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 1000)
    await conversation.upstream.send_all(b"0\r\n\r\n")
    await conversation.connection.send_request(conversation.request, lambda _: None)
    await conversation.connection.receive_head()
    turns_of_others = 0

    async def other() -> None:
        nonlocal turns_of_others
        while True:
            await trio.lowlevel.checkpoint()
            turns_of_others += 1

    pieces = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        while (piece := await conversation.connection.receive_body()) is not None:
            pieces.append(piece)
        nursery.cancel_scope.cancel()
    assert b"".join(pieces) == b"a" * 1000
    assert len(pieces) == -(-1000 // MAX_EVENTS_PER_TURN)
    assert turns_of_others >= len(pieces) // 2  # trio shuffles who goes first


async def test_what_follows_a_joined_piece_is_not_lost() -> None:
    conversation = Conversation()
    await conversation.upstream.send_all(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\nnonsense\r\n")
    await conversation.connection.send_request(conversation.request, lambda _: None)
    await conversation.connection.receive_head()
    assert await conversation.connection.receive_body() == b"hello"
    with pytest.raises(UpstreamError, match="does not speak"):
        await conversation.connection.receive_body()


async def test_interim_responses_without_end_are_refused() -> None:
    error = await Conversation().fails(b"HTTP/1.1 100 Continue\r\n\r\n" * 33)
    assert error.message == "HTTP request failed: host.example:80 sent more than 32 interim responses"


async def test_closing_is_done_even_when_cancelled_and_may_be_repeated() -> None:
    conversation = Conversation()
    with trio.CancelScope() as scope:
        scope.cancel()
        await conversation.connection.close()
    assert bytes(await conversation.upstream.receive_some()) == b""
    await conversation.connection.close()
    with pytest.raises(ConnectionLost):
        await conversation.connection.send_request(conversation.request, lambda _: None)


async def test_a_memory_stream_is_never_taken_for_dead() -> None:
    assert not Conversation().connection.has_died()


@pytest.mark.parametrize(
    ("rest", "is_there"),
    [
        (b"\r\n0\r\n\r\n", True),
        (b"\r\n0\r\n", False),
        (b"\r\n", False),
        (b"x", False),
    ],
)
async def test_whether_the_end_has_come_along_with_a_piece_is_seen_without_waiting(rest: bytes, is_there: bool) -> None:
    conversation = Conversation()
    await conversation.upstream.send_all(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello" + rest)
    await conversation.connection.send_request(conversation.request, lambda _: None)
    await conversation.connection.receive_head()
    assert await conversation.connection.receive_body() == b"hello"
    assert conversation.connection.buffered_end() is is_there
    assert conversation.connection.reuse() is is_there
