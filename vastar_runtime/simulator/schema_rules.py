"""JSON Schemas brought into one flat form: references followed, ``allOf`` merged, alternatives listed.

A schema comes from a client and may be hostile: recursive, self-referring, of any size. Everything that is done here or
with the result is paid for from one ``Budget``.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import msgspec

from .api_error import MAX_MESSAGE_CHARS

# Real schemas take a few hundred steps; these take some ten milliseconds.
MAX_STEPS = 20_000
# So much is encoded in the time of a step.
BYTES_PER_STEP = 64
MAX_DEPTH = 48
MAX_REFERENCE_CHARS = 500

# They refer to something that depends on where the schema is used.
_UNREAD = ("$dynamicRef", "$recursiveRef")

_SMALLEST = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
_LARGEST = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})

Schema = dict[str, Any]


class SchemaError(Exception):
    """A schema that no sample is made of: ``str()`` is one line that begins with the place, without its end."""

    def __init__(self, place: str, why: str) -> None:
        place = place if len(place) <= MAX_MESSAGE_CHARS // 3 else f"{place[: MAX_MESSAGE_CHARS // 3]}…"
        super().__init__(f"{place}: {why}")


class TooDeep(SchemaError):
    """It goes on without an end: another alternative may not."""


class TooLarge(SchemaError):
    """No step is left, whatever is tried next."""


class Budget:
    """Steps that may still be taken with one schema."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def spend(self, steps: int, place: str) -> None:
        """Take so many steps.

        Raises:
            TooLarge: there are not so many left.
        """
        self._left -= steps
        if self._left < 0:
            raise TooLarge(place, "the schema is too large for a sample of it, or its parts multiply each other")

    def encoded(self, value: Any, place: str) -> bytes:
        """The value as JSON; raises as ``spend``."""
        data = msgspec.json.encode(value)
        self.spend(1 + len(data) // BYTES_PER_STEP, place)
        return data


class Rules:
    """The root schema, which references lead into."""

    def __init__(self, root: Schema, budget: Budget) -> None:
        self._root = root
        self._budget = budget

    def flat(self, schema: Any, place: str, depth: int, followed: set[str]) -> Schema:
        """The schema without ``$ref`` and ``allOf``; what it shares with them is merged.

        Args:
            place: for messages, such as "$.properties.city".
            followed: is given the references that were followed.

        Raises:
            SchemaError: it is no schema, refers to nothing, or uses what no sample can be made for.
        """
        self._budget.spend(1, place)
        if depth > MAX_DEPTH:
            raise TooDeep(place, f"the schema refers to itself, or is nested more than {MAX_DEPTH} deep")
        if schema is True:
            return {}
        if schema is False:
            raise SchemaError(place, "the schema false allows nothing")
        if not isinstance(schema, dict):
            raise SchemaError(place, "a schema is an object, true or false")
        for keyword in _UNREAD:
            if keyword in schema:
                raise SchemaError(place, f"the simulator makes no sample for {keyword!r}")
        self._budget.spend(len(schema), place)
        result = {keyword: value for keyword, value in schema.items() if keyword not in ("$ref", "allOf")}
        if "$ref" in schema:
            reference = schema["$ref"]
            target = self._target(reference, place)
            followed.add(reference)
            result = self._merged(self.flat(target, reference, depth + 1, followed), result, place)
        for index, part in enumerate(_a_list(schema, "allOf", place)):
            result = self._merged(result, self.flat(part, f"{place}.allOf[{index}]", depth + 1, followed), place)
        return result

    def alternatives(self, flat: Schema, place: str) -> Iterator[tuple[Schema, str]]:
        """The choices of ``anyOf`` or ``oneOf``, if there are such, each with the rest of ``flat``; ``null`` last."""
        for keyword in ("anyOf", "oneOf"):
            choices = _a_list(flat, keyword, place)
            if not choices:
                continue
            self._budget.spend(len(choices) + len(flat), place)
            rest = {name: value for name, value in flat.items() if name != keyword}
            numbered = sorted(enumerate(choices), key=lambda item: _is_null(item[1]))
            for index, choice in numbered:
                yield {"allOf": [choice, rest]}, f"{place}.{keyword}[{index}]"
            return

    def _target(self, reference: Any, place: str) -> Any:
        if not isinstance(reference, str) or len(reference) > MAX_REFERENCE_CHARS or not reference.startswith("#"):
            raise SchemaError(place, "$ref is not of the form #/$defs/Name")
        found: Any = self._root
        for part in reference[1:].split("/")[1:]:
            self._budget.spend(1, place)
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and len(name) < 9 and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                raise SchemaError(place, f"$ref {reference[:100]!r} leads nowhere")
        return found

    def _merged(self, one: Schema, other: Schema, place: str) -> Schema:
        """What both demand."""
        self._budget.spend(len(one) + len(other), place)
        result = dict(one)
        for keyword, value in other.items():
            result[keyword] = self._both(keyword, one[keyword], value, place) if keyword in one else value
        return result

    def _both(self, keyword: str, one: Any, other: Any, place: str) -> Any:
        if keyword in ("properties", "$defs", "definitions"):
            if not (isinstance(one, dict) and isinstance(other, dict)):
                raise SchemaError(place, f"{keyword} is no object")
            self._budget.spend(len(one) + len(other), place)
            shared = {name: {"allOf": [one[name], other[name]]} for name in one.keys() & other.keys()}
            return one | other | (shared if keyword == "properties" else {})
        if keyword in ("required", "enum", "type"):
            return self._both_lists(keyword, one, other, place)
        if keyword in ("items", "additionalProperties") and isinstance(one, dict) and isinstance(other, dict):
            return {"allOf": [one, other]}
        if keyword in ("anyOf", "oneOf"):
            raise SchemaError(place, f"two {keyword} that both must hold are more than the simulator reads")
        if keyword in _SMALLEST | _LARGEST and _is_number(one) and _is_number(other):
            return min(one, other) if keyword in _SMALLEST else max(one, other)
        return other

    def _both_lists(self, keyword: str, one: Any, other: Any, place: str) -> Any:
        first = one if isinstance(one, list) else [one]
        second = other if isinstance(other, list) else [other]
        if keyword == "type" and len(first) * len(second) > 100:
            raise SchemaError(place, "type has more names than there are types")
        self._budget.spend(len(first) + len(second), place)
        if keyword == "required":
            return first + second
        if keyword == "enum":
            allowed = {self._budget.encoded(value, place) for value in second}
            shared = [value for value in first if self._budget.encoded(value, place) in allowed]
        else:
            # Whole numbers are numbers.
            shared = [kind for kind in first if kind in second or (kind == "integer" and "number" in second)]
            shared = shared or [kind for kind in second if kind == "integer" and "number" in first]
        if not shared:
            raise SchemaError(place, f"no {keyword} is left: what must hold together excludes each other")
        return shared


def _a_list(schema: Schema, keyword: str, place: str) -> list[Any]:
    value = schema.get(keyword, [])
    if not isinstance(value, list):
        raise SchemaError(place, f"{keyword} is no list")
    return value


def _is_null(choice: Any) -> bool:
    return isinstance(choice, dict) and choice.get("type") == "null"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
