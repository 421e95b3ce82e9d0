"""The chunks of a chat stream, typed. Servers leave out fields and send null for others: both are None here."""

from __future__ import annotations

from typing import Any

import msgspec

# No answer has a count near this: what is beyond it, or below 0, says nothing.
MAX_TOKENS = 10**12


class ToolCallDelta(msgspec.Struct, frozen=True):
    """What a chunk adds to one tool call.

    Attributes:
        index: which call of the message.
        id, type, name: in the call's first chunk; None afterwards.
        arguments: the next part of the arguments' JSON text.
    """

    index: int = 0
    id: str | None = None
    type: str | None = None
    name: str | None = None
    arguments: str | None = None


class ChatDelta(msgspec.Struct, frozen=True):
    """What a chunk adds to the message."""

    role: str | None = None
    content: str | None = None
    tool_calls: tuple[ToolCallDelta, ...] = ()


class Usage(msgspec.Struct, frozen=True):
    """What a completion cost, in tokens.

    Attributes:
        cached_prompt_tokens: of the prompt what the API had in its cache; 0, too, when it does not tell.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_prompt_tokens: int = 0


class ChatChunk(msgspec.Struct, frozen=True):
    """One chunk.

    Attributes:
        id, model: of the completion.
        delta: of its first choice; empty in a chunk without choices.
        finish_reason: why the model stopped, such as "stop", "length" or "tool_calls"; in the choice's last chunk.
        usage: in the stream's last chunk, from servers that tell it.
        is_whole: it is all of a completion that came in one piece.
    """

    id: str | None = None
    model: str | None = None
    delta: ChatDelta = ChatDelta()
    finish_reason: str | None = None
    usage: Usage | None = None
    is_whole: bool = False


def chat_chunk(answer: dict[str, Any], *, is_whole: bool = False) -> ChatChunk:
    """The chunk in one object of a stream, or in a completion that came whole (its message is the delta)."""
    choice = _dict(next(iter(_list(answer.get("choices"))), None))
    delta = _dict(choice.get("delta")) or _dict(choice.get("message"))
    return ChatChunk(
        id=_text(answer.get("id")),
        model=_text(answer.get("model")),
        delta=ChatDelta(
            role=_text(delta.get("role")),
            content=_text(delta.get("content")),
            tool_calls=tuple(_tool_call(call, index) for index, call in enumerate(_list(delta.get("tool_calls")))),
        ),
        finish_reason=_text(choice.get("finish_reason")),
        usage=chat_usage(answer),
        is_whole=is_whole,
    )


def chat_usage(answer: dict[str, Any]) -> Usage | None:
    """The usage in an object of a stream or in a completion; None when it tells none."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        total_tokens=_count(usage.get("total_tokens")),
        cached_prompt_tokens=_count(_dict(usage.get("prompt_tokens_details")).get("cached_tokens")),
    )


def _tool_call(call: object, place: int) -> ToolCallDelta:
    fields = _dict(call)
    function = _dict(fields.get("function"))
    index = fields.get("index")
    return ToolCallDelta(
        index=index if isinstance(index, int) else place,
        id=_text(fields.get("id")),
        type=_text(fields.get("type")),
        name=_text(function.get("name")),
        arguments=_text(function.get("arguments")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else 0


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
