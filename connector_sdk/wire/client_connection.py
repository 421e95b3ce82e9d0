"""The client's end of a connection: protocol state without I/O (protocol.md part 2).

Use: send the bytes of ``start``; feed what arrives to ``receive_data``; take events from ``next_event`` until it
returns None; send what ``send`` and ``consumed`` return. One object serves one connection.
"""

from __future__ import annotations

import enum

from .errors import LocalProtocolError, RemoteProtocolError
from .exchange import ExchangeState, advance, begin
from .flow import DEFAULT_WINDOW_BYTES, ReceiveWindow
from .framing import MAX_FRAME_BYTES, FrameDecoder
from .messages import (
    BodyChunk,
    Cancel,
    CreditUpdate,
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    GoAway,
    HealthCheck,
    HealthCheckResponse,
    Hello,
    Message,
    PayloadFormat,
    ResponseEnd,
    ResponseHead,
    ResponseMode,
    decode_message,
    encode_message,
)

PROTOCOL_VERSION = 1

ClientEvent = (
    Hello | ResponseHead | BodyChunk | ResponseEnd | ExecuteResponse | HealthCheckResponse | CreditUpdate | GoAway
)


class Peer(enum.Enum):
    """Who answers."""

    UNKNOWN = "unknown"  # Hello has not been sent, or not been answered
    DAEMON = "daemon"
    LEGACY = "legacy"  # the existing runtime, which knows part 1 only


class ClientConnection:
    """See the module.

    Args:
        agent: who we are, for the daemon's log.
        window_bytes: how much of each stream's body may be on its way to us.

    Attributes:
        peer: known once Hello has been answered; before that only a Hello may be sent.
        is_going_away: the daemon drains; new requests need a new connection.
    """

    def __init__(self, agent: str, window_bytes: int = DEFAULT_WINDOW_BYTES) -> None:
        self.peer = Peer.UNKNOWN
        self.is_going_away = False
        self._agent = agent
        self._window_bytes = window_bytes
        self._decoder = FrameDecoder()
        self._exchanges: dict[int, ExchangeState] = {}
        self._windows: dict[int, ReceiveWindow] = {}

    @property
    def in_flight(self) -> int:
        """Requests without their terminal message."""
        return len(self._exchanges)

    def start(self) -> bytes:
        """The first bytes to send: a Hello."""
        return encode_message(
            Hello(
                protocol_version=PROTOCOL_VERSION,
                agent=self._agent,
                max_frame_bytes=MAX_FRAME_BYTES,
                stream_window_bytes=self._window_bytes,
            )
        )

    def send(self, message: ExecuteRequest | Cancel | HealthCheck) -> bytes:
        """The bytes of a message.

        Raises:
            LocalProtocolError: the protocol does not allow it now: before the peer is known; an id that is in
                flight, or 0; part 2 to the existing runtime; a request after GoAway; a Cancel for nothing.
        """
        if self.peer is Peer.UNKNOWN:
            raise LocalProtocolError("nothing may be sent before Hello is answered")
        if isinstance(message, ExecuteRequest):
            return self._send_request(message)
        if isinstance(message, Cancel):
            if self.peer is Peer.LEGACY:
                raise LocalProtocolError("the existing runtime knows no Cancel")
            if message.request_id not in self._exchanges:
                raise LocalProtocolError(f"request {message.request_id} is not in flight")
        return encode_message(message)

    def _send_request(self, request: ExecuteRequest) -> bytes:
        if self.is_going_away:
            raise LocalProtocolError("the daemon is going away; new requests need a new connection")
        if request.request_id == 0:
            raise LocalProtocolError("request_id 0 stands for frames that the daemon could not read")
        if request.request_id in self._exchanges:
            raise LocalProtocolError(f"request {request.request_id} is in flight already")
        is_part_2 = (
            request.response_mode is not ResponseMode.BUFFERED or request.payload_format is not PayloadFormat.JSON
        )
        if is_part_2 and self.peer is Peer.LEGACY:
            raise LocalProtocolError("the existing runtime answers buffered JSON requests only")
        data = encode_message(request)
        self._exchanges[request.request_id] = begin(request.response_mode)
        if request.response_mode is ResponseMode.STREAM:
            self._windows[request.request_id] = ReceiveWindow(self._window_bytes)
        return data

    def consumed(self, request_id: int, size: int) -> bytes:
        """The application has consumed so much of a stream's body; the bytes to send for it, often none."""
        window = self._windows.get(request_id)
        credit = window.consume(size) if window is not None else 0
        return encode_message(CreditUpdate(request_id=request_id, credit_delta=credit)) if credit else b""

    def receive_data(self, data: bytes) -> None:
        """Take bytes that arrived."""
        self._decoder.receive_data(data)

    def next_event(self) -> ClientEvent | None:
        """The next message from the daemon, or None when more bytes are needed.

        Raises:
            RemoteProtocolError: the peer broke the rules; the connection is of no more use.
        """
        frame = self._decoder.next_frame()
        if frame is None:
            return None
        message = decode_message(frame.message_type, frame.payload)
        if self.peer is Peer.UNKNOWN:
            return self._met(message)
        # Tuples: a union would be made anew for each message. The most frequent first.
        if isinstance(message, (BodyChunk, ExecuteResponse, ResponseHead, ResponseEnd)):
            self._advance(message)
            return message
        if isinstance(message, GoAway):
            self.is_going_away = True
            return message
        if isinstance(message, (HealthCheckResponse, CreditUpdate)):
            return message
        raise RemoteProtocolError(f"{type(message).__name__} is not for a daemon to send")

    def _met(self, message: Message) -> ClientEvent:
        if isinstance(message, Hello):
            self.peer = Peer.DAEMON
            return message
        if isinstance(message, ExecuteResponse) and message.error_class is ErrorClass.INVALID_REQUEST:
            self.peer = Peer.LEGACY  # it took the Hello for an invalid message
            return message
        raise RemoteProtocolError(f"{type(message).__name__} in answer to Hello")

    def _advance(self, message: ResponseHead | BodyChunk | ResponseEnd | ExecuteResponse) -> None:
        request_id = message.request_id
        if request_id == 0 and isinstance(message, ExecuteResponse):
            return  # the daemon could not read a frame of ours, and does not know whose it was
        state = self._exchanges.get(request_id)
        if state is None:
            raise RemoteProtocolError(f"{type(message).__name__} for request {request_id}, which is not in flight")
        following = advance(state, message)
        if following is None:
            raise RemoteProtocolError(f"{type(message).__name__} for request {request_id} in state {state.value}")
        if isinstance(message, BodyChunk):
            self._windows[request_id].arrived(len(message.data or b""))
        if following is ExchangeState.DONE:
            del self._exchanges[request_id]
            self._windows.pop(request_id, None)
        elif following is not state:
            self._exchanges[request_id] = following
