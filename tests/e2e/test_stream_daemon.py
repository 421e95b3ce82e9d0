"""Streams through the real daemon, over real sockets, from a real upstream that a test leads step by step."""

import signal
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from daemon_process import daemon
from stream_client import CHUNKED, OK, chunk, delivered, end, greet, head, piece, stream_request, table_request
from trio.testing import wait_all_tasks_blocked
from upstream import Peer, Upstream, answering, upstream
from wire_client import connected, execute_request

from connector_sdk.wire import (
    Cancel,
    CreditUpdate,
    ErrorClass,
    ExecuteResponse,
    GoAway,
    HttpRequest,
    HttpResponse,
    ResponseHead,
    ResponseMode,
)
from connector_sdk.wire.messages import HTTP_RESPONSE_CODEC

MEBIBYTE = 1024 * 1024
QUIET_S = 0.2  # all tasks of the test are blocked for so long: the sockets between them and the daemon are at rest


@pytest.fixture(params=["unix", "tcp"])
async def client(running, request):
    async with connected(running.socket_path if request.param == "unix" else running.tcp_port) as client:
        await greet(client)
        yield client


class Led:
    """An upstream whose connections are handed to the test once their first request is read."""

    def __init__(self, up: Upstream, asked: trio.MemoryReceiveChannel[Peer]) -> None:
        self.url = f"{up.origin}/path"
        self.address = up.address
        self.upstream = up
        self.asked = asked.receive


@asynccontextmanager
async def led() -> AsyncIterator[Led]:
    arrived, arrivals = trio.open_memory_channel[Peer](100)

    async def script(peer: Peer) -> None:
        await peer.request()
        await arrived.send(peer)
        await trio.sleep_forever()

    async with upstream(script) as up:
        yield Led(up, arrivals)


async def test_the_head_comes_before_the_body_and_each_piece_before_the_next_is_sent(client):
    async with led() as up:
        await client.send(stream_request(1, up.url))
        peer = await up.asked()
        await peer.send(CHUNKED)
        assert (await head(client)).status_code == 200
        for text in (b"one", b"two", b"three"):
            await peer.send(chunk(text))
            assert await piece(client) == text
        await peer.send(chunk(b""))
        last = await end(client)
        assert (last.error_class, last.attempts) == (ErrorClass.SUCCESS, 1)


async def test_a_compressed_body_behind_a_redirect_is_decoded_as_it_arrives(client):
    packer = zlib.compressobj(wbits=31)
    async with (
        led() as up,
        upstream(answering(lambda _: {"status": 302, "headers": [("Location", up.url)]})) as first,
    ):
        await client.send(stream_request(1, first.origin))
        peer = await up.asked()
        await peer.send(OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert (await head(client)).attempts == 2
        for text in (b"first", b"second"):
            await peer.send(chunk(packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)))
            assert await piece(client) == text
        await peer.send(chunk(packer.flush()) + chunk(b""))
        assert (await end(client)).error_class is ErrorClass.SUCCESS


async def cut(peer: Peer) -> None:
    await peer.stream.aclose()


async def reset(peer: Peer) -> None:
    peer.reset()
    await peer.stream.aclose()


async def stop(peer: Peer) -> None:
    """Nothing more comes, and the connection stays."""


BREAKS = {
    "cut": (cut, ErrorClass.TRANSIENT, "cut the response body short"),
    "reset": (reset, ErrorClass.TRANSIENT, "was reset inside the response body"),
    "stops": (stop, ErrorClass.TIMEOUT, "500 ms passed (timeout_ms) while reading the response body"),
}


@pytest.mark.parametrize(("break_off", "error_class", "words"), BREAKS.values(), ids=BREAKS)
async def test_a_body_that_breaks_off_ends_the_stream_and_what_came_before_stands(
    client, break_off, error_class, words
):
    async with led() as up:
        await client.send(stream_request(1, up.url, parameters={"timeout_ms": 500}))
        peer = await up.asked()
        await peer.send(CHUNKED + b"a\r\nhalf")
        await head(client)
        assert await piece(client) == b"half"
        await break_off(peer)
        last = await end(client)
        assert last.error_class is error_class
        assert words in last.error_message
        assert up.address in last.error_message


async def test_nobody_listening_is_an_end_alone(client):
    async with led() as up:
        url = up.url
    await client.send(stream_request(1, url))
    last = await end(client)
    assert last.error_class is ErrorClass.TRANSIENT
    assert "refused" in last.error_message.lower()


async def test_a_table_carries_any_bytes_and_repeated_headers_both_ways(client):
    every_byte = bytes(range(256))
    headers = [("Set-Cookie", "a=1"), ("X", "y"), ("Set-Cookie", "b=2")]
    async with upstream(answering(lambda request: {"body": request.body[::-1], "headers": headers})) as up:
        request = HttpRequest(
            method="POST", url=up.origin, headers=(("X-A", "1"), ("X-B", "2"), ("X-A", "3")), body=every_byte
        )
        await client.send(table_request(1, request))
        answer = await client.receive()
        assert isinstance(answer, ExecuteResponse)
        assert answer.error_class is ErrorClass.SUCCESS
        response = HTTP_RESPONSE_CODEC.decode(answer.payload)
        assert isinstance(response, HttpResponse)
        assert (response.status_code, response.body, response.is_streaming) == (200, every_byte[::-1], False)
        assert [pair for pair in response.headers if pair[0] != "content-length"] == [
            (name.lower(), value) for name, value in headers
        ]
        assert up.last.body == every_byte
        sent = [(name.lower(), value) for name, value in up.last.headers]
        assert [pair for pair in sent if pair[0] in ("x-a", "x-b")] == [("x-a", "1"), ("x-b", "2"), ("x-a", "3")]

        await client.send(table_request(2, request, response_mode=ResponseMode.STREAM))
        assert (await delivered(client, 2)).data == every_byte[::-1]


