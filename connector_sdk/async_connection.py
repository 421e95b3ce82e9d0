"""One connection to the daemon that many exchanges share, on anyio.

The rules are those of ``wire.client_connection``. One alarm serves all exchanges: a time limit costs the waiting for
one message nothing.
"""

from __future__ import annotations

import math
import time
from collections import deque

import anyio
import anyio.to_thread

from .async_socket import AsyncSocket
from .config import RuntimeConfig
from .connection import AGENT, ANSWERS, Answer
from .connection_errors import (
    ANSWER_GRACE_MS,
    FAILURES,
    closed_early,
    connect_limits,
    failure,
    no_greeting,
    nothing_came,
    unreadable,
)
from .dial import open_socket
from .errors import ConnectorException
from .wire import (
    BodyChunk,
    Cancel,
    CreditUpdate,
    ExecuteRequest,
    ExecuteResponse,
    GoAway,
    RemoteProtocolError,
    ResponseHead,
)
from .wire.client_connection import ClientConnection, ClientEvent, Peer
from .wire.daemon_connection import MAX_REQUESTS_IN_FLIGHT


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
        self.gives_up_at = math.inf  # when the waiting for the next message ends, and whether that time has come
        self.is_late = False
        self._news: anyio.Event | None = None

    async def wait(self) -> None:
        """Until ``wake``."""
        self._news = anyio.Event()
        await self._news.wait()

    def wake(self) -> None:
        """Tell who waits that there is news."""
        if self._news is not None:
            self._news.set()


