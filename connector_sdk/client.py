"""The blocking client: hands HTTP requests to the daemon. Shared freely between threads, and survives fork."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from .body import BufferedBody, LiveBody
from .config import RuntimeConfig
from .connection import Connection
from .errors import ConnectorException
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
from .streaming import StreamedResponse
from .wire import ErrorClass, ResponseHead, ResponseMode

# Connections kept for the next call. More threads than this still run at once; the surplus is closed after use.
MAX_IDLE_CONNECTIONS = 32


class _IdleConnections:
    """Open connections that nobody uses, the last used on top; they belong to one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.stack: list[Connection] = []


class RuntimeClient:
    """A client of the daemon. Connects when it first has to, and again after a lost connection.

    Calls from several threads run at once, each on a connection of its own.

    Args:
        config: copied; None: everything by default and from the environment.

    Raises:
        ConnectorException: INVALID_REQUEST, a setting that cannot be used.
    """

    def __init__(self, config: RuntimeConfig | None = None) -> None:
        self._config = RuntimeConfig() if config is None else dataclasses.replace(config)
        self._request_ids = itertools.count(1)
        self._idle = _IdleConnections()
        self._is_closed = False

    def __enter__(self) -> RuntimeClient:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RuntimeClient {self._config.endpoint}{' closed' if self._is_closed else ''}>"

    def connect(self) -> None:
        """See that the daemon can be reached, now rather than with the first request.

        Raises:
            ConnectorException: no daemon is there (TRANSIENT), it may not be reached (PERMANENT), or the client
                is closed (INVALID_REQUEST).
        """
        self._release(self._acquire(self._config.timeout_ms))

    def execute_http(self, request: HTTPRequest) -> HTTPResponse:
        """Run one HTTP request; any HTTP status is a response.

        Raises:
            ConnectorException: the daemon could not be reached, or could not get an answer from the upstream;
                ``is_retryable()`` tells whether another try may help.
            TypeError: an attribute of the request has the wrong type.
        """
        prepared = prepare(request, self._config)
        return self._execute(prepared, self._acquire(prepared.timeout_ms))

    @contextmanager
    def stream_http(self, request: HTTPRequest) -> Iterator[StreamedResponse]:
        """Run one HTTP request and read its response as it comes; leaving the block early cancels the request.

        The existing runtime knows no streams: its response comes in one piece.

        Raises:
            ConnectorException: as ``execute_http``, on entering; once the response has begun, from its iterators.
            TypeError: an attribute of the request has the wrong type.
        """
        response = self.open_stream(request)
        try:
            yield response
        finally:
            response.close()

    def open_stream(self, request: HTTPRequest, limits: WaitLimits = NO_WAIT_LIMITS) -> StreamedResponse:
        """As ``stream_http``, for a caller who will ``close`` the response, or read it to its end.

        Raises:
            ConnectorException: as ``stream_http``; TIMEOUT when one of the limits has passed.
            TypeError: an attribute of the request has the wrong type.
        """
        return self._open_stream(prepare(request, self._config), limits)

    def _execute(self, prepared: PreparedRequest, connection: Connection, within_ms: int | None = None) -> HTTPResponse:
        message = prepared.message(next(self._request_ids), ResponseMode.BUFFERED, is_legacy=connection.is_legacy)
        try:
            answer = connection.exchange(message, prepared.timeout_ms, within_ms)
        except BaseException:
            connection.close()  # KeyboardInterrupt too: the answer may still be on its way
            raise
        self._release(connection)
        return decode_response(answer, prepared.asked, is_legacy=connection.is_legacy)

    def _open_stream(self, prepared: PreparedRequest, limits: WaitLimits) -> StreamedResponse:
        connection = self._acquire(prepared.timeout_ms, limits.connect_ms)
        if connection.is_legacy:
            response = self._execute(prepared, connection, limits.head_ms)
            whole = BufferedBody(response.body, response.request_id)
            return StreamedResponse(head_of(response), whole, prepared.asked)
        message = prepared.message(next(self._request_ids), ResponseMode.STREAM, is_legacy=False)
        try:
            connection.begin(message, prepared.timeout_ms)
            head = connection.receive(limits.head_ms)
        except BaseException:
            connection.close()
            raise
        if not isinstance(head, ResponseHead):
            self._release(connection)
            raise_without_head(head)
        body = LiveBody(connection, head.request_id, self._release, limits.piece_ms)
        return StreamedResponse(head, body, prepared.asked)

    def close(self) -> None:
        """Close the client; calls that are running end first, later ones raise. Closing twice is nothing."""
        idle = self._idle_of_this_process()
        with idle.lock:
            self._is_closed = True
            connections, idle.stack = idle.stack, []
        for connection in connections:
            connection.close()

    def _acquire(self, timeout_ms: int, connect_ms: int | None = None) -> Connection:
        idle = self._idle_of_this_process()
        while True:
            with idle.lock:
                if self._is_closed:
                    raise ConnectorException(
                        "the client is closed; make a new RuntimeClient", ErrorClass.INVALID_REQUEST
                    )
                connection = idle.stack.pop() if idle.stack else None
            if connection is None:
                return Connection(self._config, timeout_ms, connect_ms)
            if connection.is_reusable():
                return connection
            connection.close()

    def _release(self, connection: Connection) -> None:
        idle = self._idle_of_this_process()
        with idle.lock:
            is_kept = not (self._is_closed or connection.is_going_away) and len(idle.stack) < MAX_IDLE_CONNECTIONS
            if is_kept:
                idle.stack.append(connection)
        if not is_kept:
            connection.close()

    def _idle_of_this_process(self) -> _IdleConnections:
        """In a forked child a new, empty stack: parent and child on one socket would take each other's answers,
        and another thread of the parent may have held the lock when it forked."""
        idle = self._idle
        if idle.pid != os.getpid():
            for connection in idle.stack:
                connection.close()
            idle = self._idle = _IdleConnections()
        return idle
