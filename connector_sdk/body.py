"""Where the pieces of a response's body come from: the connection, or memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NoReturn, Protocol

from .connection import Connection
from .connection_errors import closed_early
from .errors import ConnectorException
from .http_payload import raise_for_end
from .wire import BodyChunk, ResponseEnd


class Body(Protocol):
    """Where a response's pieces come from."""

    def next_piece(self) -> bytes:
        """The next piece, never empty; b"" at the end."""

    def end_within(self, timeout_ms: int) -> None:
        """What is still to come is of no interest beyond ``timeout_ms``."""

    def close(self) -> None:
        """Cancel what is unfinished."""


class LiveBody:
    """The body of a streamed exchange, which has its connection to itself until it ends.

    One thread reads; any thread may close.

    Args:
        release: takes the connection back once the exchange has ended.
        piece_ms: how long to wait for one piece; None: as long as the exchange may take.
    """

    def __init__(
        self,
        connection: Connection,
        request_id: int,
        release: Callable[[Connection], None],
        piece_ms: int | None = None,
    ) -> None:
        self._connection = connection
        self._piece_ms = piece_ms
        self._release = release
        self._unreturned_bytes = 0
        # Who takes the connection out has it to himself: the reader for one piece, or who closes, for good.
        # pop() and append() of a list are atomic, so that a piece costs no lock.
        self._turn = [connection]
        self._is_over = False  # set once, under the lock, by the reader at the end or by who closes before
        self._lock = threading.Lock()
        self._failure: ConnectorException | None = closed_early(request_id)

    def next_piece(self) -> bytes:
        """See Body.

        Raises:
            ConnectorException: the response broke off, or was closed before its end.
        """
        connection = self._take_turn()
        if connection is None:
            if self._failure is not None:
                raise self._failure
            return b""
        try:
            message = self._receive(connection)
        except BaseException as error:
            is_closed = not self._finish()
            connection.close()
            if isinstance(error, ConnectorException):
                if is_closed:
                    assert self._failure is not None
                    raise self._failure from error
                self._failure = error
            raise
        if isinstance(message, BodyChunk):
            data = message.data or b""
            self._unreturned_bytes = len(data)
            self._turn.append(connection)
            if self._is_over:
                self._stop()
            return data
        if not self._finish():
            self._turn.append(connection)
            self._stop()
        self._release(connection)
        try:
            raise_for_end(message)
        except ConnectorException as error:
            self._failure = error
            raise
        self._failure = None
        return b""

    def end_within(self, timeout_ms: int) -> None:
        """See Body."""
        with self._lock:  # once it is over, the connection may be at work for somebody else
            if not self._is_over:
                self._connection.end_within(timeout_ms)

    def close(self) -> None:
        """See Body."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            connection = self._take_turn()
            if connection is None:
                self._connection.interrupt()  # which wakes the reader; the rest of the exchange is not ours to read
                return
        is_reusable = False
        try:
            is_reusable = connection.cancel()
        finally:
            if not is_reusable:
                connection.close()
        if is_reusable:
            self._release(connection)

    def _take_turn(self) -> Connection | None:
        """The connection; None when somebody else has it."""
        try:
            return self._turn.pop()
        except IndexError:
            return None

    def _finish(self) -> bool:
        """The reader is through. False when another thread has closed the response meanwhile."""
        with self._lock:
            is_first, self._is_over = not self._is_over, True
        return is_first

    def _stop(self) -> NoReturn:
        """Another thread has closed the response while this one read: what was read is dropped."""
        with self._lock:  # until that thread has interrupted the connection, or has taken it
            connection = self._take_turn()
        if connection is not None:
            connection.close()
        assert self._failure is not None
        raise self._failure

    def _receive(self, connection: Connection) -> BodyChunk | ResponseEnd:
        if self._unreturned_bytes:
            connection.consumed(self._unreturned_bytes)
            self._unreturned_bytes = 0
        while True:
            message = connection.receive(self._piece_ms)
            if isinstance(message, BodyChunk):
                if message.data:
                    return message
                continue
            assert isinstance(message, ResponseEnd)  # the only other one that the rules have after the head
            return message


class BufferedBody:
    """A body that is there already."""

    def __init__(self, data: bytes, request_id: int) -> None:
        self._data = data
        self._request_id = request_id
        self._is_closed = False

    def next_piece(self) -> bytes:
        """See Body.

        Raises:
            ConnectorException: the response was closed before its end.
        """
        if self._is_closed and self._data:
            raise closed_early(self._request_id)
        data, self._data = self._data, b""
        return data

    def end_within(self, timeout_ms: int) -> None:
        """See Body: nothing is still to come."""

    def close(self) -> None:
        """See Body."""
        self._is_closed = True
