"""The async client, on anyio: the same under asyncio and under trio.

async with AsyncRuntimeClient() as client:
    response = await client.execute_http(GET("https://example.com/"))
    async with client.stream_http(GET("https://example.com/events")) as stream:
        async for event in stream.aiter_sse():
            ...
"""

from __future__ import annotations

import codecs
import dataclasses
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Generic, TypeVar

import anyio
import anyio.abc

from .async_connection import AsyncConnection, Exchange, open_connection
from .config import RuntimeConfig
from .errors import ConnectorException
from .headers import Headers
from .http_payload import PreparedRequest, decode_response, head_of, prepare, raise_for_end
from .models import HTTPRequest, HTTPResponse
from .sse import ServerSentEvent, SSEDecoder
from .streaming import LineSplitter, charset
from .wire import BodyChunk, ErrorClass, ExecuteResponse, ResponseEnd, ResponseHead, ResponseMode

From = TypeVar("From")
To = TypeVar("To")


class AsyncStreamedResponse:
    """As ``StreamedResponse``; used by one task at a time."""

    def __init__(self, head: ResponseHead, pieces: AsyncIterator[bytes]) -> None:
        self.request_id = head.request_id
        self.status_code = head.status_code
        self.headers = Headers(head.headers or ())
        self.attempts = head.attempts
        self._pieces = pieces

    def __repr__(self) -> str:
        return f"<AsyncStreamedResponse {self.request_id} status {self.status_code}>"

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """As ``StreamedResponse.iter_bytes``."""
        return self._pieces

    def aiter_text(self) -> AsyncIterator[str]:
        """As ``StreamedResponse.iter_text``."""
        decoder = codecs.getincrementaldecoder(charset(self.headers))(errors="replace")
        return _Converted(
            self._pieces,
            lambda piece: filter(None, [decoder.decode(piece)]),
            lambda: filter(None, [decoder.decode(b"", True)]),
        )

    def aiter_lines(self) -> AsyncIterator[str]:
        """As ``StreamedResponse.iter_lines``."""
        lines = LineSplitter()
        return _Converted(self.aiter_text(), lines.feed, lines.flush)

    def aiter_sse(self) -> AsyncIterator[ServerSentEvent]:
        """As ``StreamedResponse.iter_sse``."""
        return _Converted(self._pieces, SSEDecoder().feed, lambda: ())

    async def aread(self) -> bytes:
        """What is left of the body, whole."""
        return b"".join([piece async for piece in self._pieces])


class _Converted(Generic[From, To]):
    """What a decoder makes of the items of another iterator.

    No generator: one that is left early wants to be closed, and trio warns about each that is not.

    Args:
        feed: what an item completes.
        flush: what is left at the end.
    """

    def __init__(
        self, items: AsyncIterator[From], feed: Callable[[From], Iterable[To]], flush: Callable[[], Iterable[To]]
    ) -> None:
        self._items = items
        self._feed = feed
        self._flush = flush
        self._ready: deque[To] = deque()
        self._is_ended = False

    def __aiter__(self) -> _Converted[From, To]:
        return self

    async def __anext__(self) -> To:
        while not self._ready:
            if self._is_ended:
                raise StopAsyncIteration
            try:
                item = await anext(self._items)
            except StopAsyncIteration:
                self._is_ended = True
                self._ready.extend(self._flush())
            else:
                self._ready.extend(self._feed(item))
        return self._ready.popleft()


