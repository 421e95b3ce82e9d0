"""How many tokens a text has, about, without a tokenizer: rather too many than too few. Pure.

English is 4 to 4.5 bytes a token, code and JSON about 3; in other scripts a character is a token or less, but for
the rarest ones.
"""

from __future__ import annotations

import re

BYTES_PER_TOKEN = 3
# What Anthropic counts for the largest image that it does not scale down (1.15 megapixels, 750 pixels a token);
# OpenAI's high detail is 765 for a square and at most about 1,500. What its size in base64 says is a thousandfold off.
IMAGE_TOKENS = 1_600

_ASCII = bytes(range(0x80))
_NO_LEAD_BYTE = bytes(range(0xC0))
_MAX_BYTES_OF_A_CHARACTER = 4
_BACKSLASH = 0x5C  # one byte alone is found ten times as fast
_ESCAPE = b"\\u"
_NO_ESCAPE = b"\\\\u"
# To count them takes 3 ms a megabyte; beyond, each counts by its size, as two tokens.
_MAX_ESCAPED_BYTES = 2 * 1024 * 1024
_BYTES_OF_AN_ESCAPE = len(r"\u00e4")

# Files stand in JSON as strings of base64, alone or as data: URLs. A string that holds a stretch of base64 this long
# where one begins is one: half of the size from which an image counts less than its text would.
_STRETCH_BYTES = IMAGE_TOKENS * BYTES_PER_TOKEN // 2
_STRETCH = re.compile(rb"[A-Za-z0-9+/=_-]{%d}" % _STRETCH_BYTES)
_MARKS = (b'"', b" ", b"\\")
_PREFIX_BYTES = 256  # data:image/png;base64, and the like, which a stretch does not match
_BEGIN = re.compile(rb'"(?:data:[^",]{,%d},)?[A-Za-z0-9+/=_-]{64}' % (_PREFIX_BYTES - len("data:,")))
_LOOK_AHEAD_BYTES = 16_384


def estimated_tokens(text: bytes) -> int:
    """About how many tokens a text has, JSON or plain UTF-8; of what is neither, some number that grows with it.

    A long string of base64 counts by its size up to IMAGE_TOKENS. One that is broken into lines, or quoted within
    another string, is text to a model, and counts as text.
    """
    size = len(text)
    files, file_bytes = _files(text) if size > _STRETCH_BYTES else (0, 0)
    escapes = text.count(_ESCAPE, 0, _MAX_ESCAPED_BYTES) if _BACKSLASH in text else 0
    if escapes:  # less those that are a backslash of the text's own, and a u
        escapes -= text.count(_NO_ESCAPE, 0, _MAX_ESCAPED_BYTES)
    ascii_bytes = size - file_bytes - _BYTES_OF_AN_ESCAPE * escapes
    tokens = escapes + IMAGE_TOKENS * files
    if not text.isascii():
        other_bytes = len(text.translate(None, _ASCII))
        ascii_bytes -= other_bytes
        # Of what is no UTF-8 the lead bytes may be few.
        tokens += max(len(text.translate(None, _NO_LEAD_BYTE)), other_bytes // _MAX_BYTES_OF_A_CHARACTER)
    return tokens + tokens_of_ascii(max(0, ascii_bytes))


def tokens_of_ascii(size: int) -> int:
    """About how many tokens so many ASCII characters are, or so many bytes of unknown text."""
    return -(-size // BYTES_PER_TOKEN)


def _files(text: bytes) -> tuple[int, int]:
    """The strings that count as an image each: how many, and their bytes together.

    A look at every stretch's first byte finds them all, and fails after a few characters of ordinary text: ten times
    as fast as one pattern for the whole.
    """
    count = total = at = 0
    while at + _STRETCH_BYTES <= len(text):
        if not _STRETCH.match(text, at):
            at += _STRETCH_BYTES
            continue
        begin = max(text.rfind(mark, max(0, at - _STRETCH_BYTES - _PREFIX_BYTES), at) for mark in _MARKS)
        end = _next_mark(text, at + _STRETCH_BYTES)
        is_file = begin >= 0 and _BEGIN.match(text, begin) and text[begin - 1 : begin] != b"\\"
        if is_file and text[end : end + 1] == b'"' and end - begin > IMAGE_TOKENS * BYTES_PER_TOKEN:
            count += 1
            total += end - begin
        at = end + 1
    return count, total


def _next_mark(text: bytes, at: int) -> int:
    """Where the next of _MARKS stands, or the text ends. In steps: the end of the whole text may be far for one of
    them, many times over."""
    while at < len(text):
        limit = end = min(at + _LOOK_AHEAD_BYTES, len(text))
        for mark in _MARKS:
            found = text.find(mark, at, end)
            if found >= 0:
                end = found
        if end < limit:
            return end
        at = limit
    return len(text)
