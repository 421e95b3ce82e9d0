"""The messages of the wire, frozen, and their FlatBuffers form (protocol.md parts 1 and 2).

Fields stand in the slot order of ``schemas/connector_ipc.fbs``. ``None`` is an absent string or vector.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from .errors import LocalProtocolError, UnknownMessageType
from .fields import I32, U16, U32, U64, KeyValues
from .flatbuffer import TableCodec
from .framing import frame_header


class MessageType(enum.IntEnum):
    """The type byte of a frame."""

    EXECUTE_REQUEST = 0
    EXECUTE_RESPONSE = 1
    HEALTH_CHECK = 2
    HEALTH_RESPONSE = 3
    CREDIT_UPDATE = 4
    HELLO = 5
    RESPONSE_HEAD = 6
    BODY_CHUNK = 7
    RESPONSE_END = 8
    CANCEL = 9
    GO_AWAY = 10


class ErrorClass(enum.IntEnum):
    """How a request ended; TRANSIENT, RATE_LIMITED and TIMEOUT are worth another try."""

    SUCCESS = 0
    TRANSIENT = 1
    PERMANENT = 2
    RATE_LIMITED = 3
    TIMEOUT = 4
    INVALID_REQUEST = 5
    CANCELLED = 6


class ResponseMode(enum.IntEnum):
    """How the answer comes: in one frame, or as head, chunks and end."""

    BUFFERED = 0
    STREAM = 1


class PayloadFormat(enum.IntEnum):
    """What an ExecuteRequest's payload holds: JSON text, or an HttpRequest table."""

    JSON = 0
    HTTP_REQUEST = 1


class ExecuteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Type 0, client to daemon. ``deadline_at_ms``: Unix milliseconds, 0 for none."""

    request_id: U64 = 0
    tenant_id: str
    workspace_id: str | None = None
    trace_id: str | None = None
    connector_name: str
    operation: str
    deadline_at_ms: U64 = 0
    payload: bytes | None = None
    headers: KeyValues | None = None
    response_mode: ResponseMode = ResponseMode.BUFFERED
    payload_format: PayloadFormat = PayloadFormat.JSON


class ExecuteResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Type 1, daemon to client: the one answer to a buffered request."""

    request_id: U64 = 0
    error_class: ErrorClass = ErrorClass.SUCCESS
    error_message: str | None = None
    payload: bytes | None = None
    duration_us: U64 = 0
    retry_after_ms: U32 = 0
    attempts: U16 = 0


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Type 2, client to daemon; its payload is empty."""


class HealthCheckResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Type 3, daemon to client. ``available_credits``: requests that this connection may still add."""

    healthy: bool = False
    message: str | None = None
    active_requests: U32 = 0
    available_credits: U32 = 0
    version: str | None = None
    uptime_ms: U64 = 0
    draining: bool = False


class CreditUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """Type 4, both ways (protocol.md part 2, rule 6)."""

    credit_delta: I32 = 0
    total_credits: U32 = 0
    request_id: U64 = 0


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """Type 5, both ways, first (protocol.md part 2, rule 1)."""

    protocol_version: U16 = 0
    agent: str | None = None
    max_frame_bytes: U32 = 0
    stream_window_bytes: U32 = 0


class ResponseHead(msgspec.Struct, frozen=True, kw_only=True):
    """Type 6, daemon to client: the upstream's header block."""

    request_id: U64 = 0
    status_code: U16 = 0
    headers: KeyValues | None = None
    attempts: U16 = 0


class BodyChunk(msgspec.Struct, frozen=True, kw_only=True):
    """Type 7, daemon to client: one piece of body."""

    request_id: U64 = 0
    data: bytes | None = None


class ResponseEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Type 8, daemon to client: the end of a streamed answer."""

    request_id: U64 = 0
    error_class: ErrorClass = ErrorClass.SUCCESS
    error_message: str | None = None
    duration_us: U64 = 0
    retry_after_ms: U32 = 0
    attempts: U16 = 0


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """Type 9, client to daemon."""

    request_id: U64 = 0


class GoAway(msgspec.Struct, frozen=True, kw_only=True):
    """Type 10, daemon to client: it is draining."""

    reason: str | None = None


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of an ExecuteRequest in PayloadFormat.HTTP_REQUEST."""

    method: str | None = None
    url: str
    headers: KeyValues | None = None
    body: bytes | None = None
    timeout_ms: U32 = 0


class HttpResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the buffered answer to an HttpRequest."""

    status_code: U16 = 0
    headers: KeyValues | None = None
    body: bytes | None = None
    is_streaming: bool = False


Message: TypeAlias = (
    ExecuteRequest
    | ExecuteResponse
    | HealthCheck
    | HealthCheckResponse
    | CreditUpdate
    | Hello
    | ResponseHead
    | BodyChunk
    | ResponseEnd
    | Cancel
    | GoAway
)

_CLASSES: dict[MessageType, type[Message]] = {
    MessageType.EXECUTE_REQUEST: ExecuteRequest,
    MessageType.EXECUTE_RESPONSE: ExecuteResponse,
    MessageType.HEALTH_CHECK: HealthCheck,
    MessageType.HEALTH_RESPONSE: HealthCheckResponse,
    MessageType.CREDIT_UPDATE: CreditUpdate,
    MessageType.HELLO: Hello,
    MessageType.RESPONSE_HEAD: ResponseHead,
    MessageType.BODY_CHUNK: BodyChunk,
    MessageType.RESPONSE_END: ResponseEnd,
    MessageType.CANCEL: Cancel,
    MessageType.GO_AWAY: GoAway,
}
_TYPES: dict[type[Message], MessageType] = {cls: message_type for message_type, cls in _CLASSES.items()}
_CODECS = {cls: TableCodec(cls) for cls in _TYPES if cls is not HealthCheck}
HTTP_REQUEST_CODEC = TableCodec(HttpRequest)
HTTP_RESPONSE_CODEC = TableCodec(HttpResponse)
# A HealthCheck carries nothing; what the existing SDKs or others put into it is not read.
_DECODERS: dict[int, Callable[[bytes], Any]] = {_TYPES[cls]: codec.decode for cls, codec in _CODECS.items()}
_DECODERS[MessageType.HEALTH_CHECK] = lambda payload: HealthCheck()


def encode_message(message: Message) -> bytes:
    """The whole frame of a message.

    Raises:
        LocalProtocolError: a value does not fit its field, or the frame would exceed MAX_FRAME_BYTES.
    """
    message_class = type(message)
    message_type = _TYPES[message_class]
    codec = _CODECS.get(message_class)
    if codec is None:
        return frame_header(message_type, 0)
    pieces, size = codec.encode_pieces(message)
    return b"".join((frame_header(message_type, size), *pieces))


def encode_chunk(request_id: int, data: bytes) -> bytes:
    """As ``encode_message`` of a BodyChunk, for the daemon, whose streams are made of them: in a third of the time.

    Raises:
        LocalProtocolError: the frame would exceed MAX_FRAME_BYTES.
    """
    size = len(data)
    padding = bytes(-size % 4)
    header = frame_header(MessageType.BODY_CHUNK, _CHUNK_BYTES + size + len(padding))
    return b"".join((header, _CHUNK_HEAD, _pack_chunk(request_id, _CHUNK_OFFSET, size), data, padding))


# The table of a chunk that has both fields, as its codec writes it: request_id, then where the data is, then its size.
_EMPTY_CHUNK = _CODECS[BodyChunk].encode(BodyChunk(request_id=2**64 - 1, data=b""))
_CHUNK_BYTES = len(_EMPTY_CHUNK)
_CHUNK_HEAD, _, _rest = _EMPTY_CHUNK.partition(b"\xff" * 8)
_CHUNK_OFFSET = _rest[:-4]
_pack_chunk = struct.Struct(f"<Q{len(_CHUNK_OFFSET)}sI").pack


def encode_success(request_id: int, payload: bytes, duration_us: int, attempts: int) -> bytes:
    """As ``encode_message`` of a successful ExecuteResponse, which is what most requests get: in a third of the time.

    Raises:
        LocalProtocolError: the frame would exceed MAX_FRAME_BYTES, or a number does not fit its field.
    """
    size = len(payload)
    padding = bytes(-size % 4)
    header = frame_header(MessageType.EXECUTE_RESPONSE, _SUCCESS_BYTES + size + len(padding))
    try:
        numbers = _pack_success(request_id, duration_us, _SUCCESS_OFFSET, attempts, size)
    except struct.error as error:
        raise LocalProtocolError(f"ExecuteResponse cannot be encoded: {error}") from error
    return b"".join((header, _SUCCESS_HEAD, numbers, payload, padding))


# Its table: request_id and duration_us, then where the payload is, then attempts, then the payload's size.
_EMPTY_SUCCESS = _CODECS[ExecuteResponse].encode(
    ExecuteResponse(request_id=2**64 - 1, payload=b"", duration_us=2**64 - 1, attempts=2**16 - 1)
)
_SUCCESS_BYTES = len(_EMPTY_SUCCESS)
_SUCCESS_HEAD, _, _rest = _EMPTY_SUCCESS.partition(b"\xff" * 16)
_SUCCESS_OFFSET = _rest[:4]
_pack_success = struct.Struct("<QQ4sH2xI").pack


def decode_message(message_type: int, payload: bytes) -> Message:
    """The message that a frame carries.

    Raises:
        MalformedMessage: an unknown type (UnknownMessageType), or a payload that is not what the type says.
    """
    decode = _DECODERS.get(message_type)
    if decode is None:
        raise UnknownMessageType(f"unknown message type {message_type}")
    message: Message = decode(payload)
    return message
