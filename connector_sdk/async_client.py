"""The async client, on anyio: the same under asyncio and under trio.

async with AsyncRuntimeClient() as client:
    response = await client.execute_http(GET("https://example.com/"))
    async with client.stream_http(GET("https://example.com/events")) as stream:
        async for event in stream.aiter_sse():
            ...
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from .async_connection import AsyncConnection, Exchange, open_connection
from .async_streaming import AsyncStreamedResponse, LivePieces, WholeBody
from .config import RuntimeConfig
from .errors import ConnectorException
from .event_loop import call_soon, has_ended, spawn
from .http_payload import (
    NO_WAIT_LIMITS,
    PreparedRequest,
    WaitLimits,
    decode_response,
    head_of,
    prepare,
    raise_without_head,
)
from .models import HTTPRequest, HTTPResponse
from .wire import ErrorClass, ExecuteResponse, ResponseHead, ResponseMode


class AsyncRuntimeClient:
    """A client of the daemon for the tasks of an event loop, or of several loops: each has connections of its own.

    Exchanges share a connection, which is opened with the first and again after a loss. A task that is cancelled
    while it waits cancels its exchange, and no other. ``async with``, or ``aclose``, ends it; nothing is left of one
    that is neither closed nor used any more, nor of a loop that has ended.

    Args:
        config: copied; None: everything by default and from the environment.

    Raises:
        ConnectorException: INVALID_REQUEST, a setting that cannot be used.
    """

    def __init__(self, config: RuntimeConfig | None = None) -> None:
        self._config = RuntimeConfig() if config is None else dataclasses.replace(config)
        self._request_ids = itertools.count(1)
        self._loops: dict[tuple[int, EventLoopToken], _LoopConnections] = {}
        self._is_closed = False
        weakref.finalize(self, _close_all, self._loops).atexit = False  # a client that nobody closed

    async def __aenter__(self) -> AsyncRuntimeClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncRuntimeClient {self._config.endpoint}{' closed' if self._is_closed else ''}>"

    async def execute_http(self, request: HTTPRequest) -> HTTPResponse:
        """As ``RuntimeClient.execute_http``."""
        prepared = prepare(request, self._config)
        return await self._execute(prepared, await self._acquire(prepared.timeout_ms))

    @asynccontextmanager
    async def stream_http(self, request: HTTPRequest) -> AsyncIterator[AsyncStreamedResponse]:
        """As ``RuntimeClient.stream_http``."""
        response = await self.open_stream(request)
        try:
            yield response
        finally:
            response.close()

    async def open_stream(self, request: HTTPRequest, limits: WaitLimits = NO_WAIT_LIMITS) -> AsyncStreamedResponse:
        """As ``RuntimeClient.open_stream``."""
        prepared = prepare(request, self._config)
        connection = await self._acquire(prepared.timeout_ms, limits.connect_ms)
        if connection.is_legacy:
            whole = await self._execute(prepared, connection, limits.head_ms)
            return AsyncStreamedResponse(head_of(whole), WholeBody(whole.body, whole.request_id), prepared.asked)
        message = prepared.message(next(self._request_ids), ResponseMode.STREAM, is_legacy=False)
        exchange = connection.begin(message, prepared.timeout_ms)
        try:
            head = await connection.receive(exchange, limits.head_ms)
            if not isinstance(head, ResponseHead):
                raise_without_head(head)
        except BaseException:
            self._release(connection, exchange)
            raise
        pieces = LivePieces(connection, exchange, limits.piece_ms, partial(self._release, connection, exchange))
        return AsyncStreamedResponse(head, pieces, prepared.asked)

    async def aclose(self) -> None:
        """Close the client: exchanges in flight fail, later ones raise. Closing twice is nothing."""
        self._is_closed = True
        here = self._loops.pop((os.getpid(), current_token()), None)
        _close_all(self._loops)
        if here is not None:
            for connection in here.connections:
                await connection.aclose()

    async def _execute(
        self, prepared: PreparedRequest, connection: AsyncConnection, within_ms: int | None = None
    ) -> HTTPResponse:
        message = prepared.message(next(self._request_ids), ResponseMode.BUFFERED, is_legacy=connection.is_legacy)
        exchange = connection.begin(message, prepared.timeout_ms)
        try:
            answer = await connection.receive(exchange, within_ms)
        finally:
            self._release(connection, exchange)
        assert isinstance(answer, ExecuteResponse)  # the only message that the rules have for it
        return decode_response(answer, prepared.asked, is_legacy=connection.is_legacy)

    async def _acquire(self, timeout_ms: int, connect_ms: int | None = None) -> AsyncConnection:
        self._check_open()
        token = current_token()
        here = self._loops.get((os.getpid(), token))
        if here is None:
            here = self._new_loop(token)
        connection = here.usable()
        if connection is not None:
            return connection
        async with here.opening:
            connection = here.usable()  # another task may have opened one, or a request ended
            if connection is None:
                connection = await open_connection(self._config, timeout_ms, connect_ms)
                connection.task = spawn(token, connection.run)
                here.connections.append(connection)
        if self._is_closed:
            await connection.aclose()
            self._check_open()
        return connection

    def _check_open(self) -> None:
        if self._is_closed:
            raise ConnectorException("the client is closed; make a new AsyncRuntimeClient", ErrorClass.INVALID_REQUEST)

    def _new_loop(self, token: EventLoopToken) -> _LoopConnections:
        """Room for another loop's connections; loops that have ended have closed theirs and are forgotten."""
        for pid, other in list(self._loops):
            if pid == os.getpid() and has_ended(other):
                self._loops.pop((pid, other), None)
        here = self._loops[os.getpid(), token] = _LoopConnections()
        return here

    def _release(self, connection: AsyncConnection, exchange: Exchange) -> None:
        connection.abandon(exchange)
        for loop in list(self._loops.values()):
            if connection in loop.connections:
                loop.close_if_surplus(connection)


class _LoopConnections:
    """The connections of one event loop of one process: they are of use to no other."""

    def __init__(self) -> None:
        self.opening = anyio.Lock()
        self.connections: list[AsyncConnection] = []

    def usable(self) -> AsyncConnection | None:
        """One that takes a further request."""
        self.connections = [connection for connection in self.connections if connection.is_open]
        return next((connection for connection in self.connections if connection.is_usable), None)

    def close_if_surplus(self, connection: AsyncConnection) -> None:
        """Close a connection without a request, unless it is the one to keep for the next."""
        others = (other for other in self.connections if other is not connection)
        if connection.is_idle and not (connection.is_usable and not any(other.is_usable for other in others)):
            connection.close()


def _close_all(loops: dict[tuple[int, EventLoopToken], _LoopConnections]) -> None:
    """Close every connection of this process, whichever loop it belongs to; those of a forked one's parent stay."""
    for (pid, token), loop in list(loops.items()):
        if pid == os.getpid():
            for connection in loop.connections:
                call_soon(token, connection.close)
