"""OpenAI's ``POST /v1/chat/completions``: a ``chat.completion`` object, or the events of a stream of its chunks.

Source: OpenAI API reference, "The chat completion object" and "The chat completion chunk object". The request is in
chat_request.py.
"""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec

from . import answers
from .chat_request import ChatRequest, parse
from .reply import Reply

__all__ = ["PATH", "Completion", "answer", "parse"]

PATH = "/v1/chat/completions"


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, before it takes the shape of JSON or of a stream.

    Attributes:
        id: "chatcmpl-" and 32 hexadecimal digits.
        created: Unix time in seconds.
        choices: how often the reply is in it.
        includes_usage: the last chunk of a stream has the usage.
        is_forced: a certain tool had to be called, which the API takes for no decision of the model's.
    """

    id: str
    created: int
    model: str
    reply: Reply
    choices: int
    includes_usage: bool
    is_forced: bool = False

    def as_json(self) -> dict[str, Any]:
        """The ``chat.completion`` object."""
        choices = []
        for index in range(self.choices):
            message: dict[str, Any] = {"role": "assistant", "content": self._content, "refusal": None}
            if self.reply.tool_calls:
                message["tool_calls"] = [_call(call.name, call.arguments) for call in self.reply.tool_calls]
            choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": self._finish_reason})
        return self._object("chat.completion", choices) | {"usage": self._usage()}

    def as_events(self) -> Iterator[bytes]:
        """Server-sent events: roles, the content word by word or the calls, finish reasons, usage, ``[DONE]``.

        Those of all choices come together, so that several go on at the pace of one.
        """
        for deltas in self._deltas():
            yield b"".join(self._chunk(index, delta, None) for index, delta in enumerate(deltas))
        yield b"".join(self._chunk(index, {}, self._finish_reason) for index in range(self.choices))
        if self.includes_usage:
            yield _event(self._object("chat.completion.chunk", []) | {"usage": self._usage()})
        yield b"data: [DONE]\n\n"

    def _deltas(self) -> Iterator[list[dict[str, Any]]]:
        """Each as often as there are choices."""
        many = self.choices
        yield [{"role": "assistant", "content": None if self.reply.tool_calls else "", "refusal": None}] * many
        for words in answers.split_words(self.reply.text):
            yield [{"content": words}] * many
        for number, call in enumerate(self.reply.tool_calls):
            # Of ids of their own.
            yield [{"tool_calls": [{"index": number} | _call(call.name, "")]} for _ in range(many)]
            for piece in answers.split_tokens(call.arguments):
                yield [{"tool_calls": [{"index": number, "function": {"arguments": piece}}]}] * many

    @property
    def _content(self) -> str | None:
        return None if self.reply.tool_calls else self.reply.text

    @property
    def _finish_reason(self) -> str:
        if self.reply.is_cut:
            return "length"
        return "tool_calls" if self.reply.tool_calls and not self.is_forced else "stop"

    def _chunk(self, index: int, delta: dict[str, Any], finish_reason: str | None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        # Where the usage will come, every other chunk says that it is not this one.
        usage = {"usage": None} if self.includes_usage else {}
        return _event(self._object("chat.completion.chunk", [choice]) | usage)

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": "fp_simulator",
        }

    def _usage(self) -> dict[str, Any]:
        return usage(self.reply.prompt_tokens, self.reply.completion_tokens * self.choices)


def answer(request: ChatRequest, reply: Reply) -> Completion:
    """The reply in this API's form, as often as the request wants it."""
    return Completion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=request.model,
        reply=reply,
        choices=request.n or 1,
        includes_usage=request.includes_usage,
        is_forced=request.names_tool,
    )


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """The object ``usage``, in which nothing was cached, heard, or thought about."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _call(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def _event(data: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(data)
