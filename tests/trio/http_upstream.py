"""An upstream on 127.0.0.1 that follows a script, a proxy's tunnel, and a client made of the runtime's own parts."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
import trustme

from vastar_runtime.errors import UpstreamError
from vastar_runtime.http.dial import Dialer
from vastar_runtime.http.exchange import Exchange
from vastar_runtime.http.pool import Pool, PoolStatistics
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.http.request import build_request
from vastar_runtime.http.response import ResponseHead
from vastar_runtime.http.url import parse_url

IDLE = PoolStatistics(active=0, waiting=0, idle=0)


class Received(msgspec.Struct):
    """A request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2
        return values[0] if values else None


class Peer:
    """The upstream's side of one connection."""

    def __init__(self, upstream: Upstream, stream: trio.abc.Stream, number: int) -> None:
        self.upstream = upstream
        self.stream = stream
        self.number = number
        self._buffer = b""

    async def request_head(self) -> Received | None:
        """The next request without its body; None when the client has closed."""
        while b"\r\n\r\n" not in self._buffer:
            data = await self.stream.receive_some()
            if not data:
                return None
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        assert version == "HTTP/1.1"
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        request = Received(method, target, headers, b"")
        self.upstream.requests.append(request)
        return request

    async def request(self) -> Received | None:
        request = await self.request_head()
        if request is not None:
            length = int(request.header("content-length") or 0)
            while len(self._buffer) < length:
                data = await self.stream.receive_some()
                assert data, "the client closed inside its request's body"
                self._buffer += data
            request.body, self._buffer = self._buffer[:length], self._buffer[length:]
        return request

    async def rest_of_body(self, length: int, then: Callable[[bytes], Awaitable[None]] | None = None) -> None:
        """Read the body of the request whose head has been read; ``then`` gets each part of it."""
        body = bytearray()
        part, self._buffer = self._buffer, b""
        while True:
            body += part
            if then is not None:
                await then(part)
            if len(body) == length:
                break
            part = bytes(await self.stream.receive_some())
            assert part, "the client closed inside its request's body"
        self.upstream.requests[-1].body = bytes(body)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def answer(self, body: bytes = b"", *, status: int = 200, headers: str = "") -> None:
        head = f"HTTP/1.1 {status} Any\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        await self.send(head.encode() + body)

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        with contextlib.suppress(trio.BrokenResourceError):
            while await self.stream.receive_some():
                pass

    async def reset(self) -> None:
        """Close with RST, as a process that dies with unread data does."""
        stream = self.stream
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await trio.aclose_forcefully(stream)


class Resolver(trio.abc.HostnameResolver):
    """Every name is this address."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[bytes | str | None] = []

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        self.asked.append(host)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)) for address in self.addresses
        ]

    async def getnameinfo(self, sockaddr, flags):
        raise AssertionError("no story looks a name up backwards")


Script = Callable[[Peer], Awaitable[None]]


async def hello(peer: Peer) -> None:
    """Answer every request with "hello", and keep the connection."""
    while await peer.request():
        await peer.answer(b"hello")


def say(*answers: bytes) -> Script:
    """Answer the requests of a connection with these bytes, one after the other, then close."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)

    return script


class Upstream:
    """Runs the n-th script for the n-th connection, and the last one for all further ones.

    Attributes:
        requests: what came, over all connections.
        connections: how many were accepted.
        open_connections: how many of them are still being served.
    """

    def __init__(self, scripts: tuple[Script, ...], tls: ssl.SSLContext | None) -> None:
        self.requests: list[Received] = []
        self.connections = self.open_connections = 0
        self.port = 0
        self._scripts = scripts
        self._tls = tls

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}{path}"

    async def listen(self, nursery: trio.Nursery) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, self._serve, listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        self.open_connections += 1
        try:
            secured: trio.abc.Stream = stream
            if self._tls is not None:
                secured = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
            # A client that breaks off is part of many stories; what it then reports is what they assert.
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await script(Peer(self, secured, self.connections))
        finally:
            self.open_connections -= 1
            await trio.aclose_forcefully(stream)


