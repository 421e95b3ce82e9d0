"""The payload of a buffered answer: JSON text, or a table (protocol.md part 1; part 2, rule 2)."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from connector_sdk.wire import MAX_FRAME_BYTES, ErrorClass, HttpResponse
from connector_sdk.wire.messages import HTTP_RESPONSE_CODEC
from vastar_runtime.errors import RequestError
from vastar_runtime.http.response import ResponseHead

# What an ExecuteResponse adds to its payload: type byte, root, vtable, table, lengths (under 100 bytes).
_FRAME_OVERHEAD_BYTES = 256


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
    pairs = head.text
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
        HttpResponse(status_code=head.status_code, headers=head.text, body=body, is_streaming=is_streaming)
    )
    if len(payload) > MAX_FRAME_BYTES - _FRAME_OVERHEAD_BYTES:
        raise too_long(len(body))
    return payload
