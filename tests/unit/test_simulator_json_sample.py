"""Samples of JSON Schemas: valid for what packages send, bounded and refused in one line for what is hostile."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import ipaddress
import json
import re
import uuid
from typing import Annotated, Any, Literal

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vastar_runtime.simulator.json_sample import object_sample, sample
from vastar_runtime.simulator.schema_rules import Budget, SchemaError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Node(pydantic.BaseModel):
    name: str
    next: Node | None
    children: list[Node]
    by_name: dict[str, Node]


class Everything(pydantic.BaseModel):
    colour: Colour
    code: Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Z]{3}-\d{2,}$", min_length=8)]
    pair: tuple[int, str]
    moment: datetime.datetime
    day: datetime.date
    time: datetime.time
    took: datetime.timedelta
    id: uuid.UUID
    price: Annotated[decimal.Decimal, pydantic.Field(max_digits=5, decimal_places=2)]
    three: Annotated[list[int], pydantic.Field(min_length=3, max_length=4)]
    different: Annotated[set[str], pydantic.Field(min_length=3)]
    share: Annotated[float, pydantic.Field(gt=0, lt=1)]
    below: Annotated[float, pydantic.Field(lt=-2.5)]
    sevens: Annotated[int, pydantic.Field(ge=10, multiple_of=7)]
    kind: Literal["x", "y"]
    tree: Node
    either: int | str
    flag: bool
    url: pydantic.AnyUrl
    maybe: int | None
    anything: Any
    left_out: str = "default"


def test_a_sample_of_a_pydantic_model_is_valid_for_it() -> None:
    value = sample(Everything.model_json_schema())
    Everything.model_validate_json(json.dumps(value))
    assert "left_out" not in value
    assert value == sample(Everything.model_json_schema())


def test_the_formats_of_pydantic_have_samples() -> None:
    addresses = [getattr(ipaddress, f"IPv{version}{kind}") for version in "46" for kind in ("Network", "Interface")]
    any_addresses = [pydantic.IPvAnyAddress, pydantic.IPvAnyNetwork, pydantic.IPvAnyInterface]
    ids = [pydantic.UUID1, pydantic.UUID3, pydantic.UUID4, pydantic.UUID5, pydantic.UUID6, pydantic.UUID7]
    kinds = [*ids, pydantic.UUID8, *addresses, *any_addresses, pydantic.Base64Bytes, pydantic.Base64UrlStr]
    adapter = pydantic.TypeAdapter(tuple[*kinds])
    adapter.validate_json(json.dumps(sample(adapter.json_schema())))


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, "text"),
        # The anthropic package says so what the API's schemas lack.
        ({"type": "string", "description": "An id.\n\n{minLength: 1, format: ipv4network}"}, "192.0.2.0/24"),
        ({"type": "string", "description": "{format: ipv4, maxLength: 99}"}, "192.0.2.1"),
        ({"type": "string", "description": "{format: ipv4}", "format": "date"}, "2025-01-01"),
        ({"type": "string", "description": ["{format: ipv4}"]}, "text"),
        ({"type": "string", "description": "{" * 100_000 + "format: ipv4" + " " * 1000}, "text"),
        ({"const": None}, None),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": "integer", "default": 7, "minimum": 3}, 7),
        ({"type": "string", "examples": ["Bern"]}, "Bern"),
        ({"type": ["null", "integer"], "exclusiveMinimum": 3, "maximum": 4}, 4),
        ({"type": "integer", "exclusiveMinimum": True, "minimum": 3}, 4),
        ({"type": "integer", "maximum": -5}, -5),
        ({"type": "integer", "multipleOf": 2.5, "minimum": 1}, 5),
        ({"type": "number", "multipleOf": 0.1, "minimum": 0.25}, 0.3),
        ({"type": "number", "minimum": 5, "maximum": 5}, 5.0),
        ({"type": "null"}, None),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "string", "format": "email", "minLength": 3}, "user@example.com"),
        ({"type": "string", "pattern": r"^(?:ab|cd)[^a1]\s?$"}, "abA"),
        ({"properties": {"a": {}}}, {}),
        ({"properties": {"a": {}, "b": {}}, "minProperties": 3}, {"a": "a", "b": "b", "property1": "property1"}),
        ({"required": ["a"], "additionalProperties": {"type": "boolean"}}, {"a": True}),
        ({"items": {"type": "integer"}}, [1]),
        ({"type": "array", "maxItems": 0}, []),
        ({"type": "array", "items": [{"const": 1}, {"const": 2}]}, [1, 2]),
        ({"type": "array", "uniqueItems": True, "minItems": 3, "items": {"type": "integer"}}, [1, 2, 3]),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        ({"oneOf": [False, {"type": "integer"}], "minimum": 9}, 9),
        ({"allOf": [{"type": "number", "minimum": 2}, {"type": "integer", "minimum": 5}], "maximum": 9}, 5),
        (
            {
                "allOf": [{"required": ["a"], "properties": {"a": {"minLength": 3}}}],
                "properties": {"a": {"type": "string"}},
            },
            {"a": "axx"},
        ),
        ({"$ref": "#/definitions/a~1b", "definitions": {"a/b": {"const": 1}}}, 1),
        ({"type": "string", "default": 3}, "text"),
        ({"type": "string", "enum": ["a", "long enough", "b"], "minLength": 5}, "long enough"),
        ({"type": "integer", "enum": [1.5, 2.0]}, 2.0),
        ({"type": "integer", "examples": ["1"]}, 1),
        # What only a check of the finished sample could fulfil is passed over.
        ({"type": "string", "pattern": r"^(?!x)(?=.*\d)a\d\b$"}, "a1"),
        ({"type": "string", "pattern": r"^(?P<a>b)(c)\1\2(?(a)d|e)$"}, "bcbcd"),
        ({"type": "string", "pattern": "[^a1A_.x! -]"}, "0"),
        ({"type": "string", "not": {"const": "x"}, "if": {}, "then": False}, "text"),
        ({"type": "array", "contains": {"const": 5}, "items": {"type": "integer"}}, [1]),
        # Three lead to the same fourth beside each other: no circle.
        (
            {
                "$defs": {"a": {"const": 1}} | {name: {"allOf": [{"$ref": "#/$defs/a"}]} for name in "bcd"},
                "allOf": [{"$ref": f"#/$defs/{name}"} for name in "bcd"],
            },
            1,
        ),
        # The same place is led to twice, beside each other: no circle.
        (
            {"$defs": {"n": {"const": 1}}, "type": "array", "prefixItems": [{"$ref": "#/$defs/n"}] * 5},
            [1, 1, 1, 1, 1],
        ),
        # A tree of itself ends as soon as it may.
        (
            {
                "anyOf": [
                    {"type": "object", "required": ["a"], "properties": {"a": {"allOf": [{"$ref": "#"}]}}},
                    {"type": "null"},
                ]
            },
            {"a": {"a": None}},
        ),
    ],
)
def test_what_a_sample_is(schema: dict[str, Any], value: Any) -> None:
    assert sample(schema) == value


def nested(depth: int, keyword: str) -> Any:
    schema: Any = {}
    for _ in range(depth):
        schema = {keyword: [schema]}
    return schema


MANY = {f"p{number}": {} for number in range(9000)}
NAMES = [f"p{number}" for number in range(9000)]

# One definition is used as often as a body has room for.
USES = [{"$ref": "#/$defs/a"}] * 200


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"$ref": "#"}, "#: the schema refers to itself"),
        ({"anyOf": [{"$ref": "#"}] * 20}, "refers to itself"),
        ({"required": ["a", "b"], "properties": {name: {"$ref": "#"} for name in "ab"}}, "refers to itself"),
        (nested(900, "allOf"), "nested more than 48 deep"),
        (nested(900, "anyOf"), "nested more than 48 deep"),
        ({"allOf": [{"properties": MANY}] * 9000}, "too large"),
        ({"$defs": {"a": {"enum": NAMES}}, "allOf": USES}, "too large"),
        ({"$defs": {"a": {"enum": ["x" * 600_000]}}, "allOf": USES}, "too large"),
        ({"$defs": {"a": {"required": NAMES, "additionalProperties": False}}, "anyOf": USES}, "no such property"),
        (
            {"$defs": {"a": {"enum": [*NAMES, *NAMES, *NAMES], "type": "null", "pattern": ""}}, "anyOf": USES},
            "too large",
        ),
        ({"$defs": {"a": {"type": "string", "pattern": "a{1999}bb"}}, "anyOf": USES}, "more than 2000 characters"),
        ({"$defs": {"a": {"type": "string", "pattern": "(a|b)" * 90 + "["}}, "anyOf": USES}, "no regular expression"),
        ({"type": "array", "minItems": 2000, "items": {"type": "array", "minItems": 2000}}, "too large"),
        ({"type": "array", "minItems": 2000, "items": {"const": "x" * 100_000}}, "more than 100000 characters"),
        ({"type": "array", "minItems": 10**9}, "minItems of 1000000000 is more"),
        ({"type": "string", "minLength": 2001}, "minLength of 2001 is more"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength is greater than maxLength"),
        ({"type": "string", "format": "date", "maxLength": 3}, "no text from 0 to 3"),
        ({"type": "string", "pattern": "((a{1000}){1000}){1000}"}, "more than 2000 characters"),
        ({"type": "string", "pattern": r"\ud83d"}, "half a character"),
        ({"type": "string", "pattern": "["}, "no regular expression"),
        ({"type": "string", "pattern": "(" * 400 + ")" * 400}, "more than 500 characters"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "no number is within its bounds"),
        ({"type": "integer", "minimum": "5"}, "minimum is no number"),
        ({"type": "integer", "multipleOf": 0}, "multipleOf is not greater than 0"),
        ({"type": "decimal"}, "type is none of"),
        ({"type": []}, "type is none of"),
        ({"enum": []}, "enum is no list of values"),
        ({"required": "a"}, "required is no list of names"),
        ({"required": ["a"], "additionalProperties": False}, "'a' is required, and there is no such property"),
        ({"properties": {"a": 5}, "required": ["a"]}, "$.properties.a: a schema is an object, true or false"),
        ({"type": "array", "uniqueItems": True, "minItems": 3, "items": {"enum": [1, 2]}}, "different items"),
        ({"$ref": "https://example.com/schema"}, "not of the form #/$defs/Name"),
        ({"$ref": "#/$defs/missing"}, "leads nowhere"),
        ({"allOf": [{"type": "string"}], "type": "integer"}, "no type is left"),
        ({"$dynamicRef": "#a"}, "no sample for '$dynamicRef'"),
    ],
)
def test_what_no_sample_is_made_of_is_said_soon_and_with_its_place(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(SchemaError, match=re.escape(says)) as caught:
        sample(schema)
    assert re.match(r"[$#]\S*: ", str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "definition",
    [
        {"const": "x" * 3_000_000},
        {"enum": NAMES, "type": "null", "minLength": 1},
        {"required": NAMES, "additionalProperties": False},
        {"type": "string", "pattern": "a{1999}bb"},
        {"type": "string", "pattern": "(a|b)" * 90 + "["},
        {"type": "string", "pattern": "[^" + "".join(map(chr, range(300, 700))) + "]" + "(?:b{0}){9}" * 5},
    ],
)
def test_whatever_takes_long_is_paid_for(definition: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each use of it costs: few of many are looked at before the steps are spent."""
    spent: list[int] = []
    spend = Budget.spend
    monkeypatch.setattr(Budget, "spend", lambda self, steps, place: (spent.append(steps), spend(self, steps, place)))
    with contextlib.suppress(SchemaError):
        sample({"$defs": {"a": definition}, "type": "array", "minItems": 200, "items": {"$ref": "#/$defs/a"}})
    with contextlib.suppress(SchemaError):
        sample({"$defs": {"a": definition}, "anyOf": USES})
    assert max(spent) > 100


def test_arguments_are_an_object() -> None:
    assert object_sample({}) == "{}"
    assert object_sample({"required": ["a"]}) == '{"a":"a"}'
    with pytest.raises(SchemaError, match=r"^\$: the type of the whole is not object$"):
        object_sample({"type": "array"})


KEYWORDS = st.sampled_from(
    (
        *("type", "enum", "const", "default", "anyOf", "oneOf", "allOf", "$ref", "$defs", "required", "properties"),
        *("additionalProperties", "minProperties", "items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        *("minimum", "maximum", "multipleOf", "pattern", "format", "minLength"),
    )
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["#", "object", "array", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS | st.sampled_from("ab"), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60)
@given(st.dictionaries(KEYWORDS, VALUES, max_size=5))
def test_anything_gives_a_sample_or_the_one_error(schema: dict[str, Any]) -> None:
    with contextlib.suppress(SchemaError):
        json.dumps(sample(schema))