class AsyncRuntimeClient:
    """A client of the daemon for the tasks of one event loop, used within ``async with``.

    All its exchanges share a connection, which is opened with the first and again after a loss. A task that is
    cancelled while it waits cancels its exchange, and no other.

    Args:
        config: copied; None: everything by default and from the environment.

    Raises:
        ConnectorException: INVALID_REQUEST, a setting that cannot be used.
    """

    def __init__(self, config: RuntimeConfig | None = None) -> None:
        self._config = RuntimeConfig() if config is None else dataclasses.replace(config)
        self._request_ids = itertools.count(1)
        self._tasks: anyio.abc.TaskGroup | None = None
        self._opening = anyio.Lock()
        self._connection: AsyncConnection | None = None

    async def __aenter__(self) -> AsyncRuntimeClient:
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._tasks = tasks
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tasks, self._tasks = self._tasks, None
        assert tasks is not None
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(None, None, None)  # an exception of the block is not the task group's: it stays as it is

    def __repr__(self) -> str:
        return f"<AsyncRuntimeClient {self._config.endpoint}>"

    async def execute_http(self, request: HTTPRequest) -> HTTPResponse:
        """As ``RuntimeClient.execute_http``."""
        prepared = prepare(request, self._config)
        connection = await self._acquire(prepared.timeout_ms)
        message = prepared.message(next(self._request_ids), ResponseMode.BUFFERED, is_legacy=connection.is_legacy)
        exchange = connection.begin(message, prepared.timeout_ms)
        try:
            answer = await connection.receive(exchange)
        finally:
            self._release(connection, exchange)
        assert isinstance(answer, ExecuteResponse)  # the only message that the rules have for it
        return decode_response(answer, is_legacy=connection.is_legacy)

    @asynccontextmanager
    async def stream_http(self, request: HTTPRequest) -> AsyncIterator[AsyncStreamedResponse]:
        """As ``RuntimeClient.stream_http``."""
        prepared = prepare(request, self._config)
        connection = await self._acquire(prepared.timeout_ms)
        if connection.is_legacy:
            whole = await self.execute_http(request)
            yield AsyncStreamedResponse(head_of(whole), _Whole(whole.body))
            return
        exchange = self._begin_stream(connection, prepared)
        try:
            head = await connection.receive(exchange)
            if not isinstance(head, ResponseHead):
                assert not isinstance(head, BodyChunk)  # the rules have none before the head
                raise_for_end(head)
                raise ConnectorException(
                    "the daemon ended the stream without a response", ErrorClass.PERMANENT, head.request_id
                )
            pieces = _Pieces(connection, exchange)
            try:
                yield AsyncStreamedResponse(head, pieces)
            finally:
                pieces.close()
        finally:
            self._release(connection, exchange)

    def _begin_stream(self, connection: AsyncConnection, prepared: PreparedRequest) -> Exchange:
        message = prepared.message(next(self._request_ids), ResponseMode.STREAM, is_legacy=False)
        return connection.begin(message, prepared.timeout_ms)

    async def _acquire(self, timeout_ms: int) -> AsyncConnection:
        async with self._opening:
            if self._tasks is None:
                raise ConnectorException(
                    "the client is not open; use it within `async with`", ErrorClass.INVALID_REQUEST
                )
            if self._connection is None or not self._connection.is_usable:
                connection = await open_connection(self._config, timeout_ms)
                self._tasks.start_soon(connection.run)
                self._connection = connection
            return self._connection

    def _release(self, connection: AsyncConnection, exchange: Exchange) -> None:
        connection.abandon(exchange)
        if connection is not self._connection and connection.is_idle:
            connection.close()


class _Pieces:
    """The body of a streamed exchange, piece by piece."""

    def __init__(self, connection: AsyncConnection, exchange: Exchange) -> None:
        self._connection = connection
        self._exchange = exchange
        self._unreturned_bytes = 0
        self._is_ended = False
        self._failure: ConnectorException | None = None

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        while not self._is_ended:
            self._connection.consumed(self._exchange, self._unreturned_bytes)
            self._unreturned_bytes = 0
            try:
                message = await self._connection.receive(self._exchange)
                assert isinstance(message, BodyChunk | ResponseEnd)  # the only ones that the rules have after the head
                if isinstance(message, ResponseEnd):
                    self._is_ended = True
                    raise_for_end(message)
                elif message.data:
                    self._unreturned_bytes = len(message.data)
                    return message.data
            except ConnectorException as error:
                self._failure = error
                raise
        raise StopAsyncIteration

    def close(self) -> None:
        """What is left is not to be read."""
        if not self._is_ended and self._failure is None:
            self._failure = ConnectorException(
                "the response was closed before its end", ErrorClass.CANCELLED, self._exchange.request_id
            )


class _Whole:
    """A body that is there already."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __aiter__(self) -> _Whole:
        return self

    async def __anext__(self) -> bytes:
        if not self._body:
            raise StopAsyncIteration
        body, self._body = self._body, b""
        return body
