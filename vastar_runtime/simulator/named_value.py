"""What a JSON Schema says outright: its type, and values that it names itself."""

from typing import Any

from .leaf_sample import size
from .schema_rules import Budget, Schema, SchemaError

# The schema names no value.
MISSING = object()

_TYPE_OF_KEYWORD = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "pattern": "string",
    "format": "string",
    "minLength": "string",
    "maxLength": "string",
    "minimum": "number",
    "maximum": "number",
    "multipleOf": "number",
}
_TYPES = {*_TYPE_OF_KEYWORD.values(), "integer", "boolean", "null"}


def type_of(flat: Schema, place: str) -> str:
    """The type that a sample has: the first that is named, or else what the other keywords are about.

    Raises:
        SchemaError: a name is none.
    """
    found = flat.get("type")
    if found is None:
        return next((kind for keyword, kind in _TYPE_OF_KEYWORD.items() if keyword in flat), "string")
    kinds = found if isinstance(found, list) else [found]
    if not kinds or len(kinds) > 100 or not all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
        raise SchemaError(place, f"type is none of {', '.join(sorted(_TYPES))}")
    chosen: str = next((kind for kind in kinds if kind != "null"), "null")
    return chosen


def named_value(flat: Schema, place: str, variant: int, budget: Budget) -> Any:
    """The value that the schema itself names; MISSING when it names none, or none of the type that it wants.

    Args:
        variant: different ones give different values where several are named.

    Raises:
        SchemaError: where a list of values belongs is something else, or ``budget`` is spent.
    """
    if "const" in flat:
        return flat["const"]
    if "default" in flat and _fits(flat, flat["default"], place):
        return flat["default"]
    for keyword in ("enum", "examples"):
        values = flat.get(keyword)
        if keyword in flat and (not isinstance(values, list) or (keyword == "enum" and not values)):
            raise SchemaError(place, f"{keyword} is no list of values")
        if not values:
            continue
        chosen = values[variant % len(values)]
        if not _fits(flat, chosen, place):
            budget.spend(len(values), place)
            fitting = [value for value in values if _fits(flat, value, place)]
            if not fitting and keyword == "examples":
                continue
            chosen = (fitting or values)[variant % len(fitting or values)]
        return chosen
    return MISSING


def _fits(flat: Schema, value: Any, place: str) -> bool:
    """Whether a value is of the type, and a text as long as it has to be."""
    kinds = flat.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if kinds and len(kinds) <= 100 and not any(kind in kinds for kind in _types_of(value)):
        return False
    if isinstance(value, str):
        least, most = size(flat, "minLength", "maxLength", place)
        return least <= len(value) <= most
    return True


def _types_of(value: Any) -> tuple[str, ...]:
    match value:
        case None:
            return ("null",)
        case bool():
            return ("boolean",)
        case int():
            return ("integer", "number")
        case float():
            return ("number", "integer") if value.is_integer() else ("number",)
        case str():
            return ("string",)
        case list():
            return ("array",)
        case _:
            return ("object",)
