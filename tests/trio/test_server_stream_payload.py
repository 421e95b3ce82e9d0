"""Payloads as FlatBuffers tables: any bytes, repeated headers, and a clear answer to what is no such table."""

import gzip

import pytest
import trio
from session_under_test import captured_log, session
from stream_client import OK, URL, MemoryUpstream, body, chunk, delivered, end, greet, table_request

from connector_sdk.wire import MAX_FRAME_BYTES, ErrorClass, ExecuteResponse, HttpRequest, HttpResponse, ResponseMode
from connector_sdk.wire.messages import HTTP_REQUEST_CODEC, HTTP_RESPONSE_CODEC

EVERY_BYTE = bytes(range(256))


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


@pytest.fixture
def up(nursery):
    return MemoryUpstream(nursery)


@pytest.fixture(params=["with Hello", "without"])
async def client(up, request):
    """Tables are for any client: a legacy one does not know them, so it will not send them."""
    async with session(up.services) as (client, _):
        if request.param == "with Hello":
            await greet(client)
        yield client
        assert up.is_idle()


async def answer(client) -> ExecuteResponse:
    message = await client.receive()
    assert isinstance(message, ExecuteResponse), message
    return message


async def response(client) -> HttpResponse:
    message = await answer(client)
    assert message.error_class is ErrorClass.SUCCESS, message
    table = HTTP_RESPONSE_CODEC.decode(message.payload)
    assert isinstance(table, HttpResponse)
    return table


async def test_any_bytes_and_repeated_headers_in_order_both_ways(client, up):
    headers = (("X-A", "1"), ("X-B", "2"), ("X-A", "3"), ("X-U", "h\u00e9"))
    await client.send(table_request(1, HttpRequest(method="post", url=URL, headers=headers, body=EVERY_BYTE)))
    peer = await up.peer()
    request_head, _, request_body = (await peer.request()).partition(b"\r\n\r\n")
    assert request_body == EVERY_BYTE
    lines = request_head.split(b"\r\n")
    assert lines[0] == b"POST /path HTTP/1.1"
    ours = [line for line in lines if line.lower().startswith(b"x-")]
    assert [line.partition(b": ")[2] for line in ours] == [b"1", b"2", b"3", "h\u00e9".encode()]
    assert [line[:3].lower() for line in ours] == [b"x-a", b"x-b", b"x-a", b"x-u"]
    sent = b"HTTP/1.1 207 X\r\nSet-Cookie: a\r\nX-C: c\r\nSet-Cookie: b\r\nContent-Length: 256\r\n\r\n" + EVERY_BYTE
    await peer.send(sent)
    assert await response(client) == HttpResponse(
        status_code=207,
        headers=(("set-cookie", "a"), ("x-c", "c"), ("set-cookie", "b"), ("content-length", "256")),
        body=EVERY_BYTE,
        is_streaming=False,
    )


async def test_the_least_there_can_be_is_a_get(client, up):
    await client.send(table_request(1, HttpRequest(url=URL)))
    peer = await up.peer()
    assert (await peer.request()).startswith(b"GET /path HTTP/1.1\r\n")
    await peer.send(OK + b"Content-Length: 0\r\n\r\n")
    table = await response(client)
    assert (table.status_code, table.body or b"") == (200, b"")