class AsyncConnection:
    """See the module. Open one with ``open_connection``, and let ``run`` run beside its exchanges.

    Attributes:
        task: the one in which ``run`` runs; kept for whoever started it.
    """

    def __init__(self, sock: AsyncSocket, config: RuntimeConfig) -> None:
        self.task: object = None
        self._socket = sock
        self._endpoint = config.endpoint
        self._wire = ClientConnection(AGENT, config.stream_window_bytes)
        self._exchanges: dict[int, Exchange] = {}
        self._rings_at = math.inf
        self._rings_earlier = anyio.Event()
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
        self._socket.put(self._wire.start())
        while self._wire.next_event() is None:
            await self._socket.readable()
            self._wire.receive_data(self._socket.receive())
        if self.is_legacy:
            self._admitted = 1
        self._take_events()  # what came with the Hello

    async def run(self) -> None:
        """Read and write until the connection is lost or closed. Its exchanges learn of it; nothing is raised."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._socket.write)
                    tasks.start_soon(self._keep_time)
                    await self._socket.when_readable(self._read)
        finally:
            self._fail(EOFError("the event loop has ended"))
            self._socket.close()
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
            self._socket.put(self._wire.send(request))
        except FAILURES as error:
            raise failure(error, self._endpoint, request.request_id, timeout_ms) from error
        self._exchanges[request.request_id] = exchange
        return exchange

    async def receive(self, exchange: Exchange, within_ms: int | None = None) -> Answer:
        """Wait for the next message of an exchange, at most ``within_ms``.

        Raises:
            ConnectorException: as ``connection.Connection.receive``.
        """
        if not exchange.arrived:
            exchange.gives_up_at = exchange.deadline
            if within_ms is not None:
                exchange.gives_up_at = min(exchange.deadline, time.monotonic() + within_ms / 1000)
            await self._wait(exchange)
        if exchange.is_abandoned:
            raise closed_early(exchange.request_id)
        if exchange.arrived:
            return exchange.arrived.popleft()
        if self._failure is None and within_ms is not None and exchange.gives_up_at < exchange.deadline:
            raise nothing_came(within_ms, exchange.request_id)
        error = self._failure or TimeoutError()
        if isinstance(error, ConnectorException):
            raise ConnectorException(error.message, error.error_class, exchange.request_id) from error
        raise failure(error, self._endpoint, exchange.request_id, exchange.timeout_ms) from error

    def consumed(self, exchange: Exchange, size: int) -> None:
        """The application has consumed so much of the exchange's body: the daemon may send on."""
        self._socket.put(self._wire.consumed(exchange.request_id, size))

    def abandon(self, exchange: Exchange) -> None:
        """The exchange's messages are not wanted any more: cancel it unless it has ended. Never waits."""
        exchange.is_abandoned = True
        exchange.wake()  # for a task that waits while another one closes the response
        if self._exchanges.pop(exchange.request_id, None) is None or self._failure is not None:
            return
        if self.is_legacy:
            self.close()  # it knows no other way to stop, and nothing else is in flight on it
        else:
            self._socket.put(self._wire.send(Cancel(request_id=exchange.request_id)))

    def _read(self) -> None:
        try:
            self._wire.receive_data(self._socket.receive())
            self._take_events()
        except (*FAILURES, ConnectorException) as error:
            self._fail(error)

    async def _wait(self, exchange: Exchange) -> None:
        """Until a message is there, or the time is over, or nothing will come any more."""
        exchange.is_late = False
        if exchange.gives_up_at < self._rings_at:
            self._rings_at = exchange.gives_up_at
            self._rings_earlier.set()
        while not (exchange.arrived or self._failure or exchange.is_abandoned or exchange.is_late):
            await exchange.wait()

    async def _keep_time(self) -> None:
        while True:
            self._rings_earlier = anyio.Event()
            with anyio.move_on_after(self._rings_at - time.monotonic()):
                await self._rings_earlier.wait()
                continue
            self._ring()

    def _ring(self) -> None:
        """Tell every exchange whose time has come, and set the alarm for the next one.

        As limits are much the same, it goes off once in the time of a limit, and not once for each message.
        """
        now = time.monotonic()
        self._rings_at = math.inf
        for exchange in self._exchanges.values():
            if exchange.gives_up_at <= now:
                exchange.is_late = True
                exchange.wake()
            else:
                self._rings_at = min(self._rings_at, exchange.gives_up_at)

    def _take_events(self) -> None:
        while (event := self._wire.next_event()) is not None:
            self._take(event)

    def _take(self, event: ClientEvent) -> None:
        if isinstance(event, CreditUpdate) and event.total_credits:
            self._admitted = event.total_credits  # how many requests the daemon takes at once (protocol.md, rule 6)
        if isinstance(event, (CreditUpdate, GoAway)):
            return
        if not isinstance(event, ANSWERS):
            raise RemoteProtocolError(f"{type(event).__name__}, which nobody asked for")
        if event.request_id == 0 and isinstance(event, ExecuteResponse):
            raise unreadable(event, 0)  # nobody knows whose request it was
        if isinstance(event, (BodyChunk, ResponseHead)):
            exchange = self._exchanges.get(event.request_id)
        else:
            exchange = self._exchanges.pop(event.request_id, None)
        if exchange is not None:  # else nobody waits for it any more
            exchange.arrived.append(event)
            exchange.wake()

    def _fail(self, error: Exception) -> None:
        if self._failure is not None:
            return
        self._failure = error
        for exchange in self._exchanges.values():
            exchange.wake()
        self._exchanges.clear()
        self._scope.cancel()


async def open_connection(config: RuntimeConfig, timeout_ms: int, connect_ms: int | None = None) -> AsyncConnection:
    """A connection on which both ends know each other; its ``run`` is yet to be started. Arguments as ``Connection``'s.

    Raises:
        ConnectorException: as ``connection.Connection``.
    """
    connect_ms, greeting_ms = connect_limits(timeout_ms, connect_ms)
    sock = AsyncSocket(await anyio.to_thread.run_sync(open_socket, config, connect_ms / 1000))
    connection = AsyncConnection(sock, config)
    try:
        with anyio.fail_after(greeting_ms / 1000):
            await connection.meet()
    except BaseException as error:
        sock.close()
        if isinstance(error, TimeoutError):
            raise no_greeting(config.endpoint, greeting_ms) from error
        if isinstance(error, FAILURES):
            raise failure(error, config.endpoint, 0, 0) from error
        raise
    return connection
