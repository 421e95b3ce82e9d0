"""A streamed answer: the head when it is there, each piece when it is there, and an end that says how it went."""

import zlib

import brotli
import pytest
import trio
import zstandard
from session_under_test import captured_log, session
from stream_client import CHUNKED, OK, URL, body, chunk, delivered, end, greet, head, piece, up
from stream_client import stream_request as asked_for

from connector_sdk.wire import ErrorClass

__all__ = ["up"]


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


@pytest.fixture
async def client(up):
    async with session(up.services, idle_timeout_s=30) as (client, _):
        await greet(client)
        yield client
        assert up.is_idle()


async def test_the_head_comes_before_there_is_any_body_and_each_piece_before_the_next_is_sent(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(OK + b"Set-Cookie: a\r\nSet-Cookie: b\r\nTransfer-Encoding: chunked\r\n\r\n")
    received = await head(client)
    assert (received.status_code, received.attempts) == (200, 1)
    assert received.headers == (("set-cookie", "a"), ("set-cookie", "b"), ("transfer-encoding", "chunked"))
    for text in (b"one", b"two", b"\x00\xff"):
        await peer.send(chunk(text))
        assert await piece(client) == text
    await peer.send(chunk(b""))
    last = await end(client)
    assert (last.error_class, last.error_message, last.attempts) == (ErrorClass.SUCCESS, None, 1)
    assert last.duration_us > 0


async def test_a_byte_at_a_time_is_delivered_a_byte_at_a_time(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    for number, byte in enumerate(body(b"slow")):
        await peer.send(bytes([byte]))
        if number == len(body(b"slow")) - 5:
            await head(client)
        if number >= len(body(b"slow")) - 4:
            assert await piece(client) == bytes([byte])
    assert (await end(client)).error_class is ErrorClass.SUCCESS


async def test_what_is_there_already_is_joined_into_one_piece(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(CHUNKED + chunk(b"a") + chunk(b"b") + chunk(b"c") + chunk(b""))
    stream = await delivered(client)
    assert (stream.pieces, stream.error_class) == ([b"abc"], ErrorClass.SUCCESS)


@pytest.mark.parametrize(
    "response",
    [body(b""), b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", CHUNKED + chunk(b"")],
)
async def test_without_a_body_there_is_a_head_and_an_end(client, up, response):
    await client.send(asked_for(1))
    await (await up.asked()).send(response)
    stream = await delivered(client)
    assert (stream.pieces, stream.error_class) == ([], ErrorClass.SUCCESS)


@pytest.mark.parametrize("status", [404, 429, 503])
async def test_any_status_is_success(client, up, status):
    await client.send(asked_for(1))
    await (await up.asked()).send(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nno" % status)
    stream = await delivered(client)
    assert (stream.head.status_code, stream.data, stream.error_class) == (status, b"no", ErrorClass.SUCCESS)


async def test_redirects_are_followed_before_the_head_and_counted(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(b"HTTP/1.1 302 X\r\nLocation: /there\r\nContent-Length: 4\r\n\r\ngone")
    assert (await peer.request()).startswith(b"GET /there ")
    await peer.send(body(b"here"))
    stream = await delivered(client)
    assert (stream.data, stream.head.attempts, stream.end.attempts) == (b"here", 2, 2)


async def test_a_reused_connection_that_breaks_is_an_attempt_too(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(body(b"first"))
    await delivered(client)
    await client.send(asked_for(2))
    await peer.request()
    await peer.close()
    await (await up.asked()).send(body(b"second"))
    stream = await delivered(client, 2)
    assert (stream.data, stream.head.attempts, stream.end.attempts) == (b"second", 2, 2)


async def test_an_event_stream_goes_on_after_done_until_its_own_end(client, up):
    """Only a buffered answer, which nobody sees before its end, has to end there."""
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(OK + b"Content-Type: text/event-stream\r\n\r\n")
    await head(client)
    for event in (b"data: 1\n\n", b"data: [DONE]\n\n", b": more\n\n"):
        await peer.send(event)
        assert await piece(client) == event
    await peer.close()
    assert (await end(client)).error_class is ErrorClass.SUCCESS


def gzip_steps():
    packer = zlib.compressobj(wbits=31)
    return lambda text: packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH), packer.flush


def brotli_steps():
    packer = brotli.Compressor()
    return lambda text: packer.process(text) + packer.flush(), packer.finish


def zstd_steps():
    packer = zstandard.ZstdCompressor().compressobj()
    return lambda text: packer.compress(text) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK), packer.flush


@pytest.mark.parametrize(("name", "steps"), [("gzip", gzip_steps), ("br", brotli_steps), ("zstd", zstd_steps)])
async def test_a_compressed_body_is_decoded_piece_by_piece_as_it_arrives(client, up, name, steps):
    pack, finish = steps()
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(OK + b"X: y\r\nContent-Encoding: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % name.encode())
    assert (await head(client)).headers == (("x", "y"), ("transfer-encoding", "chunked"))
    for text in (b"first words", b"second words"):
        await peer.send(chunk(pack(text)))
        assert await piece(client) == text
    await peer.send(chunk(finish()) + chunk(b""))
    assert (await end(client)).error_class is ErrorClass.SUCCESS


async def test_twelve_mebibytes_in_one_stream_which_no_frame_could_hold(client, up, nursery):
    size = 12 * 1024 * 1024
    await client.send(asked_for(1))
    peer = await up.asked()
    nursery.start_soon(peer.send, body(bytes(size)))
    stream = await delivered(client)
    assert stream.error_class is ErrorClass.SUCCESS
    assert len(stream.data) == size
    assert max(map(len, stream.pieces)) <= 65_536


async def test_a_stream_that_moves_is_never_too_long_for_the_idle_time(client, up, autojump_clock):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(CHUNKED)
    await head(client)
    for _ in range(20):
        await trio.sleep(29)
        await peer.send(chunk(b"x"))
        await piece(client)
    await peer.send(chunk(b""))
    assert (await end(client)).error_class is ErrorClass.SUCCESS


async def test_the_largest_header_block_that_an_upstream_may_send_is_delivered(client, up):
    """Bytes that are no UTF-8 become two each."""
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(OK + b"X: " + b"\xff" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n")
    stream = await delivered(client)
    assert stream.error_class is ErrorClass.SUCCESS
    assert dict(stream.head.headers)["x"] == "\xff" * 60_000


async def test_an_id_in_flight_is_refused_and_the_running_stream_is_untouched(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(CHUNKED + chunk(b"one"))
    await head(client)
    await piece(client)
    await client.send(asked_for(1))
    refusal = await end(client)
    assert refusal.error_class is ErrorClass.INVALID_REQUEST
    assert "request_id 1 is in flight" in refusal.error_message
    await peer.send(chunk(b"two") + chunk(b""))
    assert await piece(client) == b"two"
    assert (await end(client)).error_class is ErrorClass.SUCCESS
    # Ended, the id is free again, and so is the connection to the upstream.
    await client.send(asked_for(1))
    await peer.request()
    await peer.send(body(b"again"))
    assert (await delivered(client)).data == b"again"


async def test_the_log_has_one_line_for_a_stream(client, up, log):
    await client.send(asked_for(1, f"{URL}?SECRET", trace_id="t-1"))
    await (await up.asked()).send(body(b"SECRET"))
    await delivered(client)
    (line,) = log.getvalue().splitlines()
    assert "event=request method=GET origin=http://upstream.test:81 path=/path status=200 bytes=6" in line
    assert "trace=t-1" in line
    assert "SECRET" not in line
