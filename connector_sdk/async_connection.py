"""One connection to the daemon that many exchanges share, on anyio: one task reads, one writes, none waits for another.

The rules are those of ``wire.client_connection``.
"""

from __future__ import annotations

import socket
import time
from collections import deque

import anyio
import anyio.abc
import anyio.to_thread

from .config import RuntimeConfig
from .connection import (
    AGENT,
    ANSWER_GRACE_MS,
    RECEIVE_BYTES,
    Answer,
    connect_limits,
    failure,
    no_greeting,
    nothing_came,
    unreadable,
)
from .dial import open_socket
from .errors import ConnectorException
from .streaming import closed_early
from .wire import (
    BodyChunk,
    Cancel,
    CreditUpdate,
    ExecuteRequest,
    ExecuteResponse,
    GoAway,
    ProtocolError,
    RemoteProtocolError,
    ResponseHead,
)
from .wire.client_connection import ClientConnection, ClientEvent, Peer
from .wire.daemon_connection import MAX_REQUESTS_IN_FLIGHT

_FAILURES = (OSError, EOFError, ProtocolError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


class Exchange:
    """One request on a connection: what has come for it and nobody has taken yet.

    Holds at most the stream's window: credit goes back as messages are used up.
    """

    def __init__(self, request_id: int, timeout_ms: int) -> None:
        self.request_id = request_id
        self.timeout_ms = timeout_ms
        self.deadline = time.monotonic() + (timeout_ms + ANSWER_GRACE_MS) / 1000
        self.arrived: deque[Answer] = deque()
        self.is_abandoned = False
        self.news = anyio.Event()


class AsyncConnection:
    """See the module. Open one with ``open_connection``, and let ``run`` run beside its exchanges.

    Attributes:
        task: the one in which ``run`` runs; kept for whoever started it.
    """

    def __init__(self, stream: anyio.abc.ByteStream, endpoint: str) -> None:
        self.task: object = None
        self._stream = stream
        self._endpoint = endpoint
        self._wire = ClientConnection(AGENT)
        self._exchanges: dict[int, Exchange] = {}
        self._outgoing: deque[bytes] = deque()
        self._has_outgoing = anyio.Event()
        self._scope = anyio.CancelScope()
        self._failure: Exception | None = None
        self._has_ended = anyio.Event()
        self._admitted = MAX_REQUESTS_IN_FLIGHT

    @property
    def is_legacy(self) -> bool:
        """True when the existing runtime answers, which runs one request of a connection after another."""
        return self._wire.peer is Peer.LEGACY

    @property
    def is_usable(self) -> bool:
        """True when one more request may be sent."""
        return self.is_open and not self._wire.is_going_away and self._wire.in_flight < self._admitted

    @property
    def is_open(self) -> bool:
        """False once it is lost or closed."""
        return self._failure is None

    @property
    def is_idle(self) -> bool:
        """True when no exchange is in flight."""
        return self._wire.in_flight == 0

    async def meet(self) -> None:
        """Exchange Hello."""
        await self._stream.send(self._wire.start())
        while self._wire.next_event() is None:
            self._wire.receive_data(await self._stream.receive(RECEIVE_BYTES))
        if self.is_legacy:
            self._admitted = 1
        self._take_events()  # what came with the Hello

    async def run(self) -> None:
        """Read and write until the connection is lost or closed. Its exchanges learn of it; nothing is raised."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._read)
                    tasks.start_soon(self._write)
        finally:
            self._fail(EOFError("the event loop has ended"))
            await anyio.aclose_forcefully(self._stream)
            self._has_ended.set()

    def close(self) -> None:
        """End the connection and all that is in flight on it."""
        self._fail(EOFError("the client was closed"))

    async def aclose(self) -> None:
        """As ``close``; returns once nothing is left of it."""
        self.close()
        with anyio.CancelScope(shield=True):  # only ``run`` is waited for, and that waits for nobody
            await self._has_ended.wait()

    def begin(self, request: ExecuteRequest, timeout_ms: int) -> Exchange:
        """Have a request sent.

        Raises:
            ConnectorException: INVALID_REQUEST, it cannot be sent; TRANSIENT, the connection was lost.
        """
        exchange = Exchange(request.request_id, timeout_ms)
        try:
            if self._failure is not None:
                raise self._failure
            self._put(self._wire.send(request))
        except _FAILURES as error:
            raise failure(error, self._endpoint, request.request_id, timeout_ms) from error
        self._exchanges[request.request_id] = exchange
        return exchange

    async def receive(self, exchange: Exchange, within_ms: int | None = None) -> Answer:
        """Wait for the next message of an exchange, at most ``within_ms``.

        Raises:
            ConnectorException: as ``connection.Connection.receive``.
        """
        left_s = max(exchange.deadline - time.monotonic(), 0)
        wait_s = left_s if within_ms is None else min(left_s, within_ms / 1000)
        if not exchange.arrived:
            with anyio.move_on_after(wait_s):
                while not exchange.arrived and self._failure is None and not exchange.is_abandoned:
                    exchange.news = anyio.Event()
                    await exchange.news.wait()
        if exchange.is_abandoned:
            raise closed_early(exchange.request_id)
        if exchange.arrived:
            return exchange.arrived.popleft()
        if self._failure is None and within_ms is not None and wait_s < left_s:
            raise nothing_came(within_ms, exchange.request_id)
        error = self._failure or TimeoutError()
        if isinstance(error, ConnectorException):
            raise ConnectorException(error.message, error.error_class, exchange.request_id) from error
        raise failure(error, self._endpoint, exchange.request_id, exchange.timeout_ms) from error

    def consumed(self, exchange: Exchange, size: int) -> None:
        """The application has consumed so much of the exchange's body: the daemon may send on."""
        self._put(self._wire.consumed(exchange.request_id, size))

    def abandon(self, exchange: Exchange) -> None:
        """The exchange's messages are not wanted any more: cancel it unless it has ended. Never waits."""
        exchange.is_abandoned = True
        exchange.news.set()  # for a task that waits while another one closes the response
        if self._exchanges.pop(exchange.request_id, None) is None or self._failure is not None:
            return
        if self.is_legacy:
            self.close()  # it knows no other way to stop, and nothing else is in flight on it
        else:
            self._put(self._wire.send(Cancel(request_id=exchange.request_id)))

    def _put(self, data: bytes) -> None:
        if data:
            self._outgoing.append(data)
            self._has_outgoing.set()

    async def _write(self) -> None:
        try:
            while True:
                while self._outgoing:
                    await self._stream.send(self._outgoing.popleft())
                self._has_outgoing = anyio.Event()
                await self._has_outgoing.wait()
        except _FAILURES:
            pass  # what the daemon sent before it went is still to be read, and the reader tells the rest

    async def _read(self) -> None:
        try:
            while True:
                self._wire.receive_data(await self._stream.receive(RECEIVE_BYTES))
                self._take_events()
        except (*_FAILURES, ConnectorException) as error:
            self._fail(_cause(error))

    def _take_events(self) -> None:
        while (event := self._wire.next_event()) is not None:
            self._take(event)

    def _take(self, event: ClientEvent) -> None:
        if isinstance(event, CreditUpdate) and event.total_credits:
            self._admitted = event.total_credits  # how many requests the daemon takes at once (protocol.md, rule 6)
        if isinstance(event, CreditUpdate | GoAway):
            return
        if not isinstance(event, Answer):
            raise RemoteProtocolError(f"{type(event).__name__}, which nobody asked for")
        if event.request_id == 0 and isinstance(event, ExecuteResponse):
            raise unreadable(event, 0)  # nobody knows whose request it was
        if isinstance(event, BodyChunk | ResponseHead):
            exchange = self._exchanges.get(event.request_id)
        else:
            exchange = self._exchanges.pop(event.request_id, None)
        if exchange is not None:  # else nobody waits for it any more
            exchange.arrived.append(event)
            exchange.news.set()

    def _fail(self, error: Exception) -> None:
        if self._failure is not None:
            return
        self._failure = error
        for exchange in self._exchanges.values():
            exchange.news.set()
        self._exchanges.clear()
        self._scope.cancel()


async def open_connection(config: RuntimeConfig, timeout_ms: int, connect_ms: int | None = None) -> AsyncConnection:
    """A connection on which both ends know each other; its ``run`` is yet to be started. Arguments as ``Connection``'s.

    Raises:
        ConnectorException: as ``connection.Connection``.
    """
    connect_ms, greeting_ms = connect_limits(timeout_ms, connect_ms)
    sock = await anyio.to_thread.run_sync(open_socket, config, connect_ms / 1000)
    stream: anyio.abc.ByteStream
    try:
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            stream = await anyio.abc.UNIXSocketStream.from_socket(sock)
        else:
            stream = await anyio.abc.SocketStream.from_socket(sock)
    except BaseException:
        sock.close()
        raise
    connection = AsyncConnection(stream, config.endpoint)
    try:
        with anyio.fail_after(greeting_ms / 1000):
            await connection.meet()
    except BaseException as error:
        await anyio.aclose_forcefully(stream)
        if isinstance(error, TimeoutError):
            raise no_greeting(config.endpoint, greeting_ms) from error
        if isinstance(error, _FAILURES):
            raise failure(_cause(error), config.endpoint, 0, 0) from error
        raise
    return connection


def _cause(error: Exception) -> Exception:
    """What an error of anyio's streams stands for."""
    if isinstance(error, anyio.EndOfStream):
        return EOFError("it was closed before the answer was complete")
    if isinstance(error, anyio.BrokenResourceError | anyio.ClosedResourceError):
        return error.__cause__ if isinstance(error.__cause__, OSError) else EOFError("it broke")
    return error
