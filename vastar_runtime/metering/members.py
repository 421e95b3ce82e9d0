"""Single members of a JSON object that a stranger wrote, whatever their types."""

from __future__ import annotations

import math
from typing import TypeVar

import msgspec

MAX_MODEL_CHARACTERS = 128
# Text that is longer and malformed is not looked at again.
MAX_MENDED_BYTES = 1024 * 1024

NOTHING = msgspec.Raw()  # a member that is not there

_STRING = msgspec.json.Decoder(str)
_MAX_DIGITS = 16
# Of a number that is not written as plain digits; what is longer is meant to cost.
_MAX_NUMBER_BYTES = 1024
_NUMERIC = frozenset(b'0123456789"')

T = TypeVar("T")


def decoded(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T | None:
    """The value that JSON text holds; None when it is malformed, nested too deeply, or of another type.

    Half of a surrogate pair, as programs write it that cut a text in the middle of an emoji, is malformed to msgspec
    alone; it is read as some character without meaning.
    """
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    text = bytes(data)
    if len(text) > MAX_MENDED_BYTES:
        return None
    # From U+D8.. to U+F8..: as long, and a hundred times as fast as to look for the halves that are alone.
    mended = text.replace(b"\\ud", b"\\uf").replace(b"\\uD", b"\\uf")
    if mended == text:
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


def amount(member: msgspec.Raw, limit: int) -> int | None:
    """A number above 0 in whatever form a server may take it (8000, 8000.0, 8e3, "8000"), rounded up, and at most
    ``limit``; None for anything else, and for a member that is not there."""
    text = bytes(member)
    if text.isdigit():
        return min(int(text) if len(text) <= _MAX_DIGITS else limit, limit) or None
    if not text or text[0] not in _NUMERIC:
        return None
    if len(text) > _MAX_NUMBER_BYTES:
        return limit
    digits = decoded(_STRING, text) or "" if text.startswith(b'"') else text.decode("ascii", "replace")
    try:
        value = float(digits)
    except ValueError:
        return None
    if not value > 0:  # which is so of NaN, too
        return None
    return math.ceil(min(value, limit))


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
