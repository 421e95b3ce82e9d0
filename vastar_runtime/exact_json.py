"""JSON between our own processes, exact for every text that Python has: the bytes of a path that are no text there are
halves of surrogate pairs (``os.fsdecode``), for which UTF-8 has no form, and JSON's escapes have one: ``\\udcf6``.

What others read is written by ``vastar_runtime.cli.printing``.
"""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec

Value = TypeVar("Value")


def encode(value: object) -> bytes:
    """JSON of a struct, or of what it may hold."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode("ascii")


def decode(data: bytes, kind: type[Value]) -> Value:
    """The value again.

    Raises:
        ValueError: this is no JSON of such a value.
    """
    try:
        return msgspec.convert(json.loads(data), kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(str(error)) from error
