"""A value that a JSON Schema allows: for the arguments of tool calls and for answers that must be JSON.

What the schema itself names comes first: ``const``, ``default``, ``enum``, ``examples``. Objects get the properties
that they need and arrays one item, so that a sample is small and still shows its form. It is only a sample: keywords
that a check of the finished one would need (``not``, ``if``, ``contains``, lookarounds of a pattern) are passed over.
``anyOf`` and ``oneOf`` are the first of their alternatives that can be made: whether another one of ``oneOf`` allows it
too is not looked at.
"""

from collections import Counter
from typing import Any

import msgspec

from .leaf_sample import number_sample, size, string_sample
from .named_value import MISSING, named_value, type_of
from .schema_rules import Budget, Rules, Schema, SchemaError, TooDeep, TooLarge

# Of all texts in a sample: one that repeats a long one must not become very long.
MAX_CHARS = 100_000

# Inside what a reference leads to it may lead there again, so that a tree of itself shows its form.
MAX_REPEATS = 2

# An array deeper inside is empty if it may be: trees of themselves then stay small.
_FULL_ARRAYS_DEPTH = 8


def sample(schema: Schema) -> Any:
    """A value that ``schema`` allows; always the same one.

    Raises:
        SchemaError: there is none, the schema is none, or it asks for more than the simulator makes.
    """
    try:
        return _Sampling(schema).value(schema, "$", "text", 0, 0)
    except RecursionError as error:
        raise SchemaError("$", "the schema is nested too deeply") from error


def object_sample(schema: Schema) -> str:
    """A JSON object that ``schema`` allows, as text; {} allows the empty one.

    Raises:
        SchemaError: as ``sample``, or what the schema allows is no object.
    """
    found = sample({"type": "object"} | schema)
    if not isinstance(found, dict):
        raise SchemaError("$", "the type of the whole is not object")
    return msgspec.json.encode(found).decode()


class _Sampling:
    def __init__(self, root: Schema) -> None:
        self._budget = Budget()
        self._rules = Rules(root, self._budget)
        self._chars_left = MAX_CHARS
        self._open: Counter[str] = Counter()  # the references that led to where we are

    def value(self, schema: Any, place: str, name: str, depth: int, variant: int) -> Any:
        """A sample of one schema inside the root.

        Args:
            name: of the property that it is for; strings are about it.
            variant: different ones give different values, as far as the schema allows.
        """
        # Each once: two parts of an allOf may lead to the same third beside each other.
        followed: set[str] = set()
        flat = self._rules.flat(schema, place, depth, followed)
        self._open.update(followed)
        try:
            if any(self._open[reference] > MAX_REPEATS for reference in followed):
                raise TooDeep(place, "the schema refers to itself without an end")
            if (named := named_value(flat, place, variant, self._budget)) is not MISSING:
                self._spend_chars(len(self._budget.encoded(named, place)), place)
                return named
            return self._of_alternatives(flat, place, name, depth, variant)
        finally:
            self._open.subtract(followed)

    def _of_alternatives(self, flat: Schema, place: str, name: str, depth: int, variant: int) -> Any:
        alternatives = list(self._rules.alternatives(flat, place))
        if not alternatives:
            return self._of_type(flat, place, name, depth, variant)
        # One that leads back to where we are would go on without end.
        alternatives.sort(key=lambda item: self._is_open(item[0]["allOf"][0]))
        failure: SchemaError | None = None
        for alternative, where in alternatives:
            try:
                return self.value(alternative, where, name, depth + 1, variant)
            except TooLarge as error:
                raise failure or error from None
            except SchemaError as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def _is_open(self, choice: Any) -> bool:
        reference = choice.get("$ref") if isinstance(choice, dict) else None
        return isinstance(reference, str) and self._open[reference] > 0

    def _of_type(self, flat: Schema, place: str, name: str, depth: int, variant: int) -> Any:
        match type_of(flat, place):
            case "object":
                return self._object(flat, place, depth)
            case "array":
                return self._array(flat, place, name, depth)
            case "string":
                text = string_sample(flat, place, name, variant, self._budget)
                self._spend_chars(len(text), place)
                return text
            case "integer" | "number" as kind:
                return number_sample(flat, place, kind == "integer", variant)
            case "boolean":
                return variant % 2 == 0
            case _:
                return None

    def _spend_chars(self, chars: int, place: str) -> None:
        self._chars_left -= chars
        if self._chars_left < 0:
            raise SchemaError(place, f"a sample would have more than {MAX_CHARS} characters")

    def _object(self, flat: Schema, place: str, depth: int) -> dict[str, Any]:
        properties = flat.get("properties", {})
        required = flat.get("required", [])
        if not isinstance(properties, dict):
            raise SchemaError(place, "properties is no object")
        if isinstance(required, list):
            self._budget.spend(len(required), place)
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise SchemaError(place, "required is no list of names")
        names = dict.fromkeys(required)
        least, most = size(flat, "minProperties", "maxProperties", place)
        for name in properties:
            if len(names) >= least:
                break
            self._budget.spend(1, place)
            names[name] = None
        other = flat.get("additionalProperties", True)
        number = 0
        while len(names) < least and other is not False:
            self._budget.spend(1, place)
            number += 1
            names[f"property{number}"] = None
        if not least <= len(names) <= most:
            raise SchemaError(place, "it cannot have that number of properties")
        if missing := [name for name in names if name not in properties and other is False]:
            raise SchemaError(place, f"{missing[0][:64]!r} is required, and there is no such property")
        self._spend_chars(sum(map(len, names)), place)
        return {
            name: self.value(properties.get(name, other), f"{place}.properties.{name[:64]}", name, depth + 1, 0)
            for name in names
        }

    def _array(self, flat: Schema, place: str, name: str, depth: int) -> list[Any]:
        first, rest = flat.get("prefixItems", []), flat.get("items", True)
        if isinstance(rest, list):  # the older form of prefixItems
            first, rest = rest, flat.get("additionalItems", True)
        if not isinstance(first, list):
            raise SchemaError(place, "prefixItems is no list")
        least, most = size(flat, "minItems", "maxItems", place)
        wanted = max(least, len(first))
        if not wanted and rest is not False and depth < _FULL_ARRAYS_DEPTH and not self._is_open(rest):
            wanted = 1
        wanted = wanted if wanted <= most else int(most)
        if wanted > len(first) and rest is False:
            raise SchemaError(place, "it cannot have that number of items")
        is_unique = flat.get("uniqueItems") is True
        items: list[Any] = []
        for index in range(wanted):
            schema = first[index] if index < len(first) else rest
            try:
                items.append(self.value(schema, f"{place}.items", name, depth + 1, index if is_unique else 0))
            except TooDeep:
                if len(items) < least:
                    raise
                break
        if is_unique and len({msgspec.json.encode(item) for item in items}) < len(items):
            raise SchemaError(place, "the simulator finds no such number of different items")
        return items
