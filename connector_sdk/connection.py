"""One blocking connection to the daemon: open it, run one exchange at a time, see whether it is still good.

The rules are those of ``wire.client_connection``; here are the socket and the time limits; what failures mean to
a caller is in ``connection_errors``.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import time

from .config import RuntimeConfig
from .connection_errors import ANSWER_GRACE_MS, FAILURES, connect_limits, failure, no_greeting, nothing_came, unreadable
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
    ResponseEnd,
    ResponseHead,
)
from .wire.client_connection import ClientConnection, ClientEvent, Peer

# The daemon ends a cancelled exchange at once; waiting longer than this costs more than a new connection.
CANCEL_TIMEOUT_MS = 250

AGENT = "vastar-connector-sdk python"
# Below what malloc takes from the system anew for each read, with a page fault for each page that is used (128 KiB).
RECEIVE_BYTES = 64 * 1024

Answer = ResponseHead | BodyChunk | ResponseEnd | ExecuteResponse
# For isinstance(): a tuple is faster than a union.
ANSWERS = (BodyChunk, ExecuteResponse, ResponseHead, ResponseEnd)


class Connection:
    """A connection to the daemon, used by one exchange at a time. Opening it tells who answers.

    After any exception but that of ``begin`` for a request that cannot be sent, it is of no more use: close it.

    Args:
        timeout_ms: of the request that it is opened for.
        connect_ms: how long the daemon may take to accept, and as long again to answer; None: as the request has it.

    Raises:
        ConnectorException: TRANSIENT when no daemon is there, TIMEOUT when it accepts nobody or says nothing,
            PERMANENT when it may not be reached, or what answers is no daemon.
    """

    def __init__(self, config: RuntimeConfig, timeout_ms: int, connect_ms: int | None = None) -> None:
        self._endpoint = config.endpoint
        self._pid = os.getpid()
        self._wire = ClientConnection(AGENT, config.stream_window_bytes)
        self._request_id = 0
        self._timeout_ms = 0
        self._deadline = 0.0
        connect_ms, greeting_ms = connect_limits(timeout_ms, connect_ms)
        self._socket = open_socket(config, connect_ms / 1000)
        try:
            # It never blocks, and who waits asks poll(): a time limit of the socket's own would be set, by a system
            # call, for each message.
            self._socket.setblocking(False)
            self._arrivals = select.poll()
            self._arrivals.register(self._socket, select.POLLIN)
            self._meet(greeting_ms)
        except BaseException:
            self._socket.close()
            raise

    @property
    def is_legacy(self) -> bool:
        """True when the existing runtime answers: buffered JSON requests only."""
        return self._wire.peer is Peer.LEGACY

    @property
    def is_going_away(self) -> bool:
        """True when the daemon drains: after this exchange the connection is of no more use."""
        return self._wire.is_going_away

    def begin(self, request: ExecuteRequest, timeout_ms: int) -> None:
        """Send a request. Its exchange ends ``timeout_ms`` from now, and the grace period, at the latest.

        Raises:
            ConnectorException: INVALID_REQUEST when it cannot be sent (its frame is over the limit); TRANSIENT when
                the connection is lost, TIMEOUT when the daemon does not read.
        """
        self._request_id = request.request_id
        self._timeout_ms = timeout_ms
        self._deadline = time.monotonic() + (timeout_ms + ANSWER_GRACE_MS) / 1000
        try:
            self._send(self._wire.send(request))
        except FAILURES as error:
            raise self._failure(error) from error

    def receive(self, within_ms: int | None = None) -> Answer:
        """Wait for the next message of the exchange, at most ``within_ms``.

        Raises:
            ConnectorException: TRANSIENT when the connection is lost, TIMEOUT when the exchange's time is over,
                PERMANENT when the answer breaks the protocol; INVALID_REQUEST when the daemon could not read
                the request.
        """
        ends_at = math.inf if within_ms is None else time.monotonic() + within_ms / 1000
        try:
            message = self._next_answer(ends_at)
        except TimeoutError as error:
            if within_ms is not None and ends_at < self._deadline:
                raise nothing_came(within_ms, self._request_id) from error
            raise self._failure(error) from error
        except FAILURES as error:
            raise self._failure(error) from error
        if message.request_id == 0 and isinstance(message, ExecuteResponse):
            raise unreadable(message, self._request_id)
        return message

    def exchange(self, request: ExecuteRequest, timeout_ms: int, within_ms: int | None = None) -> ExecuteResponse:
        """Send a buffered request and wait for its answer, at most ``within_ms``.

        Raises:
            ConnectorException: as ``begin`` and ``receive``.
        """
        self.begin(request, timeout_ms)
        answer = self.receive(within_ms)
        assert isinstance(answer, ExecuteResponse)  # the only message that the rules have for it
        return answer

    def consumed(self, size: int) -> None:
        """The application has consumed so much of the stream's body: the daemon may send on.

        Raises:
            ConnectorException: TIMEOUT when the daemon does not read.
        """
        credit = self._wire.consumed(self._request_id, size)
        if credit:
            try:
                self._send(credit)
            except TimeoutError as error:
                raise self._failure(error) from error
            except OSError:
                pass  # the daemon has gone; what it sent before is still to be read, and receive() tells the rest

    def end_within(self, timeout_ms: int) -> None:
        """Let the exchange's time be over in ``timeout_ms``, unless it is over before."""
        self._deadline = min(self._deadline, time.monotonic() + timeout_ms / 1000)

    def cancel(self) -> bool:
        """Stop the exchange in flight; True when the connection can be used again."""
        if self._pid != os.getpid():
            return False  # a forked child: the exchange is its parent's
        self._deadline = time.monotonic() + CANCEL_TIMEOUT_MS / 1000
        try:
            self._send(self._wire.send(Cancel(request_id=self._request_id)))
            while self._wire.in_flight:
                self._next_answer()
        except FAILURES:
            return False  # what the answer would have been, nobody waits for
        return True

    def is_reusable(self) -> bool:
        """False when the daemon has closed the connection, goes away, or has sent what nobody asked for."""
        try:
            if self._arrivals.poll(0):
                self._receive_data()
            while (event := self._wire.next_event()) is not None:
                if not isinstance(event, CreditUpdate):
                    return False
        except FAILURES:
            return False
        return True

    def interrupt(self) -> None:
        """Make ``receive``, in which another thread may be waiting, fail; that thread then closes the connection.

        It must not have done so yet: a descriptor that is closed may already be another's.
        """
        if self._pid == os.getpid():
            with contextlib.suppress(OSError):  # the daemon was first
                self._socket.shutdown(socket.SHUT_RDWR)
        else:  # a forked child: the thread is its parent's, and so is the connection
            self._socket.close()

    def close(self) -> None:
        """Close the connection; the daemon then cancels what is in flight on it."""
        # A forked child may hold the same socket open: only shutdown() ends it for the daemon. In such a child,
        # it would end the parent's connection.
        self.interrupt()
        self._socket.close()

    def _meet(self, timeout_ms: int) -> None:
        self._deadline = time.monotonic() + timeout_ms / 1000
        try:
            self._send(self._wire.start())
            self._next_event()
        except TimeoutError as error:
            raise no_greeting(self._endpoint, timeout_ms) from error
        except FAILURES as error:
            raise self._failure(error) from error

    def _send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)  # all of it, as a rule: one system call for a request
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_rest(self, data: memoryview) -> None:
        room = select.poll()
        room.register(self._socket, select.POLLOUT)
        while data:
            if not room.poll(self._left_ms(self._deadline)):
                raise TimeoutError
            with contextlib.suppress(BlockingIOError):
                data = data[self._socket.send(data) :]

    def _next_answer(self, ends_at: float = math.inf) -> Answer:
        while True:
            event = self._next_event(ends_at)
            if isinstance(event, ANSWERS):
                return event
            if not isinstance(event, (CreditUpdate, GoAway)):
                raise RemoteProtocolError(f"{type(event).__name__}, which nobody asked for")

    def _next_event(self, ends_at: float = math.inf) -> ClientEvent:
        while (event := self._wire.next_event()) is None:
            # What has come in time is read even by a caller that comes late for it.
            if not self._arrivals.poll(self._left_ms(min(self._deadline, ends_at))):
                raise TimeoutError
            self._receive_data()
        return event

    def _receive_data(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return  # poll() may be wrong (its "BUGS" in select(2))
        if not data:
            raise EOFError("it was closed before the answer was complete")
        self._wire.receive_data(data)

    @staticmethod
    def _left_ms(ends_at: float) -> float:
        return max(ends_at - time.monotonic(), 0) * 1000

    def _failure(self, error: Exception) -> ConnectorException:
        return failure(error, self._endpoint, self._request_id, self._timeout_ms)