async def test_an_encoded_body_is_decoded_and_an_event_stream_is_said_to_be_one(client, up):
    packed = gzip.compress(b"data: 1\n\ndata: [DONE]\n\n")
    await client.send(table_request(1, HttpRequest(url=URL)))
    peer = await up.asked()
    await peer.send(
        OK + b"Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    await peer.send(chunk(packed))
    table = await response(client)
    assert (table.body, table.is_streaming) == (b"data: 1\n\ndata: [DONE]\n\n", True)
    assert table.headers == (("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))


async def test_its_timeout_counts(client, up, autojump_clock):
    await client.send(table_request(1, HttpRequest(url=URL, timeout_ms=7000)))
    await up.asked()
    began_at = trio.current_time()
    message = await answer(client)
    assert message.error_class is ErrorClass.TIMEOUT
    assert "7000 ms passed (timeout_ms)" in message.error_message
    assert trio.current_time() - began_at == pytest.approx(7)


VALID = HTTP_REQUEST_CODEC.encode(HttpRequest(method="PUT", url=URL, headers=(("A", "b"),), body=b"x" * 40))
MALFORMED = {
    "absent": b"",
    "short": b"\0",
    "JSON": b'{"url": "http://h/"}',
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "without its url": HTTP_RESPONSE_CODEC.encode(HttpResponse(status_code=200)),
    **{f"cut at {size}": VALID[:size] for size in range(4, len(VALID) - 40, 12)},
}


@pytest.mark.parametrize("mode", ResponseMode)
@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_such_table_is_invalid_and_the_connection_goes_on(up, payload, mode):
    async with session(up.services) as (client, _):
        await greet(client)
        await client.send(table_request(1, payload, response_mode=mode))
        message = await (end(client) if mode is ResponseMode.STREAM else answer(client))
        assert (message.request_id, message.error_class) == (1, ErrorClass.INVALID_REQUEST)
        assert message.error_message.startswith("Invalid HTTP params: ")
        assert "\n" not in message.error_message
        assert (await client.health()).healthy


INVALID = {
    "scheme": (HttpRequest(url="ftp://h/"), "unsupported URL scheme: ftp"),
    "empty url": (HttpRequest(url=""), "URL"),
    "method": (HttpRequest(url=URL, method="BREW"), "method"),
    "header name": (HttpRequest(url=URL, headers=(("a b", "c"),)), "header"),
    "header value": (HttpRequest(url=URL, headers=(("a", "b\r\nc: d"),)), "header"),
    "wrong length": (HttpRequest(url=URL, headers=(("Content-Length", "5"),), body=b"x"), "Content-Length"),
}


@pytest.mark.parametrize(("request_", "words"), INVALID.values(), ids=INVALID)
async def test_a_table_that_asks_for_what_cannot_be_is_invalid_and_says_why(client, request_, words):
    await client.send(table_request(1, request_))
    message = await answer(client)
    assert message.error_class is ErrorClass.INVALID_REQUEST
    assert words.lower() in message.error_message.lower()


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_fits_no_frame_is_permanent_and_points_to_streaming(client, up, declared):
    size = MAX_FRAME_BYTES + 1
    await client.send(table_request(1, HttpRequest(url=URL)))
    peer = await up.asked()
    await peer.send(body(bytes(size)) if declared else OK + b"\r\n" + bytes(size))
    message = await answer(client)
    assert message.error_class is ErrorClass.PERMANENT
    assert "exceeds the frame limit" in message.error_message
    assert "use streaming" in message.error_message


async def test_a_body_that_fits_only_without_its_frame_is_permanent_too(client, up):
    await client.send(table_request(1, HttpRequest(url=URL)))
    await (await up.asked()).send(body(bytes(MAX_FRAME_BYTES)))
    message = await answer(client)
    assert message.error_class is ErrorClass.PERMANENT
    assert "use streaming" in message.error_message


async def test_a_body_that_just_fits_is_delivered(client, up):
    size = MAX_FRAME_BYTES - 1000
    await client.send(table_request(1, HttpRequest(url=URL)))
    await (await up.asked()).send(body(bytes(size)))
    assert len((await response(client)).body) == size


async def test_a_table_may_be_answered_by_a_stream(up):
    async with session(up.services) as (client, _):
        await greet(client)
        request = HttpRequest(method="POST", url=URL, body=EVERY_BYTE)
        await client.send(table_request(1, request, response_mode=ResponseMode.STREAM))
        peer = await up.peer()
        assert (await peer.request()).endswith(EVERY_BYTE)
        await peer.send(body(EVERY_BYTE[::-1]))
        stream = await delivered(client)
        assert (stream.data, stream.error_class) == (EVERY_BYTE[::-1], ErrorClass.SUCCESS)
