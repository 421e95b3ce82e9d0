"""Anthropic's ``POST /v1/messages``: its request, its ``message`` object, its stream of events and its error envelope.

Source: Anthropic API reference, "Messages", "Streaming messages" and "Errors". Other fields are accepted and have no
effect.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from starlette.responses import JSONResponse

from . import answers
from .api_error import ApiError
from .request import MAX_MODEL_CHARS, Message, TextPart

PATH = "/v1/messages"

_ERROR_TYPES = {401: "authentication_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error"}


Role = Literal["user", "assistant"]


class Turn(msgspec.Struct, frozen=True):
    """One message of the conversation; images, documents and tools are refused."""

    role: Role
    content: str | list[TextPart]


class MessagesRequest(msgspec.Struct, frozen=True):
    """A request; null is the same as absent in the optional fields."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_MODEL_CHARS)]
    messages: Annotated[list[Turn], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    system: str | list[TextPart] | None = None
    stream: bool | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None

    @property
    def conversation(self) -> list[Message]:
        """The same as messages of a chat, the instructions first."""
        turns = [Message(turn.role, turn.content) for turn in self.messages]
        return turns if self.system is None else [Message("system", self.system), *turns]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, before it takes the shape of JSON or of a stream.

    Attributes:
        id: "msg_" and 32 hexadecimal digits.
        stop_reason: "max_tokens" when that cut the answer.
    """

    id: str
    model: str
    text: str
    stop_reason: Literal["end_turn", "max_tokens"]
    input_tokens: int

    def as_json(self) -> dict[str, Any]:
        """The ``message`` object."""
        return self._message([{"type": "text", "text": self.text}], self.stop_reason, answers.count_tokens(self.text))

    def as_events(self) -> Iterator[bytes]:
        """Server-sent events: the message without its text, the text word by word, the stop reason with the usage."""
        yield _event("message_start", message=self._message([], None, 0))
        yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for words in answers.split_words(self.text):
            yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})
        yield _event("content_block_stop", index=0)
        usage = {"output_tokens": answers.count_tokens(self.text)}
        yield _event("message_delta", delta={"stop_reason": self.stop_reason, "stop_sequence": None}, usage=usage)
        yield _event("message_stop")

    def _message(self, content: list[dict[str, str]], stop_reason: str | None, output_tokens: int) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {"input_tokens": self.input_tokens, "output_tokens": output_tokens},
        }


def reply(request: MessagesRequest, texts: Sequence[str]) -> Reply:
    """Answers a request with one of ``texts``, within its token limit."""
    whole = answers.answer(request.conversation, texts)
    text = answers.cut(whole, request.max_tokens)
    return Reply(
        id=f"msg_{uuid.uuid4().hex}",
        model=request.model,
        text=text,
        stop_reason="end_turn" if text == whole else "max_tokens",
        input_tokens=sum(answers.count_tokens(message.text) for message in request.conversation),
    )


def error_response(error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error in this API's envelope; its types go by the status."""
    kind = _ERROR_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    return JSONResponse({"type": "error", "error": {"type": kind, "message": error.message}}, error.status, headers)


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind} | fields))
