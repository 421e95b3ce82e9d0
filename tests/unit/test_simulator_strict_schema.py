"""Schemas for ``strict``: what is wrong with one is said with its place."""

from __future__ import annotations

from typing import Any

import pytest

from vastar_runtime.simulator.strict_schema import why_not_strict

NAME: dict[str, Any] = {"type": "string"}
GOOD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": NAME,
        "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}},
        "either": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 1}]},
        "properties": NAME,
    },
    "required": ["name", "parts", "either", "properties"],
    "additionalProperties": False,
    "$defs": {"part": {"type": "object", "properties": {}, "required": [], "additionalProperties": False}},
}


def test_what_the_packages_send_is_strict() -> None:
    assert why_not_strict(GOOD) is None


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({}, "$: the type of the whole must be 'object'"),
        ({"type": "array", "items": NAME}, "$: the type of the whole must be 'object'"),
        ({"anyOf": [GOOD]}, "$: the type of the whole must be 'object'"),
        ({"type": "object"}, "$: 'additionalProperties' is required to be supplied and to be false"),
        (GOOD | {"additionalProperties": True}, "$: 'additionalProperties' is required to be supplied and to be false"),
        (GOOD | {"required": ["name"]}, "$: 'required' has to name every property, 'parts' is missing"),
        (GOOD | {"required": 5}, "$: 'required' has to name every property, 'name' is missing"),
        (GOOD | {"$defs": {"part": {"type": "object"}}}, "$.$defs.part: 'additionalProperties' is required"),
        (GOOD | {"$defs": {"a": {"anyOf": [NAME, {"type": ["object", "null"]}]}}}, "$.$defs.a.anyOf[1]: 'additional"),
        (GOOD | {"$defs": {"a": {"items": {"properties": {"b": NAME}}}}}, "$.$defs.a.items: 'additionalProperties'"),
    ],
)
def test_what_is_not_is_said_with_its_place(schema: dict[str, Any], says: str) -> None:
    found = why_not_strict(schema)
    assert found is not None
    assert found.startswith(says)


def test_a_schema_may_be_nested_as_deeply_as_a_body() -> None:
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(20_000):
        deep = {"type": "array", "items": deep}
    found = why_not_strict(GOOD | {"$defs": {"deep": deep}})
    assert found is not None
    assert len(found) < 300