async def start_upstream(nursery: trio.Nursery, *scripts: Script, tls: ssl.SSLContext | None = None) -> Upstream:
    upstream = Upstream(scripts, tls)
    await upstream.listen(nursery)
    return upstream


def tunnel_to(port: int) -> Script:
    """A proxy that tunnels every CONNECT to this port of 127.0.0.1, whatever name was asked for."""

    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request is None:
            return
        assert request.method == "CONNECT"
        async with await trio.open_tcp_stream("127.0.0.1", port) as behind, trio.open_nursery() as nursery:
            await peer.send(b"HTTP/1.1 200 Connected\r\nVia: 1.1 tunnel\r\n\r\n")
            nursery.start_soon(_pump, peer.stream, behind, nursery.cancel_scope)
            nursery.start_soon(_pump, behind, peer.stream, nursery.cancel_scope)

    return script


async def _pump(source: trio.abc.Stream, sink: trio.abc.Stream, both: trio.CancelScope) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        while data := await source.receive_some():
            await sink.send_all(data)
    both.cancel()


class Answer(msgspec.Struct):
    """An exchange's head and its whole body."""

    head: ResponseHead
    body: bytes

    @property
    def status(self) -> int:
        return self.head.status_code

    def header(self, name: str) -> str | None:
        return next((value.decode() for key, value in self.head.headers if key == name.encode()), None)


async def pieces_of(exchange: Exchange) -> AsyncIterator[bytes]:
    while (piece := await exchange.receive()) is not None:
        yield piece


class Client:
    """A pool and a dialer, as the daemon has them."""

    def __init__(
        self, environ: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None, **pool_options: Any
    ) -> None:
        self.pool = Pool(**pool_options)
        self.dialer = Dialer(Proxies(environ or {}), partial(_given, tls))
        self.waits: list[str] = []  # everything that was ever waited for

    def exchange(
        self,
        url: str,
        method: str = "GET",
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        tenant: str = "tenant",
    ) -> Exchange:
        request = build_request(method, parse_url(url), headers, body)
        return Exchange(self.pool, self.dialer, tenant, request, self.waits.append)

    async def fetch(self, url: str, method: str = "GET", **options: Any) -> Answer:
        exchange = self.exchange(url, method, **options)
        try:
            await exchange.open()
            return Answer(exchange.head, b"".join([piece async for piece in pieces_of(exchange)]))
        finally:
            await exchange.close()


def _given(tls: ssl.SSLContext | None) -> ssl.SSLContext:
    assert tls is not None, "this story has no TLS"
    return tls


def start_client(nursery: trio.Nursery, *args: Any, **options: Any) -> Client:
    """A client whose idle connections are closed when the nursery ends."""
    client = Client(*args, **options)
    nursery.start_soon(client.pool.reap_forever)
    return client


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(*names: str, ca: trustme.CA | None = None, **options: Any) -> ssl.SSLContext:
    """A server's context, with a certificate for these names (default: 127.0.0.1)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (ca or authority()).issue_cert(*(names or ("127.0.0.1",)), **options).configure_cert(context)
    return context


def client_tls() -> ssl.SSLContext:
    """A client's context that trusts the authority of ``server_tls``, and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


async def failure(client: Client, url: str, method: str = "GET", **options: Any) -> UpstreamError:
    """The error of a request that fails; no slot may be left over."""
    with pytest.raises(UpstreamError) as caught:
        await client.fetch(url, method, **options)
    statistics = client.pool.statistics()
    assert (statistics.active, statistics.waiting) == (0, 0)
    return caught.value


class World:
    """A client and upstreams, all with TLS or all without."""

    def __init__(self, nursery: trio.Nursery, has_tls: bool) -> None:
        self._nursery = nursery
        self._tls = server_tls() if has_tls else None
        self.client = start_client(nursery, tls=client_tls() if has_tls else None)

    async def upstream(self, *scripts: Script) -> Upstream:
        return await start_upstream(self._nursery, *scripts, tls=self._tls)
