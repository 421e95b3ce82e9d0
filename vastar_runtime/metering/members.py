"""Single members of a JSON object that a stranger wrote, whatever their types."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

MAX_MODEL_CHARACTERS = 128

NOTHING = msgspec.Raw()  # a member that is not there

_STRING = msgspec.json.Decoder(str)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_REPLACEMENT = rb"\\ufffd"
_MAX_DIGITS = 16

T = TypeVar("T")


def decoded(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T | None:
    """The value that JSON text holds; None when it is malformed, nested too deeply, or of another type.

    Half of a surrogate pair, as programs write it that cut a text in the middle of an emoji, is malformed to msgspec
    alone; it is read as U+FFFD.
    """
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    mended, halves = _SURROGATE.subn(_REPLACEMENT, data)
    if not halves:
        return None
    try:
        return decoder.decode(mended)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def number(member: msgspec.Raw, limit: int) -> int | None:
    """A whole number from 0 to ``limit``; None for anything else, and for a member that is not there."""
    if member is NOTHING:
        return None
    digits = bytes(member)
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        return None
    value = int(digits)
    return value if value <= limit else None


def name(member: msgspec.Raw) -> str:
    """A string as ``printable``; "" for anything else, and for a member that is not there."""
    return "" if member is NOTHING else printable(decoded(_STRING, member) or "")


def printable(model: str) -> str:
    """A model's name as it may stand in logs and tables: its first MAX_MODEL_CHARACTERS, one line, "?" for what cannot
    be printed."""
    short = model[:MAX_MODEL_CHARACTERS].strip()
    if short.isprintable():
        return short
    return "".join([character if character.isprintable() else "?" for character in short])
