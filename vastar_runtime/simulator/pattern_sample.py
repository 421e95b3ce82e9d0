"""A text that a regular expression matches, made from its parts. Nothing is matched: that could take for ever."""

import re
import warnings
from typing import Any

from .schema_rules import SchemaError

MAX_PATTERN_CHARS = 500
MAX_TEXT_CHARS = 2000

_CATEGORIES = {
    "CATEGORY_DIGIT": "1",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_WORD": "a",
    "CATEGORY_NOT_WORD": "-",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_SPACE": "a",
}
_CANDIDATES = "a1A -_.x!"


def pattern_sample(pattern: str, place: str, least: int) -> str:
    """A text that ``pattern`` matches.

    Args:
        least: characters that it should have; repetitions are longer for it where they may.

    Raises:
        SchemaError: the pattern is none, or has what only a matching could tell: lookarounds, references, borders.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise SchemaError(place, f"a pattern of more than {MAX_PATTERN_CHARS} characters is not read")
    try:
        with warnings.catch_warnings(action="ignore"):
            parsed = _parse(pattern)
        making = _Making(least)
        making.add_all(parsed)
    except (re.error, OverflowError, RecursionError) as error:
        raise SchemaError(place, "the pattern is no regular expression that the simulator reads") from error
    except _Unread as error:
        raise SchemaError(place, f"the simulator makes no sample for a pattern with {error}") from error
    if any("\ud800" <= char <= "\udfff" for char in making.text):
        raise SchemaError(place, "the pattern asks for half a character")
    return making.text


def _parse(pattern: str) -> Any:
    # The standard library's own parser; it has no public name.
    from re import _parser  # type: ignore[attr-defined]

    return _parser.parse(pattern)


class _Unread(Exception):
    """Which part."""


class _Making:
    def __init__(self, least: int) -> None:
        self.text = ""
        self._least = least

    def add_all(self, parts: Any) -> None:
        for kind, value in parts:
            self._add(str(kind), value)
            if len(self.text) > MAX_TEXT_CHARS:
                raise _Unread(f"texts of more than {MAX_TEXT_CHARS} characters")

    def _add(self, kind: str, value: Any) -> None:
        match kind:
            case "LITERAL":
                self.text += chr(value)
            case "NOT_LITERAL":
                self.text += "b" if value == ord("a") else "a"
            case "ANY":
                self.text += "a"
            case "IN":
                self.text += _one_of(value)
            case "BRANCH":
                self.add_all(value[1][0])
            case "SUBPATTERN":
                self.add_all(value[3])
            case "ATOMIC_GROUP":
                self.add_all(value)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                self._repeat(*value)
            case "AT" if str(value) in ("AT_BEGINNING", "AT_BEGINNING_STRING", "AT_END", "AT_END_STRING"):
                pass
            case _:
                raise _Unread(kind.lower().replace("_", " "))

    def _repeat(self, fewest: int, most: int, parts: Any) -> None:
        times = 0
        while times < fewest or (times < most and len(self.text) < self._least):
            before = len(self.text)
            self.add_all(parts)
            times += 1
            if len(self.text) == before:
                break  # of nothing there is always enough


def _one_of(items: Any) -> str:
    """A character of a class in brackets."""
    kinds = [(str(kind), value) for kind, value in items]
    if kinds and kinds[0][0] == "NEGATE":
        found = next(
            (char for char in _CANDIDATES if not any(_has(kind, value, char) for kind, value in kinds[1:])), None
        )
        if found is None:
            raise _Unread("such a class of characters")
        return found
    kind, value = kinds[0]
    return chr(value if kind == "LITERAL" else value[0]) if kind != "CATEGORY" else _CATEGORIES[str(value)]


def _has(kind: str, value: Any, char: str) -> bool:
    match kind:
        case "LITERAL":
            return bool(ord(char) == value)
        case "RANGE":
            return bool(value[0] <= ord(char) <= value[1])
        case _:
            is_in: dict[str, bool] = {
                "DIGIT": char.isdigit(),
                "WORD": char.isalnum() or char == "_",
                "SPACE": char.isspace(),
            }
            name = str(value).removeprefix("CATEGORY_")
            return is_in[name.removeprefix("NOT_")] is not name.startswith("NOT_")
