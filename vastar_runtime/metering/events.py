"""One event of a streamed answer: what it adds to the tally.

OpenAI's chunks have ``choices`` with a ``delta``; events of its responses API have a ``delta`` that is a string, and
the last one the whole ``response``; Anthropic's have a ``delta`` that is an object, and the first one a ``message``.
One struct knows the members of all: to look for the dialect first would cost a second decode.
"""

from __future__ import annotations

import msgspec

from .estimate import BYTES_PER_TOKEN, estimated_tokens, tokens_of_ascii
from .members import NOTHING, decoded, printable
from .members import name as name_of
from .tally import USAGE, Tally, Usage


class _Function(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, frozen=True, gc=False):
    function: _Function | None = None


class _Delta(msgspec.Struct, frozen=True, gc=False):
    """Of OpenAI's dialect; reasoning has two names in it."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _BlockDelta(msgspec.Struct, frozen=True, gc=False):
    """Of Anthropic's."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class Choice(msgspec.Struct, frozen=True, gc=False):
    """Of a chunk, with a delta (chat) or a text; of a whole answer, with a message or a text."""

    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None


class _Inner(msgspec.Struct, frozen=True, gc=False):
    model: str | None = None
    usage: Usage | None = None


class _Event(msgspec.Struct, frozen=True, gc=False):
    model: str | None = None
    choices: list[Choice] | None = None
    delta: _BlockDelta | str | None = None
    usage: Usage | None = None
    response: _Inner | None = None
    message: _Inner | str | None = None


class _LooseInner(msgspec.Struct, frozen=True, gc=False):
    model: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING


class _LooseEvent(_LooseInner, frozen=True, gc=False):
    choices: msgspec.Raw = NOTHING
    delta: msgspec.Raw = NOTHING
    response: msgspec.Raw = NOTHING
    message: msgspec.Raw = NOTHING


# Longer events, but for those that are one long text, are of more objects than are worth a look at each.
MAX_TYPED_BYTES = 4 * 1024
MAX_OBJECTS = 64
# What stands around the text of an event that is not looked into is at most about so much: that of its text beyond is
# counted, which is a token for most.
FRAME_BYTES = 256

_decode = msgspec.json.Decoder(_Event).decode
_LOOSE_EVENT = msgspec.json.Decoder(_LooseEvent)
_LOOSE_INNER = msgspec.json.Decoder(_LooseInner)
_EMPTY = (b"", b"null", b"[]", b"{}")


def read_event(data: bytes, tally: Tally) -> bool:
    """Add an event to the tally. Returns False when its data cannot be read."""
    if len(data) > MAX_TYPED_BYTES and data.count(b"{") > MAX_OBJECTS:
        return _read_loosely(data, tally)
    try:
        event = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_loosely(data, tally)
    if event.choices:
        for choice in event.choices:
            add_choice(choice, tally)
    delta = event.delta
    if delta is not None:
        tally.add_text(delta if isinstance(delta, str) else delta.text or delta.thinking or delta.partial_json or "")
    if event.usage is not None:
        tally.tell(event.usage)
    if event.model and not tally.model:
        tally.model = printable(event.model)
    if event.response is not None:
        _read_inner(event.response, tally, is_start=False)
    if isinstance(event.message, _Inner):
        _read_inner(event.message, tally, is_start=True)
    return True


def add_choice(choice: Choice, tally: Tally) -> None:
    """Add the text of a choice to the tally."""
    if choice.delta is not None:
        _add_delta(choice.delta, tally)
    if choice.message is not None:
        _add_delta(choice.message, tally)
    if choice.text:
        tally.add_text(choice.text)


def _add_delta(delta: _Delta, tally: Tally) -> None:
    if delta.content:
        tally.add_text(delta.content)
    if delta.reasoning_content:
        tally.add_text(delta.reasoning_content)
    elif delta.reasoning:  # some servers write both, the same
        tally.add_text(delta.reasoning)
    if delta.refusal:
        tally.add_text(delta.refusal)
    if delta.tool_calls:
        for call in delta.tool_calls:
            if call.function is not None:
                _add_function(call.function, tally)
    if delta.function_call is not None:
        _add_function(delta.function_call, tally)


def _add_function(function: _Function, tally: Tally) -> None:
    tally.add_text((function.name or "") + (function.arguments or ""))


def _read_inner(inner: _Inner, tally: Tally, *, is_start: bool) -> None:
    if inner.model and not tally.model:
        tally.model = printable(inner.model)
    if inner.usage is not None:
        tally.tell(inner.usage, is_start=is_start)


def _read_loosely(data: bytes, tally: Tally) -> bool:
    """An event in which some member is of another type than in any API known here, or with too much in it. Its text
    counts by its size: for most one token, as most events bring."""
    event = decoded(_LOOSE_EVENT, data)
    if event is None:
        if data.lstrip().startswith(b"{"):
            tally.add_unread(_tokens_beyond_frame(len(data)))
        return False
    text = [part for part in (bytes(event.choices), bytes(event.delta)) if part not in _EMPTY]
    if text:
        tally.add_unread(max([_tokens_beyond_frame(BYTES_PER_TOKEN * estimated_tokens(part)) for part in text]))
    _read_loose_inner(event, tally, is_start=False)
    for member, is_start in ((event.response, False), (event.message, True)):
        inner = None if member is NOTHING else decoded(_LOOSE_INNER, member)
        if inner is not None:
            _read_loose_inner(inner, tally, is_start=is_start)
    return True


def _tokens_beyond_frame(size: int) -> int:
    return max(1, tokens_of_ascii(size - FRAME_BYTES))


def _read_loose_inner(inner: _LooseInner, tally: Tally, *, is_start: bool) -> None:
    usage = None if inner.usage is NOTHING else decoded(USAGE, inner.usage)
    if usage is not None:
        tally.tell(usage, is_start=is_start)
    tally.model = tally.model or name_of(inner.model)
