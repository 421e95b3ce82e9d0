"""The heads of plain responses; those that repeat are read once.

Nearly every head is plain: of a final response in HTTP/1.1, framed by one Content-Length or as chunks. What is not,
in any way, is for h11 to judge.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .request import names_close
from .response import MAX_HEADERS, ResponseHead

# An upstream's responses have most of their header lines in common: those that were read lately are not read again.
MAX_REMEMBERED_LINES = 4096
MAX_REMEMBERED_LINE_BYTES = 128
# Many have all of them in common for a second, or for good.
MAX_REMEMBERED_HEADS = 256
MAX_REMEMBERED_HEAD_BYTES = 1024
_MAY_BE_SECRET = re.compile(rb"auth|cookie|key|link|location|refresh|secret|session|token")

# The grammar is h11's, which is that of RFC 9112, sections 4 and 5, and RFC 9110, section 5.5.
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-9][0-9]{2})(?: (?:[ \t]|[^\x00\s])*)?")
_HEADER_LINE = re.compile(
    rb"([-!#$%&'*+.^_`|~0-9a-zA-Z]+):[ \t]*((?:[^\x00\s]+(?:[ \t]+[^\x00\s]+)*)?)[ \t]*"
)  # fmt: skip
_MAX_LENGTH_DIGITS = 20
_HEADS: dict[bytes, PlainHead] = {}
_REMEMBERED: dict[bytes, tuple[bytes, bytes]] = {}
_FRAMING_NAMES = frozenset({b"content-length", b"transfer-encoding", b"connection"})


class PlainHead(NamedTuple):
    """What a plain head says. ``length``: -1, none is told."""

    head: ResponseHead
    length: int
    is_chunked: bool
    closes: bool


def plain_head(block: bytes) -> PlainHead | None:
    """The head in these lines, without the empty one that ends them; None when it is no plain one."""
    return _HEADS.get(block) or _read_head(block)


def _read_head(block: bytes) -> PlainHead | None:
    lines = block.split(b"\r\n")
    status_code = _status_code(lines[0])
    if not status_code or len(lines) > MAX_HEADERS + 1:
        return None
    length = -1
    is_chunked = closes = False
    is_remembered = len(block) <= MAX_REMEMBERED_HEAD_BYTES
    headers: list[tuple[bytes, bytes]] = []
    for line in lines[1:]:
        header = _REMEMBERED.get(line)
        if header is None:
            header = _read_line(line)
            if header is None:
                return None
            name, value = header
            if name == b"content-length":
                if length >= 0 or len(value) > _MAX_LENGTH_DIGITS or not value.isdigit():
                    return None
                length = int(value)
            elif name == b"transfer-encoding":
                if is_chunked or value.lower() != b"chunked":
                    return None
                is_chunked = True
                header = (name, b"chunked")
            elif name == b"connection":
                closes = closes or names_close(value)
            else:
                is_remembered = is_remembered and line in _REMEMBERED
        headers.append(header)
    plain = PlainHead(ResponseHead(status_code, tuple(headers)), length, is_chunked, closes)
    if is_remembered:
        if len(_HEADS) >= MAX_REMEMBERED_HEADS:
            _HEADS.clear()
        _HEADS[block] = plain
    return plain


def _read_line(line: bytes) -> tuple[bytes, bytes] | None:
    """Name, in lower case, and value; None when it is no plain header line."""
    match = _HEADER_LINE.fullmatch(line)
    if match is None:
        return None
    header = (match[1].lower(), match[2])
    # What frames the body is looked at each time; what is secret is not to lie about for longer than its response.
    if (
        len(line) <= MAX_REMEMBERED_LINE_BYTES
        and header[0] not in _FRAMING_NAMES
        and not _MAY_BE_SECRET.search(header[0])
    ):
        if len(_REMEMBERED) >= MAX_REMEMBERED_LINES:
            _REMEMBERED.clear()
        _REMEMBERED[line] = header
    return header


@lru_cache(256)
def _status_code(line: bytes) -> int:
    """0: it is no plain status line of a final response."""
    match = _STATUS_LINE.fullmatch(line) if len(line) <= MAX_REMEMBERED_LINE_BYTES else None
    return int(match[1]) if match is not None else 0