async def test_a_stream_without_credit_blocks_its_upstream_and_the_others_of_the_connection_go_on(client):
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(OK + b"\r\n")
        while True:
            await peer.send(bytes(65_536))
            sent += 65_536

    async with upstream(flood) as endless, led() as up:
        await client.send(stream_request(1, endless.origin))
        await head(client)
        received = 0
        while received < 256 * 1024:
            received += len(await piece(client))
        assert received == 256 * 1024
        blocked_at = -1
        while sent != blocked_at:  # a busy machine fills the buffers on the way late
            blocked_at = sent
            await wait_all_tasks_blocked(QUIET_S)

        await client.send(stream_request(2, up.url))
        peer = await up.asked()
        await peer.send(CHUNKED)
        await head(client, 2)
        for _ in range(20):
            await peer.send(chunk(bytes(65_536)))
            got = 0
            while got < 65_536:
                got += len(await piece(client, 2))
            await client.send(CreditUpdate(request_id=2, credit_delta=got))
        await peer.send(chunk(b""))
        assert (await end(client, 2)).error_class is ErrorClass.SUCCESS
        assert sent == blocked_at

        granted = 16 * MEBIBYTE
        await client.send(CreditUpdate(request_id=1, credit_delta=granted))
        while granted:
            granted -= len(await piece(client))
        assert sent > blocked_at
        await client.send(Cancel(request_id=1))
        assert (await end(client)).error_class is ErrorClass.CANCELLED


async def test_fifty_streams_at_once_each_get_their_own_bytes(client):
    async with upstream(answering(lambda request: {"body": request.target.encode() * 20_000})) as up:
        numbers = range(1, 51)
        await client.send(*(stream_request(number, f"{up.origin}/{number:02}") for number in numbers))
        received = dict.fromkeys(numbers, b"")
        unfinished = set(numbers)
        while unfinished:
            message = await client.receive()
            data = getattr(message, "data", None)
            if data is not None:
                received[message.request_id] += data
            elif hasattr(message, "error_class"):
                assert message.error_class is ErrorClass.SUCCESS
                unfinished.remove(message.request_id)
        assert all(received[number] == f"/{number:02}".encode() * 20_000 for number in numbers)


async def test_a_client_that_stops_reading_its_socket_costs_the_others_nothing(running):
    async def flood(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"\r\n")
        while True:
            await peer.send(bytes(65_536))

    async with (
        upstream(flood) as endless,
        led() as up,
        running.connect() as stuck,
        running.connect() as client,
    ):
        await greet(stuck, window_bytes=4 * MEBIBYTE)
        await stuck.send(*(stream_request(number, endless.origin) for number in range(1, 9)))
        await wait_all_tasks_blocked(QUIET_S)
        await greet(client)
        await client.send(stream_request(1, up.url))
        peer = await up.asked()
        await peer.send(CHUNKED + chunk(b"fine") + chunk(b""))
        assert (await delivered(client)).data == b"fine"


async def test_a_drain_tells_of_itself_lets_streams_finish_and_takes_no_new_ones():
    async with led() as up:
        with daemon() as process:
            async with process.connect() as client, process.connect() as legacy:
                await greet(client)
                await legacy.health()
                await client.send(stream_request(1, up.url))
                peer = await up.asked()
                await peer.send(CHUNKED + chunk(b"before"))
                await head(client)
                assert await piece(client) == b"before"
                process.signal(signal.SIGTERM)
                assert isinstance(await client.receive(), GoAway)
                await legacy.end()
                await client.send(stream_request(2, up.url), execute_request(3, {"url": up.url}))
                assert (await end(client, 2)).error_class is ErrorClass.TRANSIENT
                assert (await client.answer()).error_class is ErrorClass.TRANSIENT
                await peer.send(chunk(b"after") + chunk(b""))
                assert await piece(client) == b"after"
                assert (await end(client)).error_class is ErrorClass.SUCCESS
                await client.end()
            assert process.wait() == 0
            assert "internal error" not in process.log


async def test_a_client_that_has_ended_its_sending_still_gets_its_streams(running):
    async with running.connect() as client, led() as up:
        await greet(client)
        await client.send(stream_request(1, up.url))
        peer = await up.asked()
        await client.stream.send_eof()
        await peer.send(CHUNKED + chunk(b"late") + chunk(b""))
        message = await client.receive()
        while isinstance(message, GoAway):
            message = await client.receive()
        assert isinstance(message, ResponseHead)
        assert await piece(client) == b"late"
        assert (await end(client)).error_class is ErrorClass.SUCCESS
        await client.end()


async def test_a_byte_at_a_time_is_delivered_a_byte_at_a_time(client):
    async with led() as up:
        await client.send(stream_request(1, up.url))
        peer = await up.asked()
        await peer.send(OK + b"Content-Length: 100\r\n\r\n")
        await head(client)
        for _ in range(100):
            await peer.send(b"x")
            assert await piece(client) == b"x"
        assert (await end(client)).error_class is ErrorClass.SUCCESS
