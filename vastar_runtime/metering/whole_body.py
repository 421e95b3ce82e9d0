"""The body of an answer that is one JSON object, and of which only so much is kept, however long it is.

One of up to MAX_KEPT_BYTES is kept until its end and decoded, without text and vectors that are not needed. A longer
one, as embeddings are, or one that broke off, is searched: in its last TAIL_BYTES for a "usage" with an object of at
most MAX_USAGE_BYTES, and in its first HEAD_BYTES and then its last for a "model". All APIs write the usage after what
is long. Within strings quotes are escaped, so that a text which speaks of "usage" is not taken for it; tools that are
repeated in an answer may have a parameter of that name, so one without numbers is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec

from .estimate import estimated_tokens, tokens_of_ascii
from .events import Choice, add_choice
from .members import NOTHING, decoded, name, printable
from .tally import MAX_TOLD_TOKENS, USAGE, Tally, Usage

MAX_KEPT_BYTES = 256 * 1024
HEAD_BYTES = 4 * 1024
TAIL_BYTES = 64 * 1024
MAX_USAGE_BYTES = 4 * 1024
# The real one is the last, or nearly; it holds a few objects of details.
MAX_CANDIDATES = 8
MAX_INNER_OBJECTS = 16

_USAGE = re.compile(rb'"usage"[ \t\r\n]*:[ \t\r\n]*(?=\{)')
_MODEL = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.){0,1024}")')
_EMPTY = (b"", b"null", b"[]")
_UNFINISHED = (b'"queued"', b'"in_progress"')  # of OpenAI's responses in the background


class _Answer(msgspec.Struct, frozen=True, gc=False):
    model: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING
    choices: msgspec.Raw = NOTHING
    content: msgspec.Raw = NOTHING
    output: msgspec.Raw = NOTHING
    status: msgspec.Raw = NOTHING


class _Details(msgspec.Struct, frozen=True, gc=False):
    cached_tokens: Annotated[int, msgspec.Meta(ge=0, le=MAX_TOLD_TOKENS)] = 0


_Tokens = Annotated[int, msgspec.Meta(ge=1, le=MAX_TOLD_TOKENS)]


class _UsualUsage(msgspec.Struct, frozen=True, gc=False):
    prompt_tokens: _Tokens
    completion_tokens: _Tokens
    prompt_tokens_details: _Details | None = None
    # Where one of these is there, it is a dialect that is read as all others.
    prompt_cache_hit_tokens: msgspec.Raw = NOTHING
    input_tokens_details: msgspec.Raw = NOTHING
    cache_read_input_tokens: msgspec.Raw = NOTHING


class _UsualAnswer(msgspec.Struct, frozen=True, gc=False):
    model: Annotated[str, msgspec.Meta(min_length=1)]
    usage: _UsualUsage


_ANSWER = msgspec.json.Decoder(_Answer)
_USUAL = msgspec.json.Decoder(_UsualAnswer)
_CHOICES = msgspec.json.Decoder(list[Choice])


class Told(NamedTuple):
    """What an answer says, where it says all."""

    model: str
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int


def usual(body: bytes) -> Told | None:
    """What most answers say, in a third of the time that WholeBody takes; None of one that is not as most are."""
    if len(body) > MAX_KEPT_BYTES or b'"usage"' not in body:
        return None
    try:
        model, usage = msgspec.structs.astuple(_USUAL.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not (usage.prompt_cache_hit_tokens is usage.input_tokens_details is usage.cache_read_input_tokens is NOTHING):
        return None
    details = usage.prompt_tokens_details
    cached = 0 if details is None else min(details.cached_tokens, usage.prompt_tokens)
    return Told(printable(model), usage.prompt_tokens, cached, usage.completion_tokens)


class WholeBody:
    """Reads one body."""

    def __init__(self) -> None:
        self._size = 0
        self._kept: bytes | bytearray = b""  # all of it, or its tail
        self._head = b""  # of a long body

    def feed(self, piece: bytes) -> None:
        """Keep what is needed of the next piece."""
        self._size += len(piece)
        if self._size <= MAX_KEPT_BYTES:
            if not self._kept:
                self._kept = piece  # most bodies come whole
                return
            self._own().extend(piece)
            return
        if not self._head:
            self._head = bytes(self._kept[:HEAD_BYTES]) + piece[:HEAD_BYTES]
        tail = self._own()
        tail += piece[-TAIL_BYTES:]
        if len(tail) > 2 * TAIL_BYTES:
            del tail[:-TAIL_BYTES]

    def tally(self) -> Tally:
        """Of what has come so far."""
        tally = Tally()
        answer = None if self._size > MAX_KEPT_BYTES else decoded(_ANSWER, bytes(self._kept))
        if answer is None:
            self.search(tally)
            return tally
        tally.model = name(answer.model)
        usage = None if answer.usage is NOTHING else decoded(USAGE, answer.usage)
        if usage is not None:
            tally.tell(usage)
        if not tally.completion_tokens:
            _add_text(answer, tally)
            tally.is_unfinished = bytes(answer.status) in _UNFINISHED
        return tally

    def search(self, tally: Tally) -> None:
        """Add to the tally what a look at both ends finds."""
        is_long = self._size > MAX_KEPT_BYTES
        head, tail = bytes((self._head if is_long else self._kept)[:HEAD_BYTES]), bytes(self._kept[-TAIL_BYTES:])
        named = _members(_MODEL, head)[:1] or _members(_MODEL, tail)[-1:]
        if named and not tally.model:
            tally.model = name(msgspec.Raw(named[0][1]))
        told = Tally()
        for usage in _usages(tail):
            told.tell(usage)
            if any(number is not None for number in (told.completion_tokens, told.prompt_tokens, told.total_tokens)):
                tally.tell(usage)
                break
        if not told.completion_tokens and not told.tells_no_completion:
            tally.add_unread(tokens_of_ascii(self._size))
            tally.is_by_size = True

    def _own(self) -> bytearray:
        if not isinstance(self._kept, bytearray):
            self._kept = bytearray(self._kept)
        return self._kept


def _members(pattern: re.Pattern[bytes], text: bytes) -> list[re.Match[bytes]]:
    """Where the pattern of a member is found outside strings. (A look behind in the pattern makes it ten times as
    slow.)"""
    return [match for match in pattern.finditer(text) if text[match.start() - 1 : match.start()] != b"\\"]


def _usages(tail: bytes) -> Iterator[Usage]:
    """The objects that are called usage, from the last one."""
    for match in _members(_USAGE, tail)[: -MAX_CANDIDATES - 1 : -1]:
        begin = end = match.end()
        for _ in range(MAX_INNER_OBJECTS):
            end = tail.find(b"}", end, begin + MAX_USAGE_BYTES) + 1
            if not end:
                break
            usage = decoded(USAGE, tail[begin:end])  # which fails as long as a brace is open
            if usage is not None:
                yield usage
                break


def _add_text(answer: _Answer, tally: Tally) -> None:
    choices = None if answer.choices is NOTHING else decoded(_CHOICES, answer.choices)
    for choice in choices or ():
        add_choice(choice, tally)
    raw = [answer.content, answer.output]
    if choices is None:
        raw.append(answer.choices)
    for member in raw:
        text = bytes(member)
        if text not in _EMPTY:
            tally.add_unread(estimated_tokens(text))
