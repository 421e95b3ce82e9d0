"""What may be a secret: a header field's value in ASCII. It shows itself to nobody who does not ask."""

from __future__ import annotations

import re

from .errors import Unusable

# Servers take header blocks of 8 to 64 KiB. Tokens with many claims have a few KiB.
MAX_SECRET_CHARACTERS = 16_384
# What is read of a file or a program's output: with white space, and to tell that it is too long.
MAX_SOURCE_BYTES = 65_536

_SECRET = re.compile(rb"[ -~]+")  # RFC 9110, section 5.5, without obs-text; a tab is a mistake


class Secret:
    """A secret that can be passed about without anybody's seeing it."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The secret itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __repr__(self) -> str:
        return "<secret>"


def secret_in(found: bytes) -> Secret:
    """The secret, without the white space around it.

    Raises:
        Unusable: it cannot stand in a header.
    """
    value = found.strip()
    if not value:
        raise Unusable("is empty")
    if len(value) > MAX_SECRET_CHARACTERS:
        raise Unusable(f"is larger than {MAX_SECRET_CHARACTERS >> 10} KiB")
    if b"\n" in value or b"\r" in value:
        raise Unusable("holds a line break")
    if not value.isascii():
        raise Unusable("holds a character that is not ASCII")
    if not _SECRET.fullmatch(value):
        raise Unusable("holds a control character")
    return Secret(value)
