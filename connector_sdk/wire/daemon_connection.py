"""The daemon's end of a connection: protocol state without I/O (protocol.md parts 1 and 2).

Use: feed what arrives to ``receive_data``; take events from ``next_event`` until it returns None; send what ``send``
returns. What a client does wrong is an event with its answer, never an exception, except where the framing is lost.
"""

from __future__ import annotations

import msgspec

from .errors import LocalProtocolError, MalformedMessage, UnknownMessageType
from .exchange import TRANSITIONS, ExchangeState, begin
from .flow import DEFAULT_WINDOW_BYTES, CreditError, SendWindow
from .framing import FrameDecoder
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
    MessageType,
    ResponseEnd,
    ResponseHead,
    ResponseMode,
    decode_message,
    encode_chunk,
    encode_message,
    encode_success,
)

MAX_REQUESTS_IN_FLIGHT = 1024
# A client may ask for any window up to 4 GiB; no stream is faster for more than this.
MAX_WINDOW_BYTES = 4 * 1024 * 1024
# Names stay in tables after their request has ended (idle connections, by tenant), and on every line of the log.
MAX_NAME_CHARACTERS = 256

# Every access to a member through its class costs as much as three of a global's.
_STREAM = ResponseMode.STREAM
_DONE = ExchangeState.DONE


class Admitted(msgspec.Struct, frozen=True):
    """A request that is now in flight; ``size``: bytes of its message."""

    request: ExecuteRequest
    size: int


class Refused(msgspec.Struct, frozen=True):
    """Something that gets an answer and nothing else; ``reason``: what the answer's words keep to themselves.

    The answer belongs to no exchange: its bytes are those of ``encode_message``. ``send`` would take the refusal of
    an id in flight for the end of the request that runs under it.
    """

    answer: ExecuteResponse | ResponseEnd
    reason: str = ""


class BadCredit(msgspec.Struct, frozen=True):
    """A grant that ends its stream with InvalidRequest."""

    request_id: int
    reason: str


DaemonEvent = Admitted | Refused | BadCredit | Hello | HealthCheck | Cancel | CreditUpdate


