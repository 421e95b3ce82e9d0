"""The body of a request that may be for a language model, as members: read as leniently as servers read it. Pure."""

from __future__ import annotations

import json
import re

import msgspec

from .members import NOTHING, decoded, name

# So many members are looked at one by one, whatever the case of their names, which takes 3 ms. Where there may be more
# (each has a colon), only the known ones are read.
MAX_LISTED = 16_384
# Where a body that cannot be read is searched for names.
EDGE_BYTES = 64 * 1024
LONG_BYTES = 1024 * 1024

_SPACE = 0x20
_NO_ASCII = 0x80
_OBJECT = re.compile(rb"[ \t\r\n]*\{")
_NAMED = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.){0,1024}")', re.IGNORECASE)
_PROMPTED = re.compile(rb'"(?:messages|prompt|input|requests)"[ \t\r\n]*:', re.IGNORECASE)


class _Known(msgspec.Struct, frozen=True, gc=False):
    """Every member as it stands in the text: one of a wrong type is as good as none, and no tree is built."""

    model: msgspec.Raw = NOTHING
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
    requests: msgspec.Raw = NOTHING
    max_completion_tokens: msgspec.Raw = NOTHING
    max_output_tokens: msgspec.Raw = NOTHING
    max_tokens: msgspec.Raw = NOTHING
    n: msgspec.Raw = NOTHING
    best_of: msgspec.Raw = NOTHING
    background: msgspec.Raw = NOTHING


_KNOWN = msgspec.json.Decoder(_Known)
_LISTED = msgspec.json.Decoder(dict[str, msgspec.Raw])


def as_utf8(body: bytes) -> bytes:
    """JSON in UTF-16 or UTF-32, or with a byte order mark, in UTF-8 without one; anything else as it is."""
    if _SPACE < body[0] < _NO_ASCII and body[1:2] != b"\0":
        return body
    encoding = json.detect_encoding(body[:4])
    if encoding == "utf-8":
        return body
    if encoding == "utf-8-sig":
        return body[3:]
    try:
        return body.decode(encoding).encode()
    except UnicodeDecodeError:
        return body


def is_object(body: bytes) -> bool:
    """Whether it begins like a JSON object."""
    return body.startswith(b"{") or _OBJECT.match(body) is not None


def is_long_and_names_none(body: bytes) -> bool:
    """Whether a long body has no "model" in it, however that is written: twice as fast as to read it."""
    return len(body) > LONG_BYTES and b"\\u" not in body and b"model" not in body.lower()


def members_of(body: bytes) -> dict[str, msgspec.Raw] | None:
    """The members of a JSON object, all or the known ones; None when it cannot be read."""
    if body.count(b":") <= MAX_LISTED:
        return decoded(_LISTED, body)
    known = decoded(_KNOWN, body)
    if known is None:
        return None
    return {key: value for key, value in msgspec.structs.asdict(known).items() if value is not NOTHING}


def model_in(body: bytes, *, with_prompt: bool) -> str | None:
    """The model that a body which cannot be read seems to name, by a look at its two ends; None: it names none.

    Args:
        with_prompt: it must seem to have a prompt, too.
    """
    edges = body[:EDGE_BYTES] + b"\n" + body[EDGE_BYTES:][-EDGE_BYTES:]
    edges = edges.replace(b"\0", b"")  # of UTF-16
    named = _NAMED.search(edges)
    if named is None or (with_prompt and _PROMPTED.search(edges) is None):
        return None
    return name(msgspec.Raw(named[1]))
