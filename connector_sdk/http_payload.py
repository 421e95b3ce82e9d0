"""An HTTPRequest to the message that asks for it, and the answer back to an HTTPResponse. No I/O.

Towards our daemon both are FlatBuffers tables (protocol.md part 2, rule 2), towards the existing runtime JSON (part 1).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec

from .config import RuntimeConfig, check_timeout_ms, check_type
from .error_answer import Asked
from .errors import ConnectorException
from .headers import Headers
from .models import HTTPRequest, HTTPResponse
from .wire import (
    BodyChunk,
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    HttpRequest,
    HttpResponse,
    PayloadFormat,
    RemoteProtocolError,
    ResponseEnd,
    ResponseHead,
    ResponseMode,
)
from .wire.messages import HTTP_REQUEST_CODEC, HTTP_RESPONSE_CODEC


class _ResponsePayload(msgspec.Struct, frozen=True):
    """The JSON object in an ExecuteResponse of the http connector."""

    status_code: int
    headers: dict[str, str] = {}
    body: str = ""
    body_base64: bytes | None = None  # msgspec reads base64 into bytes


_RESPONSE_PAYLOAD = msgspec.json.Decoder(_ResponsePayload)


@dataclass(frozen=True)
class WaitLimits:
    """How long a caller waits for one thing, in milliseconds; None: as long as the whole exchange may take.

    Attributes:
        connect_ms: for the daemon to take a connection, if one has to be opened; at most 10 s in any case.
        head_ms: for the head of the response, from the moment the request was sent.
        piece_ms: for each piece of the body, from the moment it is asked for.
    """

    connect_ms: int | None = None
    head_ms: int | None = None
    piece_ms: int | None = None


NO_WAIT_LIMITS = WaitLimits()


@dataclass(slots=True)
class PreparedRequest:
    """A request whose every part can be sent: whom it goes to decides in which form.

    Attributes:
        timeout_ms: the request's, or the client's.
    """

    tenant_id: str
    workspace_id: str | None
    trace_id: str | None
    http: HttpRequest = field(repr=False)  # headers and bodies carry keys
    timeout_ms: int

    @property
    def asked(self) -> Asked:
        """What the response answers."""
        return Asked(self.http.method or "", self.http.url or "", self.http.headers)

    def message(self, request_id: int, mode: ResponseMode, *, is_legacy: bool) -> ExecuteRequest:
        """The request's message, its deadline ``timeout_ms`` from now."""
        return ExecuteRequest(
            request_id=request_id,
            tenant_id=self.tenant_id,
            workspace_id=self.workspace_id,
            trace_id=self.trace_id,
            connector_name="http",
            operation="request",
            deadline_at_ms=time.time_ns() // 1_000_000 + self.timeout_ms,
            payload=_json_payload(self.http) if is_legacy else HTTP_REQUEST_CODEC.encode(self.http),
            response_mode=mode,
            payload_format=PayloadFormat.JSON if is_legacy else PayloadFormat.HTTP_REQUEST,
        )


def prepare(request: HTTPRequest, config: RuntimeConfig) -> PreparedRequest:
    """Check a request, and fill in what it leaves to the client.

    Raises:
        ConnectorException: INVALID_REQUEST, text that is not Unicode, a timeout not above 0 or beyond any use.
        TypeError: an attribute of the wrong type, by name.
    """
    check_type("request", request, HTTPRequest)
    tenant_id = config.tenant_id if request.tenant_id is None else request.tenant_id
    workspace_id = config.workspace_id if request.workspace_id is None else request.workspace_id
    check_type("trace_id", request.trace_id, str, type(None))
    timeout_ms = config.timeout_ms if request.timeout_ms is None else check_timeout_ms("timeout_ms", request.timeout_ms)
    return PreparedRequest(
        tenant_id=_text("tenant_id", tenant_id),
        workspace_id=_text("workspace_id", workspace_id) or None,
        trace_id=None if request.trace_id is None else _text("trace_id", request.trace_id),
        http=HttpRequest(
            method=_text("method", request.method),
            url=_text("url", request.url),
            headers=_header_items(request.headers),
            body=_body(request.body),
            timeout_ms=timeout_ms,
        ),
        timeout_ms=timeout_ms,
    )


