"""An upstream that does what a test tells it to, on a real socket of 127.0.0.1 (or ::1)."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h11
import trio

PATIENCE_S = 20


@dataclass
class Request:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Its one value; names are compared in lower case."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) <= 1, self.headers
        return values[0] if values else None


class Peer:
    """The upstream's side of one connection."""

    def __init__(self, stream: trio.abc.Stream, upstream: Upstream) -> None:
        self.stream = stream
        self._upstream = upstream
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)

    async def request(self) -> Request | None:
        """The next request, whole; None when the daemon has closed the connection."""
        if self._h11.our_state is h11.SEND_RESPONSE:  # the answer went out as bytes: tell h11
            self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        request: Request | None = None
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                try:
                    data = await self.stream.receive_some()
                except trio.BrokenResourceError:
                    return None
                self._h11.receive_data(data)
            elif isinstance(event, h11.Request):
                headers = [(name.decode(), value.decode()) for name, value in event.headers.raw_items()]
                request = Request(event.method.decode(), event.target.decode(), headers)
            elif isinstance(event, h11.Data):
                assert request is not None
                request.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                self._upstream.requests.append(request)
                self._upstream.asked.set()
                return request
            else:
                return None

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def respond(
        self, body: bytes = b"", *, status: int = 200, headers: Iterable[tuple[str, str]] = (), length: bool = True
    ) -> None:
        """A response, whole."""
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
        if length:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def gone(self) -> None:
        """Return once the daemon has closed the connection."""
        with trio.fail_after(PATIENCE_S), contextlib.suppress(trio.BrokenResourceError):
            while await self.stream.receive_some():
                pass

    def reset(self) -> None:
        """Let the close be a RST instead of a FIN."""
        assert isinstance(self.stream, trio.SocketStream)
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Upstream:
    origin: str
    port: int
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    asked: trio.Event = field(default_factory=trio.Event)  # set by the first request

    @property
    def address(self) -> str:
        return self.origin.partition("://")[2]

    @property
    def last(self) -> Request:
        return self.requests[-1]


@asynccontextmanager
async def upstream(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Upstream]:
    """Serve ``script``, once for each connection, on a free port; an error in it fails the test."""

    async def serve(stream: trio.abc.Stream) -> None:
        running.connections += 1
        if tls is not None:
            stream = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        try:
            await script(Peer(stream, running))
        except trio.BrokenResourceError:
            pass  # the daemon has gone; what that means is said by the test
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host=host))
        port = listeners[0].socket.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        running = Upstream(f"{'http' if tls is None else 'https'}://{name}:{port}", port)
        yield running
        nursery.cancel_scope.cancel()


# --- scripts ---


def answering(answer: Callable[[Request], dict[str, Any]]) -> Script:
    """Answers every request with ``Peer.respond(**answer(request))``, keeping the connection."""

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            await peer.respond(**answer(request))

    return script


def always(body: bytes = b"", **response: Any) -> Script:
    """The same response to every request."""
    return answering(lambda _: {"body": body, **response})


def sending(data: bytes, *, then: Callable[[Peer], Awaitable[None]] | None = None) -> Script:
    """Reads one request, sends these bytes, then closes (or does what ``then`` says first)."""

    async def script(peer: Peer) -> None:
        if await peer.request() is not None:
            await peer.send(data)
            if then is not None:
                await then(peer)

    return script


async def hold(peer: Peer) -> None:
    """Keep the connection open until the daemon closes it."""
    await peer.gone()


async def silent(peer: Peer) -> None:
    """Reads, and never answers."""
    await peer.gone()


echo = answering(
    lambda request: {
        "body": json.dumps(
            {
                "method": request.method,
                "path": request.target,
                "headers": request.headers,
                "body": request.body.decode("latin-1"),
            }
        ).encode(),
        "headers": [("Content-Type", "application/json; charset=utf-8")],
    }
)
