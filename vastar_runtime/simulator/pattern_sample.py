"""A text that a regular expression matches, made from its parts. Nothing is matched: that could take for ever.

What only a matching could tell (lookarounds, borders of words) is passed over, so that there is a text at all.
"""

import re
import string
import threading
import warnings
from typing import Any

from .schema_rules import Budget, SchemaError

MAX_PATTERN_CHARS = 500
MAX_TEXT_CHARS = 2000

# What is done in the time of a step.
_PARSED_CHARS_PER_STEP = 4
_ADDED_PARTS_PER_STEP = 16

_CATEGORIES = {
    "CATEGORY_DIGIT": "1",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_WORD": "a",
    "CATEGORY_NOT_WORD": "-",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_SPACE": "a",
}
_CANDIDATES = dict.fromkeys("a1A -_.x!" + string.printable + "éя日\u00a0")
# Of no width, and left to chance.
_PASSED_OVER = ("AT", "ASSERT", "ASSERT_NOT")

# Filters of warnings belong to the whole process: who changes them has to be alone.
_parsing = threading.Lock()


def pattern_sample(pattern: str, place: str, least: int, budget: Budget) -> str:
    """A text that ``pattern`` matches, except for what is passed over.

    Args:
        least: characters that it should have; repetitions are longer for it where they may.

    Raises:
        SchemaError: the pattern is none or too long, its text would be, or ``budget`` is spent.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise SchemaError(place, f"a pattern of more than {MAX_PATTERN_CHARS} characters is not read")
    budget.spend(len(pattern) // _PARSED_CHARS_PER_STEP, place)
    making = _Making(least)
    try:
        with _parsing, warnings.catch_warnings(action="ignore"):
            parsed = _parse(pattern)
        making.add_all(parsed)
    except (re.error, OverflowError, RecursionError) as error:
        raise SchemaError(place, "the pattern is no regular expression that the simulator reads") from error
    except _Unread as error:
        raise SchemaError(place, f"the simulator makes no sample for a pattern with {error}") from error
    finally:
        budget.spend(making.parts // _ADDED_PARTS_PER_STEP, place)
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
        self.parts = 0
        self._groups: dict[int, str] = {}
        self._chosen: dict[int, str] = {}
        self._least = least

    def add_all(self, parts: Any) -> None:
        for kind, value in parts:
            self._add(str(kind), value)
            if len(self.text) > MAX_TEXT_CHARS:
                raise _Unread(f"texts of more than {MAX_TEXT_CHARS} characters")

    def _add(self, kind: str, value: Any) -> None:
        self.parts += 1
        match kind:
            case "LITERAL":
                self.text += chr(value)
            case "NOT_LITERAL":
                self.text += "b" if value == ord("a") else "a"
            case "ANY":
                self.text += "a"
            case "IN":
                self.text += self._one_of(value)
            case "BRANCH":
                self.add_all(value[1][0])
            case "SUBPATTERN":
                begin = len(self.text)
                self.add_all(value[3])
                if value[0] is not None:
                    self._groups[value[0]] = self.text[begin:]
            case "GROUPREF":
                self.text += self._groups.get(value, "")
            case "GROUPREF_EXISTS":
                group, if_there, if_not = value
                self.add_all((if_there if group in self._groups else if_not) or ())
            case "ATOMIC_GROUP":
                self.add_all(value)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                self._repeat(*value)
            case _ if kind in _PASSED_OVER:
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

    def _one_of(self, items: Any) -> str:
        """A character of a class in brackets, which is the same wherever the class is repeated."""
        if id(items) not in self._chosen:
            self.parts += len(items) * len(_CANDIDATES) // 8
            self._chosen[id(items)] = _one_of(items)
        return self._chosen[id(items)]


def _one_of(items: Any) -> str:
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
