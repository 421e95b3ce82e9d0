"""Where one request's answer goes: its connection's protocol state and writer."""

from __future__ import annotations

import trio

from connector_sdk.wire import ExecuteResponse, Message
from connector_sdk.wire.daemon_connection import DaemonConnection
from connector_sdk.wire.flow import SendWindow

from .outbox import Outbox


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
        self._outbox.put(self._wire.send(message), self._request_id, may_wait=type(message) is ExecuteResponse)

    def send_chunk(self, data: bytes) -> None:
        """A piece of the body: as ``send`` of a BodyChunk."""
        self._outbox.put(self._wire.send_chunk(self._request_id, data), self._request_id)

    def full(self) -> trio.Event | None:
        """None while another chunk may be sent; else what must be waited for."""
        return self._outbox.full(self._request_id)
