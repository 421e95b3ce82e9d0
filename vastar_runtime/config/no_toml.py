"""Why a text is no TOML, for those who wrote it: tomllib speaks of namespaces, and does not say what was meant."""

from __future__ import annotations

import re
from typing import NamedTuple

from .lines import Statement, repeated
from .quoting import shown_key
from .settings import KeyPath

_AT_LINE = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)
_AT_END = re.compile(r"(.*) \(at end of document\)", re.DOTALL)
_MAX_REASON_CHARACTERS = 200
_MAX_PARTS = 5  # of a key that is shown; ours have at most four
_CURLY = "“”„‟‘’‚‛"  # what word processors make of quotes
_BOOLEAN = re.compile(r"(?:true|false)\b", re.IGNORECASE)
_STRAIGHT = 'quotes are straight: "…"'
_UNQUOTED = "a string needs quotes"


class Reason(NamedTuple):
    """What is wrong.

    Attributes:
        line: counted from 1; None: nobody knows.
        text: in one line.
    """

    line: int | None
    text: str


def reason(text: str, error: ValueError) -> Reason:
    """What tomllib raised for a text, told for people."""
    said = str(error)
    if at_line := _AT_LINE.fullmatch(said):
        said, number, column = at_line[1], int(at_line[2]), int(at_line[3])
        place = f"column {column}"
    elif at_end := _AT_END.fullmatch(said):
        said, number = at_end[1], text.rstrip().count("\n") + 1
        column, place = len(text) + 1, "end of the file"
    else:  # a number that Python does not convert
        return Reason(None, "a number of too many digits")
    if said.startswith("Cannot ") and (found := repeated(text, number)):
        here, first, path = found
        if len(path) <= _MAX_PARTS:
            return Reason(here.line, _twice(here, first, path))
    advice = _advice(said, text.split("\n")[number - 1], column - 1)
    said = said[:_MAX_REASON_CHARACTERS]
    return Reason(number, f"this is no TOML: {said} ({place}){advice and '; '}{advice}")


def _twice(here: Statement, first: Statement, path: KeyPath) -> str:
    name = shown_key(tuple(part for part in path if isinstance(part, str)))
    if "[[" in (here.opening, first.opening) and "[" in (here.opening, first.opening):
        if len(first.path) > len(path):  # [scope.retry], and then [[scope]]
            lone = shown_key(first.path[: _MAX_PARTS + 1])
            return f"the first [[{name}]] must come before [{lone}], which stands in line {first.line}"
        one, other = ("single", "double") if first.opening == "[" else ("double", "single")
        return f"{name} has {other} brackets here and {one} ones in line {first.line}; write [[{name}]] in both"
    if not here.opening:
        return f"{shown_key(path)}: it stands here a second time; first in line {first.line}; keep one of them"
    header = f"[{name}]" if here.opening == "[" else f"[[{name}]]"
    advice = "put their keys into one" + (", or begin another [[scope]] before it" if path[0] == "scope" else "")
    return f"{header} stands here a second time; first in line {first.line}; {advice}"


def _advice(said: str, line: str, at: int) -> str:
    rest = line[at:]
    if "after a statement" in said:
        return _UNQUOTED
    if said.startswith(("Invalid value", "Invalid statement")):
        if rest and rest[0] in _CURLY:
            return _STRAIGHT
        if said == "Invalid statement":
            return ""
        if _BOOLEAN.match(rest):
            return "true and false are written in lower case"
        if not rest.strip() or rest[0] == "#":
            return "no value stands here"
        return _UNQUOTED if rest[0] not in ",]}=" else ""
    return _STRAIGHT if any(mark in line for mark in _CURLY) else ""
