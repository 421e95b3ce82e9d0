"""An HTTPRequest to the frame that asks for it, and the answer back to an HTTPResponse (protocol.md part 1). No I/O."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from .config import RuntimeConfig, check_timeout_ms, check_type
from .errors import ConnectorException
from .models import HTTPRequest, HTTPResponse
from .wire import ErrorClass, ExecuteRequest, ExecuteResponse, LocalProtocolError, encode_message


class _ResponsePayload(msgspec.Struct, frozen=True):
    """The JSON object in an ExecuteResponse of the http connector."""

    status_code: int
    headers: dict[str, str] = {}
    body: str = ""
    body_base64: bytes | None = None  # msgspec reads base64 into bytes


_RESPONSE_PAYLOAD = msgspec.json.Decoder(_ResponsePayload)


def effective_timeout_ms(request: HTTPRequest, config: RuntimeConfig) -> int:
    """The request's timeout, or the client's.

    Raises:
        ConnectorException: INVALID_REQUEST, not above 0 or beyond any use.
        TypeError: no int.
    """
    return config.timeout_ms if request.timeout_ms is None else check_timeout_ms("timeout_ms", request.timeout_ms)


def encode_request(request: HTTPRequest, config: RuntimeConfig, request_id: int, timeout_ms: int) -> bytes:
    """The frame of an ExecuteRequest whose deadline is ``timeout_ms`` from now.

    Raises:
        ConnectorException: INVALID_REQUEST, a frame over the limit (its size and the limit are named), text that
            is not Unicode.
        TypeError: an attribute of the wrong type, by name.
    """
    tenant_id = config.tenant_id if request.tenant_id is None else request.tenant_id
    workspace_id = config.workspace_id if request.workspace_id is None else request.workspace_id
    check_type("tenant_id", tenant_id, str)
    check_type("workspace_id", workspace_id, str)
    check_type("trace_id", request.trace_id, str, type(None))
    try:
        return encode_message(
            ExecuteRequest(
                request_id=request_id,
                tenant_id=tenant_id,
                workspace_id=workspace_id or None,
                trace_id=request.trace_id,
                connector_name="http",
                operation="request",
                deadline_at_ms=time.time_ns() // 1_000_000 + timeout_ms,
                payload=msgspec.json.encode(_request_payload(request, timeout_ms)),
            )
        )
    except (LocalProtocolError, UnicodeEncodeError) as error:
        raise ConnectorException(
            f"the request cannot be sent: {error}", ErrorClass.INVALID_REQUEST, request_id
        ) from error


def decode_response(answer: ExecuteResponse) -> HTTPResponse:
    """The response in a successful answer.

    Raises:
        ConnectorException: the answer's class and message when it is no success; PERMANENT when it cannot be read.
    """
    if answer.error_class is not ErrorClass.SUCCESS:
        message = answer.error_message or "the daemon gave no reason"
        raise ConnectorException(message, answer.error_class, answer.request_id)
    try:
        payload = _RESPONSE_PAYLOAD.decode(answer.payload or b"")
        body = payload.body.encode() if payload.body_base64 is None else payload.body_base64
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ConnectorException(
            f"the daemon's answer cannot be read: {error}", ErrorClass.PERMANENT, answer.request_id
        ) from error
    return HTTPResponse(
        request_id=answer.request_id,
        status_code=payload.status_code,
        headers=payload.headers,
        body=body,
        duration_us=answer.duration_us,
        error_class=answer.error_class,
        error_message=answer.error_message,
    )


def _request_payload(request: HTTPRequest, timeout_ms: int) -> dict[str, Any]:
    check_type("method", request.method, str)
    check_type("url", request.url, str)
    payload: dict[str, Any] = {"method": request.method, "url": request.url, "timeout_ms": timeout_ms}
    if request.headers is not None:
        check_type("headers", request.headers, Mapping)
        for name, value in request.headers.items():
            check_type(f"header name {name!r}", name, str)
            check_type(f"the value of header {name!r}", value, str)
        payload["headers"] = dict(request.headers)
    body = request.body
    if body is not None:
        check_type("body", body, bytes, bytearray, memoryview, str)
        if isinstance(body, str):
            payload["body"] = body
        else:
            try:
                payload["body"] = bytes(body).decode()
            except UnicodeDecodeError:
                payload["body_base64"] = bytes(body)
    return payload