def decode_response(answer: ExecuteResponse, asked: Asked, *, is_legacy: bool) -> HTTPResponse:
    """The response in a successful answer to ``asked``.

    Raises:
        ConnectorException: the answer's class and message when it is no success; PERMANENT when it cannot be read.
    """
    raise_for_end(answer)
    try:
        status_code, headers, body = (_read_json if is_legacy else _read_table)(answer.payload or b"")
    except (msgspec.MsgspecError, UnicodeError, RecursionError, RemoteProtocolError) as error:
        raise ConnectorException(
            f"the daemon's answer cannot be read: {error}", ErrorClass.PERMANENT, answer.request_id
        ) from error
    return HTTPResponse(
        request_id=answer.request_id,
        status_code=status_code,
        headers=headers,
        body=body,
        duration_us=answer.duration_us,
        error_class=answer.error_class,
        error_message=answer.error_message,
        attempts=answer.attempts,
        asked=asked,
    )


def head_of(response: HTTPResponse) -> ResponseHead:
    """The head of a response that came whole."""
    return ResponseHead(
        request_id=response.request_id,
        status_code=response.status_code,
        headers=tuple(response.headers.items()),
        attempts=response.attempts,
    )


def raise_for_end(end: ExecuteResponse | ResponseEnd) -> None:
    """Raise what a terminal message says went wrong.

    Raises:
        ConnectorException: its class and message, when it is no success.
    """
    if end.error_class is not ErrorClass.SUCCESS:
        raise ConnectorException(
            end.error_message or "the daemon gave no reason",
            end.error_class,
            end.request_id,
            retry_after_ms=end.retry_after_ms,
            attempts=end.attempts,
        )


def raise_without_head(end: BodyChunk | ExecuteResponse | ResponseEnd) -> NoReturn:
    """Raise what it means that this came where the head of a streamed response was to come.

    Raises:
        ConnectorException: as ``raise_for_end``; PERMANENT, when it is a success.
    """
    assert not isinstance(end, BodyChunk)  # the rules have none before the head
    raise_for_end(end)
    raise ConnectorException("the daemon ended the stream without a response", ErrorClass.PERMANENT, end.request_id)


def _text(name: str, value: str) -> str:
    if type(value) is str and value.isascii():  # which Python knows without looking at the text
        return value
    check_type(name, value, str)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConnectorException(f"the request cannot be sent: {name}: {error}", ErrorClass.INVALID_REQUEST) from error
    return value


def _header_items(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...] | None:
    if headers is None:
        return None
    if type(headers) is not dict:
        check_type("headers", headers, Mapping)
    pairs = tuple(headers.multi_items() if isinstance(headers, Headers) else headers.items())
    for name, value in pairs:
        if not (type(name) is str is type(value) and name.isascii() and value.isascii()):
            _text(f"header name {name!r}", name)
            _text(f"the value of header {name!r}", value)
    return pairs


def _body(body: bytes | str | None) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    check_type("body", body, bytes, bytearray, memoryview, str, type(None))
    return _text("body", body).encode() if isinstance(body, str) else bytes(body)


def _json_payload(request: HttpRequest) -> bytes:
    payload: dict[str, Any] = {"method": request.method, "url": request.url, "timeout_ms": request.timeout_ms}
    if request.headers is not None:
        headers = Headers(request.headers)
        names = {name.lower(): name for name, _ in request.headers}
        payload["headers"] = {name: headers[name] for name in names.values()}
    if request.body is not None:
        try:
            payload["body"] = request.body.decode()
        except UnicodeDecodeError:
            payload["body_base64"] = request.body
    return msgspec.json.encode(payload)


def _read_json(data: bytes) -> tuple[int, dict[str, str], bytes]:
    payload = _RESPONSE_PAYLOAD.decode(data)
    body = payload.body.encode() if payload.body_base64 is None else payload.body_base64
    return payload.status_code, payload.headers, body


def _read_table(data: bytes) -> tuple[int, dict[str, str], bytes]:
    response: HttpResponse = HTTP_RESPONSE_CODEC.decode(data)
    items = response.headers or ()
    by_name = {name.lower(): value for name, value in items}
    if len(by_name) == len(items):  # no name comes twice, as a rule
        return response.status_code, by_name, response.body or b""
    return response.status_code, Headers(items).joined(), response.body or b""
