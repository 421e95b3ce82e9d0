"""JSON Schemas for ``strict``: the part of them that OpenAI's models can be held to.

Source: OpenAI's guide "Structured model outputs", "Supported schemas".
"""

from collections.abc import Iterator
from typing import Any

# Under these a schema has others: by name, in a list, or one.
_BY_NAME = ("properties", "$defs", "definitions", "patternProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not")


def why_not_strict(schema: dict[str, Any]) -> str | None:
    """What is wrong with a schema for ``strict``, with its place; None when nothing is.

    Its objects take no other properties than those that they name, and need all of these; the whole is an object.
    """
    if schema.get("type") != "object":
        return "$: the type of the whole must be 'object'"
    # No recursion: a body may be nested deeper than the interpreter goes.
    waiting = [("$", schema)]
    while waiting:
        place, inner = waiting.pop()
        if wrong := _wrong(inner):
            return f"{place}: {wrong}"
        waiting += _inside(inner, place)
    return None


def _wrong(schema: dict[str, Any]) -> str | None:
    kind, properties = schema.get("type"), schema.get("properties")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind[:10]) and properties is None:
        return None
    if schema.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false"
    required = schema.get("required")
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    if missing := [name for name in (properties if isinstance(properties, dict) else ()) if name not in needed]:
        return f"'required' has to name every property, {missing[0][:64]!r} is missing"
    return None


def _inside(schema: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, Any]] = []
    for keyword in _BY_NAME:
        if isinstance(named := schema.get(keyword), dict):
            found += ((f"{keyword}.{name[:64]}", inner) for name, inner in named.items())
    for keyword in _LISTS:
        if isinstance(listed := schema.get(keyword), list):
            found += ((f"{keyword}[{index}]", inner) for index, inner in enumerate(listed))
    found += ((keyword, schema.get(keyword)) for keyword in _SINGLE)
    for where, inner in found:
        if isinstance(inner, dict):
            yield f"{place}.{where}"[:100], inner
