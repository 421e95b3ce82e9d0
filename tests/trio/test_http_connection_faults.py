"""One connection, byte by byte: every way in which an upstream gets a message wrong, or breaks off."""

from __future__ import annotations

import pytest
import trio
from http_conversation import OK, RESPONSES, Conversation

from vastar_runtime.errors import UpstreamError
from vastar_runtime.http.connection import ConnectionLost
from vastar_runtime.http.response import MAX_EVENTS_PER_TURN

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
