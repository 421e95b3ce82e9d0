"""The http connector: JSON parameters in, one HTTP exchange, JSON out (protocol.md part 1)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import msgspec

from connector_sdk.wire import (
    MAX_FRAME_BYTES,
    MAX_KEY_VALUE_BYTES,
    MAX_KEY_VALUES,
    ErrorClass,
    ExecuteRequest,
    HttpResponse,
    MalformedMessage,
    PayloadFormat,
)
from connector_sdk.wire.messages import HTTP_REQUEST_CODEC, HTTP_RESPONSE_CODEC
from vastar_runtime.errors import InvalidRequest, RequestError
from vastar_runtime.http.response_reader import ResponseHead
from vastar_runtime.http.exchange import Exchange
from vastar_runtime.http.request import OutboundRequest, build_request
from vastar_runtime.http.url import Url, parse_url
from vastar_runtime.policies.passage import Passage

from .base import Outcome, Services, Sink

# An OpenAI stream ends with this event, whether or not the server then closes.
_DONE = re.compile(rb"(\A|\r\n|[\r\n])data: ?\[DONE\](?=[\r\n])")
_DONE_BYTES = len(b"\r\ndata: [DONE]")

MAX_TIMEOUT_MS = 10 * 365 * 24 * 3600 * 1000  # no one waits longer; a larger JSON number might not fit a float


class _Parameters(msgspec.Struct):
    """The payload's members, each kept as text until it is looked at: an unused one may be anything."""

    url: msgspec.Raw = msgspec.Raw(b"null")
    method: msgspec.Raw = msgspec.Raw(b"null")
    headers: msgspec.Raw = msgspec.Raw(b"null")
    timeout_ms: msgspec.Raw = msgspec.Raw(b"null")
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    body_base64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_parameters = msgspec.json.Decoder(_Parameters).decode


class HttpConnector:
    """connector_name "http"; any operation means "request"."""

    name = "http"

    def prepare(self, request: ExecuteRequest, outcome: Outcome) -> HttpCall:
        """Check the JSON parameters.

        Raises:
            InvalidRequest: with the existing runtime's words where it has any.
        """
        if request.payload_format is PayloadFormat.HTTP_REQUEST:
            return _prepare_table(request.payload or b"", outcome)
        try:
            parameters = _decode_parameters(request.payload or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"Invalid HTTP params: {error}") from error
        url = _value(parameters.url)
        if not isinstance(url, str):
            raise InvalidRequest("Missing required field: url")
        method = _value(parameters.method)
        if not isinstance(method, str | None):
            raise InvalidRequest(f"Invalid HTTP params: method must be a string, not {_kind(method)}")
        parsed = _parse_url(url, outcome)
        headers = _headers(parameters.headers)
        outbound = build_request(method or "GET", parsed, headers.items(), _body(parameters))
        return HttpCall(outbound, _timeout_ms(_value(parameters.timeout_ms)), outcome, encode_answer)


def _prepare_table(payload: bytes, outcome: Outcome) -> HttpCall:
    """A request in a FlatBuffers table: any bytes as body, repeated headers in order (protocol.md part 2, rule 2)."""
    try:
        request = HTTP_REQUEST_CODEC.decode(payload)
    except MalformedMessage as error:
        raise InvalidRequest(f"Invalid HTTP params: {error}") from error
    url = _parse_url(request.url, outcome)
    outbound = build_request(request.method or "GET", url, request.headers or (), request.body or b"")
    return HttpCall(outbound, request.timeout_ms or None, outcome, encode_table)


def _parse_url(text: str, outcome: Outcome) -> Url:
    url = parse_url(text)
    outcome.origin, outcome.path = str(url.origin), url.path
    return url


class HttpCall:
    """One HTTP request, checked.

    Args:
        encode: makes the payload of a buffered answer.
    """

    def __init__(
        self,
        outbound: OutboundRequest,
        timeout_ms: float | None,
        outcome: Outcome,
        encode: Callable[[ResponseHead, bytes, bool], bytes],
    ) -> None:
        outcome.method = outbound.method
        self.origin = outbound.url.origin.without_root
        self.timeout_ms = timeout_ms
        self._outbound = outbound
        self._outcome = outcome
        self._encode = encode

    async def execute(self, services: Services, passage: Passage, hold: Callable[[int], None]) -> bytes:
        """The buffered answer's payload."""
        exchange = self._exchange(services, passage)
        try:
            await self._open(exchange, passage)
            is_streaming = _is_event_stream(exchange.head)
            body = await _collect(exchange, is_streaming, hold)
        finally:
            await exchange.close()
        self._outcome.body_bytes = len(body)
        return self._encode(exchange.head, body, is_streaming)

    async def stream(self, services: Services, passage: Passage, sink: Sink) -> None:
        """Head and pieces as they arrive."""
        exchange = self._exchange(services, passage)
        try:
            await self._open(exchange, passage)
            await sink.head(exchange.head.status_code, _pairs(exchange.head))
            async for piece in exchange.pieces():
                self._outcome.body_bytes += len(piece)
                await sink.piece(piece)
        finally:
            await exchange.close()

    def _exchange(self, services: Services, passage: Passage) -> Exchange:
        return Exchange(
            services.pool,
            services.dialer,
            passage.tenant_id,
            self._outbound,
            passage.deadline.progress,
            passage.send,
        )

    async def _open(self, exchange: Exchange, passage: Passage) -> None:
        try:
            await exchange.open()
        finally:
            self._outcome.attempts = exchange.attempts
        passage.deadline.head_received()
        self._outcome.status_code = exchange.head.status_code


