"""Where one request's answer goes: its connection's protocol state and writer."""

from __future__ import annotations

import time

import trio

from connector_sdk.wire import ExecuteResponse, Message
from connector_sdk.wire.daemon_connection import DaemonConnection
from connector_sdk.wire.flow import SendWindow
from vastar_runtime.http.readiness import is_turn

from .outbox import Outbox

# Of requests that have tasks, over 32 connections, most answers follow another one within this time. A client that
# waits for each of its answers takes longer for a whole round trip, and each of them leaves at once.
BURST_NS = 180_000
_last_ns = 0


class Reply:
    """The way back to the client.

    Attributes:
        window: the credit of a streamed answer; None for a buffered one.
    """

    __slots__ = ("_outbox", "_request_id", "_wire", "window")

    def __init__(self, wire: DaemonConnection, outbox: Outbox, request_id: int, window: SendWindow | None) -> None:
        self._wire = wire
        self._outbox = outbox
        self._request_id = request_id
        self.window = window

    def send(self, message: Message) -> None:
        """A message of the answer.

        Raises:
            LocalProtocolError: it has no place now.
            ClientDoesNotRead: the connection must be dropped.
        """
        may_wait = type(message) is ExecuteResponse and (is_turn() or _comes_in_a_burst())
        self._outbox.put(self._wire.send(message), self._request_id, may_wait=may_wait)

    def send_success(self, payload: bytes, duration_us: int, attempts: int) -> None:
        """The whole answer: as ``send`` of an ExecuteResponse that says so."""
        frame = self._wire.send_success(self._request_id, payload, duration_us, attempts)
        self._outbox.put(frame, self._request_id, may_wait=is_turn() or _comes_in_a_burst())

    def send_chunk(self, data: bytes) -> None:
        """A piece of the body: as ``send`` of a BodyChunk."""
        self._outbox.put(self._wire.send_chunk(self._request_id, data), self._request_id)

    def full(self) -> trio.Event | None:
        """None while another chunk may be sent; else what must be waited for."""
        return self._outbox.full(self._request_id)


def _comes_in_a_burst() -> bool:
    """Whether this process has sent another whole answer just now, so that this one had better leave with others."""
    global _last_ns
    before_ns, _last_ns = _last_ns, time.perf_counter_ns()
    return _last_ns - before_ns < BURST_NS
