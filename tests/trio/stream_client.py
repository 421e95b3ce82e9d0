"""Helpers of the stories about streams: a client that said Hello, and an upstream on memory streams that a test leads
step by step."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from session_under_test import MemoryDialer, sockets
from wire_client import WireClient, execute_request

from connector_sdk.wire import (
    BodyChunk,
    CreditUpdate,
    ErrorClass,
    ExecuteRequest,
    Hello,
    HttpRequest,
    PayloadFormat,
    ResponseEnd,
    ResponseHead,
    ResponseMode,
)
from connector_sdk.wire.messages import HTTP_REQUEST_CODEC
from vastar_runtime.connectors import Services
from vastar_runtime.http.pool import Pool, PoolKey
from vastar_runtime.http.prompt_connection import PromptConnection
from vastar_runtime.http.url import parse_url

PATIENCE_S = 5
HOST = "upstream.test:81"
URL = f"http://{HOST}/path"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of HTTP/1.1; of nothing it is the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def body(data: bytes) -> bytes:
    """A response with this body."""
    return OK + b"Content-Length: %d\r\n\r\n%s" % (len(data), data)


def stream_request(request_id: int, url: str = URL, *, parameters: dict[str, Any] | None = None, **fields: Any):
    """A Stream request with a JSON payload."""
    return execute_request(request_id, {"url": url, **(parameters or {})}, response_mode=ResponseMode.STREAM, **fields)


def table_request(request_id: int, request: HttpRequest | bytes, **fields: Any) -> ExecuteRequest:
    """A request with a table as payload."""
    payload = request if isinstance(request, bytes) else HTTP_REQUEST_CODEC.encode(request)
    return execute_request(request_id, payload, payload_format=PayloadFormat.HTTP_REQUEST, **fields)


async def greet(client: WireClient, window_bytes: int = 0) -> Hello:
    """Say Hello; the daemon's."""
    await client.send(Hello(protocol_version=1, agent="test", stream_window_bytes=window_bytes))
    hello = await client.receive()
    assert isinstance(hello, Hello), hello
    credit = await client.receive()
    assert isinstance(credit, CreditUpdate), credit
    assert credit.request_id == 0
    return hello


async def head(client: WireClient, request_id: int = 1) -> ResponseHead:
    message = await client.receive()
    assert isinstance(message, ResponseHead), message
    assert message.request_id == request_id
    return message


async def piece(client: WireClient, request_id: int = 1) -> bytes:
    message = await client.receive()
    assert isinstance(message, BodyChunk), message
    assert message.request_id == request_id
    assert message.data
    return message.data


async def end(client: WireClient, request_id: int = 1) -> ResponseEnd:
    message = await client.receive()
    assert isinstance(message, ResponseEnd), message
    assert message.request_id == request_id
    return message


@dataclass
class Delivered:
    """A streamed answer, whole."""

    head: ResponseHead | None = None
    pieces: list[bytes] = field(default_factory=list)
    end: ResponseEnd | None = None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def error_class(self) -> ErrorClass:
        assert self.end is not None
        return self.end.error_class

    @property
    def message(self) -> str:
        assert self.end is not None
        return self.end.error_message or ""


async def delivered(client: WireClient, request_id: int = 1, *, is_begun: bool = False) -> Delivered:
    """Read one stream to its end, giving back credit for every chunk at once.

    Args:
        is_begun: its head has been read.
    """
    stream = Delivered()
    while stream.end is None:
        match await client.receive():
            case ResponseHead(request_id=of) as message:
                assert of == request_id
                assert stream.head is None
                stream.head = message
            case BodyChunk(request_id=of, data=data):
                assert of == request_id
                assert is_begun or stream.head is not None
                assert data
                stream.pieces.append(data)
                await client.send(CreditUpdate(request_id=request_id, credit_delta=len(data)))
            case ResponseEnd(request_id=of) as message:
                assert of == request_id
                stream.end = message
            case other:
                raise AssertionError(other)
    return stream


class MemoryPeer:
    """The upstream's side of one connection."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def request(self) -> bytes:
        """The next request's head and body, as they came."""
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        request_head = bytes(self._buffer.partition(b"\r\n\r\n")[0])
        lengths = [line for line in request_head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        size = len(request_head) + 4 + (int(lengths[0].partition(b":")[2]) if lengths else 0)
        while len(self._buffer) < size:
            await self._more()
        request = bytes(self._buffer[:size])
        del self._buffer[:size]
        return request

    async def _more(self) -> None:
        data = await self._stream.receive_some()
        assert data, "the daemon has closed the connection"
        self._buffer += data

    async def send(self, *data: bytes) -> None:
        """Each of these as an arrival of its own."""
        for piece in data:
            await self._stream.send_all(piece)

    async def close(self) -> None:
        await self._stream.aclose()

    async def gone(self) -> None:
        """Return once the daemon has closed the connection."""
        with trio.fail_after(PATIENCE_S):
            while await self._stream.receive_some():
                pass


class MemoryUpstream:
    """Waits for the test at every step.

    Args:
        pair: lockstep streams let ``MemoryPeer.send`` wait until the daemon has read all of it.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        pool: Pool | None = None,
        pair: Callable[[], tuple[Any, Any]] = trio.testing.memory_stream_pair,
    ) -> None:
        self.pool = pool or Pool()
        dialer = MemoryDialer(nursery, self._accept)
        dialer.pair = pair
        self.services = Services(self.pool, dialer)  # type: ignore[arg-type]
        self._streams: list[trio.abc.Stream] = []
        self._arrived, self._arrivals = trio.open_memory_channel[MemoryPeer](1024)

    async def _accept(self, stream: trio.abc.Stream) -> None:
        self._streams.append(stream)
        await self._arrived.send(MemoryPeer(stream))

    async def keep_one(self) -> None:
        """The first connection is there already, over sockets: what comes over it needs no task at first."""
        ours, theirs = sockets()
        await self._accept(theirs)
        self.pool.keep_idle(PoolKey("tenant", parse_url(URL).origin), PromptConnection(ours, HOST))

    async def aclose(self) -> None:
        """Close what was kept."""
        for connection in self.pool.take_expired(math.inf):
            await connection.close()
        for stream in self._streams:
            await trio.aclose_forcefully(stream)

    async def peer(self) -> MemoryPeer:
        """The next connection."""
        return await self._arrivals.receive()

    async def asked(self) -> MemoryPeer:
        """The next connection, its first request read."""
        peer = await self.peer()
        await peer.request()
        return peer

    def is_idle(self) -> bool:
        """No slot is taken and none is waited for."""
        statistics = self.pool.statistics()
        return (statistics.active, statistics.waiting) == (0, 0)


@pytest.fixture(params=["connecting", "kept"])
async def up(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[MemoryUpstream]:
    """For a module whose stories are to hold over both: the first request's task connects; or the connection is there,
    and the request needs no task until something must be waited for."""
    upstream = MemoryUpstream(nursery)
    if request.param == "kept":
        await upstream.keep_one()
    yield upstream
    await upstream.aclose()
