"""Anthropic's ``POST /v1/messages``: its ``message`` object, its stream of events and its error envelope.

Source: Anthropic API reference, "Messages", "Count Message tokens" and "Errors". The request is in messages_request.py.
"""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from starlette.responses import JSONResponse

from .api_error import ApiError, new_request_id
from .message_events import as_events
from .messages_request import THREAD_UNSUPPORTED, MessagesRequest, parse, parse_count
from .reply import Reply

__all__ = [
    "COUNT_PATH",
    "PATH",
    "MessageAnswer",
    "MessagesRequest",
    "answer",
    "check_version",
    "error_response",
    "parse",
    "parse_count",
]

PATH = "/v1/messages"
COUNT_PATH = "/v1/messages/count_tokens"

_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class MessageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, before it takes the shape of JSON or of a stream.

    Attributes:
        id: "msg_" and 32 hexadecimal digits.
        content: its blocks: a text, tool_use.
    """

    id: str
    model: str
    reply: Reply
    content: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The ``message`` object."""
        return self._message(self.content, self._stop_reason, self.reply.stopped_at, self.reply.completion_tokens)

    def as_events(self) -> Iterator[bytes]:
        """Server-sent events, from message_start to message_stop."""
        # The first token is there when the message starts.
        begun = self._message([], None, None, min(1, self.reply.completion_tokens))
        return as_events(begun, self.as_json(), tuple(call.arguments for call in self.reply.tool_calls))

    @property
    def _stop_reason(self) -> str:
        if self.reply.is_cut:
            return "max_tokens"
        if self.reply.stopped_at is not None:
            return "stop_sequence"
        return "tool_use" if self.reply.tool_calls else "end_turn"

    def _message(
        self, content: list[dict[str, Any]], stop_reason: str | None, stop_sequence: str | None, output_tokens: int
    ) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": stop_sequence,
            "usage": {
                "input_tokens": self.reply.prompt_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": output_tokens,
                "service_tier": "standard",
            },
        }


def answer(request: MessagesRequest, reply: Reply) -> MessageAnswer:
    """The reply in this API's form, with ids of its own."""
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    content += (
        {"type": "tool_use", "id": _id("toolu"), "name": call.name, "input": msgspec.json.decode(call.arguments)}
        for call in reply.tool_calls
    )
    return MessageAnswer(id=_id("msg"), model=request.model, reply=reply, content=content)


def check_version(headers: Mapping[str, str]) -> None:
    """Refuse a request that does not say which version of the API it speaks, as the API does; any will do.

    Raises:
        ApiError: status 400.
    """
    if not headers.get("anthropic-version"):
        raise ApiError(400, "anthropic-version: header is required; send anthropic-version: 2023-06-01.")


def error_response(error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error in this API's envelope, whose types go by the status; with a request-id, unless ``headers`` has it."""
    headers = {"request-id": new_request_id()} | dict(headers or {})
    kind = _ERROR_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    said: dict[str, Any] = {"type": kind, "message": error.message}
    if error.code == THREAD_UNSUPPORTED:
        said["details"] = {"error_code": error.code}
    body = {"type": "error", "error": said, "request_id": headers["request-id"]}
    return JSONResponse(body, error.status, headers)


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
