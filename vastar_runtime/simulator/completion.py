"""The shapes of an answer: a ``chat.completion`` object, or the events of a ``chat.completion.chunk`` stream.

Source: OpenAI API reference, "The chat completion object" and "The chat completion chunk object".
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from . import answers
from .request import ChatRequest


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, before it takes the shape of JSON or of a stream.

    Attributes:
        id: "chatcmpl-" and 32 hexadecimal digits.
        created: Unix time in seconds.
        finish_reason: "length" when max_tokens cut the answer.
    """

    id: str
    created: int
    model: str
    content: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int

    def as_json(self) -> dict[str, Any]:
        """The ``chat.completion`` object."""
        message = {"role": "assistant", "content": self.content, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return self._object("chat.completion", [choice], self._usage())

    def as_events(self) -> Iterator[bytes]:
        """Server-sent events: the role, the content word by word, the finish reason, the usage, ``[DONE]``.

        The usage chunk is sent whether or not ``stream_options`` asks for it.
        """
        yield self._chunk({"role": "assistant", "content": "", "refusal": None})
        for words in answers.split_words(self.content):
            yield self._chunk({"content": words})
        yield self._chunk({}, self.finish_reason)
        yield _event(msgspec.json.encode(self._object("chat.completion.chunk", [], self._usage())))
        yield _event(b"[DONE]")

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event(msgspec.json.encode(self._object("chat.completion.chunk", [choice], None)))

    def _object(self, kind: str, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "usage": usage,
        }

    def _usage(self) -> dict[str, int]:
        completion_tokens = answers.count_tokens(self.content)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        }


def complete(request: ChatRequest, texts: Sequence[str]) -> Completion:
    """Answers a request with one of ``texts``, within its token limit."""
    whole = answers.answer(request.messages, texts)
    content = whole if request.token_limit is None else answers.cut(whole, request.token_limit)
    return Completion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=request.model,
        content=content,
        finish_reason="stop" if content == whole else "length",
        prompt_tokens=sum(answers.count_tokens(message.text) for message in request.messages),
    )


def _event(data: bytes) -> bytes:
    return b"data: %b\n\n" % data