async def _collect(exchange: Exchange, is_event_stream: bool, hold: Callable[[int], None]) -> bytes:
    declared = _declared_bytes(exchange.head)
    if declared > MAX_FRAME_BYTES and exchange.has_body:
        raise too_long(declared)  # no need to fetch it first
    body = bytearray()
    async for piece in exchange.pieces():
        if len(body) + len(piece) > MAX_FRAME_BYTES:
            raise too_long(len(body) + len(piece), at_least="at least ")
        hold(len(piece))
        search_from = max(0, len(body) - _DONE_BYTES)
        body += piece
        if is_event_stream and (done := _DONE.search(body, search_from)):
            exchange.end_early()
            # The event's empty line may be on its way still; it is written in the stream's own line ends.
            return bytes(body[: done.end()]) + 2 * (done[1] or b"\n")
    return bytes(body)


def too_long(body_bytes: int, at_least: str = "") -> RequestError:
    """The error for a body that no legacy SDK could receive."""
    return RequestError(
        ErrorClass.PERMANENT,
        f"response body of {at_least}{body_bytes} bytes exceeds the frame limit of {MAX_FRAME_BYTES} bytes; "
        "use streaming",
    )


def encode_answer(head: ResponseHead, body: bytes, is_streaming: bool) -> bytes:
    """The JSON text of protocol.md part 1, with body_base64 and header_list where the text alone would lose something.

    Raises:
        RequestError: Permanent, when it would not fit a frame.
    """
    headers: dict[str, str] = {}
    has_repeated = False
    pairs = _pairs(head)
    for name, value in pairs:
        if name in headers:
            has_repeated = True
            headers[name] += ("\n" if name == "set-cookie" else ", ") + value
        else:
            headers[name] = value
    answer: dict[str, Any] = {}
    try:
        answer["body"] = body.decode()
    except UnicodeDecodeError:
        answer["body"] = body.decode(errors="replace")
        answer["body_base64"] = base64.b64encode(body).decode()
    if has_repeated:
        answer["header_list"] = pairs
    answer["headers"] = headers
    answer["is_streaming"] = is_streaming
    answer["status_code"] = head.status_code
    payload = msgspec.json.encode(answer)
    if len(payload) > MAX_FRAME_BYTES - _FRAME_OVERHEAD_BYTES:
        raise RequestError(
            ErrorClass.PERMANENT,
            f"response body of {len(body)} bytes exceeds, as JSON text of {len(payload)} bytes, "
            f"the frame limit of {MAX_FRAME_BYTES} bytes; use streaming",
        )
    return payload


def encode_table(head: ResponseHead, body: bytes, is_streaming: bool) -> bytes:
    """The HttpResponse table of protocol.md part 2, rule 2.

    Raises:
        RequestError: Permanent, when it would not fit a frame.
    """
    payload = HTTP_RESPONSE_CODEC.encode(
        HttpResponse(status_code=head.status_code, headers=_pairs(head), body=body, is_streaming=is_streaming)
    )
    if len(payload) > MAX_FRAME_BYTES - _FRAME_OVERHEAD_BYTES:
        raise too_long(len(body))
    return payload


def _pairs(head: ResponseHead) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1"), _header_text(value)) for name, value in head.headers)


def _header_text(value: bytes) -> str:
    """The wire's strings are UTF-8; a value that is none is text of the past (RFC 9110, section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


# What an ExecuteResponse adds to its payload: type byte, root, vtable, table, lengths (under 100 bytes).
_FRAME_OVERHEAD_BYTES = 256


def _declared_bytes(head: ResponseHead) -> int:
    """Content-Length, 0 when there is none."""
    return next((int(value) for name, value in head.headers if name == b"content-length"), 0)


def _is_event_stream(head: ResponseHead) -> bool:
    content_type = next((value for name, value in head.headers if name == b"content-type"), b"")
    return content_type.partition(b";")[0].strip().lower() == b"text/event-stream"


def _value(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"Invalid HTTP params: {error}") from error


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _headers(raw: msgspec.Raw) -> dict[str, str]:
    if len(bytes(raw)) > 2 * MAX_KEY_VALUE_BYTES:  # judged before it becomes objects, of which there would be many
        raise InvalidRequest(f"Invalid HTTP params: headers of {len(bytes(raw))} bytes are more than any server takes")
    value = _value(raw)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"Invalid HTTP params: headers must be an object of strings, not {_kind(value)}")
    if len(value) > MAX_KEY_VALUES:
        raise InvalidRequest(f"Invalid HTTP params: {len(value)} headers exceed the limit of {MAX_KEY_VALUES}")
    for name, text in value.items():
        if not isinstance(text, str):
            raise InvalidRequest(f"Invalid HTTP params: header {name[:64]!r} must be a string, not {_kind(text)}")
    return value


def _body(parameters: _Parameters) -> bytes:
    if parameters.body_base64 is not msgspec.UNSET:
        if parameters.body is not msgspec.UNSET:
            raise InvalidRequest("Invalid HTTP params: body and body_base64 exclude each other")
        text = _value(parameters.body_base64)
        try:
            return base64.b64decode(text, validate=True)
        except (ValueError, TypeError) as error:
            raise InvalidRequest(f"Invalid HTTP params: body_base64 is no base64 string ({error})") from error
    if parameters.body is msgspec.UNSET:
        return b""
    text = bytes(parameters.body)
    if text.startswith(b'"'):
        return str(_value(parameters.body)).encode()
    # Its syntax was checked on the way here; a tree of objects of ten million brackets would only cost time.
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"Invalid HTTP params: the body is not UTF-8 ({error})") from error
    return text


def _timeout_ms(value: object) -> float | None:
    """0 means none: SDKs in Go and Java send it for a field that was never set."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InvalidRequest("Invalid HTTP params: timeout_ms must be a number of milliseconds above 0")
    return float(min(value, MAX_TIMEOUT_MS)) or None