class DaemonConnection:
    """See the module.

    Attributes:
        has_hello: the client knows part 2.
        is_draining: new requests are refused; set by the caller.
    """

    def __init__(self) -> None:
        self.has_hello = False
        self.is_draining = False
        self._window_bytes = DEFAULT_WINDOW_BYTES
        self._is_first = True
        self._decoder = FrameDecoder()
        self._exchanges: dict[int, ExchangeState] = {}
        self._windows: dict[int, SendWindow] = {}

    @property
    def in_flight(self) -> int:
        """Requests without their terminal message."""
        return len(self._exchanges)

    @property
    def available_credits(self) -> int:
        """How many more requests are admitted now."""
        return 0 if self.is_draining else MAX_REQUESTS_IN_FLIGHT - len(self._exchanges)

    @property
    def pending_bytes(self) -> int:
        """What is held of a frame that is not complete yet."""
        return self._decoder.pending_bytes

    @property
    def window_bytes(self) -> int:
        """What each stream may have on its way."""
        return self._window_bytes

    # --- receiving ---

    def receive_data(self, data: bytes) -> None:
        """Take bytes that arrived."""
        self._decoder.receive_data(data)

    def next_event(self) -> DaemonEvent | None:
        """What the client wants next, or None when more bytes are needed.

        Raises:
            BadFrameLength: nobody knows where the next frame begins.
        """
        while (frame := self._decoder.next_frame()) is not None:
            is_first, self._is_first = self._is_first, False
            try:
                message = decode_message(frame.message_type, frame.payload)
            except UnknownMessageType as error:
                return _refused(f"Invalid FlatBuffers message: {error}", reason=str(error))
            except MalformedMessage as error:
                # The answer's words are the contract's.
                return _refused("Invalid FlatBuffers message", reason=str(error))
            event = self._event_of(message, len(frame.payload), is_first)
            if event is not None:
                return event
        return None

    def _event_of(self, message: Message, size: int, is_first: bool) -> DaemonEvent | None:
        # The first two are what nearly all frames are; by type(), for it is a third of a class pattern's time.
        if type(message) is ExecuteRequest:
            return self._admit(message, size)
        if type(message) is CreditUpdate:
            return self._credit(message)
        match message:
            case HealthCheck():
                return message
            case Hello() if is_first:
                self.has_hello = True
                self._window_bytes = min(message.stream_window_bytes or DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES)
                return message
            case Hello():
                return _refused("Hello must be the first message of a connection, and the only one")
            case Cancel() if self.has_hello:
                return message if message.request_id in self._exchanges else None
            case _:
                name = _NAMES[type(message)]
                return _refused(f"Invalid FlatBuffers message: {name} is not for a client to send here")

    def _admit(self, request: ExecuteRequest, size: int) -> Admitted | Refused:
        request_id, mode = request.request_id, request.response_mode
        is_stream = mode is _STREAM
        if is_stream and not self.has_hello:
            error_class, reason = ErrorClass.INVALID_REQUEST, "response_mode Stream needs a Hello first"
        elif request_id in self._exchanges:
            error_class = ErrorClass.INVALID_REQUEST
            reason = f"request_id {request_id} is in flight on this connection already"
        elif reason := _long_name(request):
            error_class = ErrorClass.INVALID_REQUEST
        elif self.is_draining:
            error_class = ErrorClass.TRANSIENT
            reason = "the runtime is draining and takes no new requests; connect again"
        elif len(self._exchanges) >= MAX_REQUESTS_IN_FLIGHT:
            error_class = ErrorClass.RATE_LIMITED
            reason = f"{MAX_REQUESTS_IN_FLIGHT} requests are in flight on this connection; wait for answers"
        else:
            self._exchanges[request_id] = begin(mode)
            if is_stream:
                self._windows[request_id] = SendWindow(self._window_bytes)
            return Admitted(request, size)
        answer = ResponseEnd if is_stream and self.has_hello else ExecuteResponse
        return Refused(answer(request_id=request_id, error_class=error_class, error_message=reason))

    def _credit(self, update: CreditUpdate) -> CreditUpdate | BadCredit | None:
        """None for what is ignored: a stream that has ended, and what the existing SDKs may send."""
        window = self._windows.get(update.request_id)
        if window is None:
            return None
        try:
            window.grant(update.credit_delta)
        except CreditError as error:
            return BadCredit(update.request_id, str(error))
        return update

    # --- sending ---

    def window(self, request_id: int) -> SendWindow:
        """The credit of a stream in flight."""
        return self._windows[request_id]

    def send(self, message: Message) -> bytes:
        """The bytes of a message.

        Raises:
            LocalProtocolError: it has no place now: a second terminal message, a chunk before the head, part 2
                to a client that sent no Hello.
        """
        kind = type(message)
        if kind in _OF_AN_EXCHANGE:
            data = encode_message(message)
            self._advance(kind, message.request_id)  # type: ignore[union-attr]
            return data
        if not self.has_hello and kind is not HealthCheckResponse:
            raise LocalProtocolError(f"{kind.__name__} to a client that sent no Hello")
        if kind not in _OF_THE_CONNECTION:
            raise LocalProtocolError(f"{kind.__name__} is not for a daemon to send")
        return encode_message(message)

    def send_chunk(self, request_id: int, data: bytes) -> bytes:
        """As ``send`` of a BodyChunk, of which there are many."""
        if self._exchanges.get(request_id) is not ExchangeState.BODY:
            self._advance(BodyChunk, request_id)
        return encode_chunk(request_id, data)

    def send_success(self, request_id: int, payload: bytes, duration_us: int, attempts: int) -> bytes:
        """As ``send`` of a successful ExecuteResponse, of which there is one for nearly every request."""
        data = encode_success(request_id, payload, duration_us, attempts)
        self._advance(ExecuteResponse, request_id)
        return data

    def _advance(self, kind: type[Message], request_id: int) -> None:
        state = self._exchanges.get(request_id)
        following = None if state is None else TRANSITIONS.get((state, kind))
        if following is None:
            where = "is not in flight" if state is None else f"is in state {state.value}"
            raise LocalProtocolError(f"{kind.__name__}: request {request_id} {where}")
        if following is _DONE:
            del self._exchanges[request_id]
            self._windows.pop(request_id, None)
        elif following is not state:
            self._exchanges[request_id] = following


_OF_AN_EXCHANGE = frozenset((ResponseHead, BodyChunk, ResponseEnd, ExecuteResponse))
_OF_THE_CONNECTION = frozenset((HealthCheckResponse, Hello, CreditUpdate, GoAway))
_NAMES: dict[type[Message], str] = {
    ExecuteResponse: MessageType.EXECUTE_RESPONSE.name,
    HealthCheckResponse: MessageType.HEALTH_RESPONSE.name,
    ResponseHead: MessageType.RESPONSE_HEAD.name,
    BodyChunk: MessageType.BODY_CHUNK.name,
    ResponseEnd: MessageType.RESPONSE_END.name,
    Cancel: MessageType.CANCEL.name,
    GoAway: MessageType.GO_AWAY.name,
}


def _refused(message: str, reason: str = "") -> Refused:
    answer = ExecuteResponse(request_id=0, error_class=ErrorClass.INVALID_REQUEST, error_message=message)
    return Refused(answer, reason)


def _long_name(request: ExecuteRequest) -> str:
    for field, name in (
        ("tenant_id", request.tenant_id),
        ("workspace_id", request.workspace_id),
        ("trace_id", request.trace_id),
    ):
        if name is not None and len(name) > MAX_NAME_CHARACTERS:
            return f"{field} has {len(name)} characters; at most {MAX_NAME_CHARACTERS} are allowed"
    return ""
