"""Samples of JSON Schemas without parts: numbers in their bounds, strings by length, format and pattern."""

import math
import re
from fractions import Fraction
from typing import Any

from .pattern_sample import pattern_sample
from .schema_rules import Budget, Schema, SchemaError

# Longer texts and larger collections show nothing that these do not.
MAX_SIZE = 2000

# A greater one is written with an exponent: many readers of JSON take no such integer.
MAX_INTEGER = 2**63

_FORMATS = {
    "date-time": "2025-01-01T12:00:00Z",
    "date": "2025-01-01",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "user@example.com",
    "idn-email": "user@example.com",
    "hostname": "example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "iri": "https://example.com/",
    "uri-reference": "/path",
    "uri-template": "/path/{id}",
    "iri-reference": "/path",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    # Those of pydantic that are no standard's.
    **{f"uuid{version}": f"123e4567-e89b-{version}2d3-a456-426614174000" for version in range(1, 9)},
    "ipv4network": "192.0.2.0/24",
    "ipv4interface": "192.0.2.1/24",
    "ipv6network": "2001:db8::/32",
    "ipv6interface": "2001:db8::1/32",
    "ipvanyaddress": "192.0.2.1",
    "ipvanynetwork": "192.0.2.0/24",
    "ipvanyinterface": "192.0.2.1/24",
    "base64": "dGV4dA==",
    "json-pointer": "/path",
    "relative-json-pointer": "0/path",
    "regex": "^text$",
    "byte": "dGV4dA==",
    "base64url": "dGV4dA==",
    "json-string": "{}",
}


# "{format: uuid4}", beside other keywords.
_DESCRIBED_FORMAT = re.compile(r"\{(?:[^{}]*, )?format: ([\w-]+)[,}]")
_DESCRIBED_CHARS = 500


def size(schema: Schema, least_name: str, most_name: str, place: str) -> tuple[int, float]:
    """A lower and an upper bound, such as of minItems and maxItems; 0 and infinity when there are none.

    Raises:
        SchemaError: they are no counts, contradict each other, or ask for more than MAX_SIZE.
    """
    least, most = schema.get(least_name, 0), schema.get(most_name, math.inf)
    for name, bound in ((least_name, least), (most_name, most)):
        if isinstance(bound, bool) or not (isinstance(bound, int) or bound == math.inf) or bound < 0:
            raise SchemaError(place, f"{name} is no whole number from 0")
    if least > most:
        raise SchemaError(place, f"{least_name} is greater than {most_name}")
    if least > MAX_SIZE:
        raise SchemaError(place, f"{least_name} of {str(least)[:20]} is more than the simulator makes: {MAX_SIZE}")
    return least, most


def string_sample(schema: Schema, place: str, name: str, variant: int, budget: Budget) -> str:
    """A text of the schema's format or pattern, or else one about ``name``, in its bounds of length."""
    least, most = size(schema, "minLength", "maxLength", place)
    pattern, form = schema.get("pattern"), _format(schema)
    if pattern is not None and not isinstance(pattern, str):
        raise SchemaError(place, "pattern is no text")
    if isinstance(form, str) and form in _FORMATS:
        text = _FORMATS[form]
    elif pattern is not None:
        text = pattern_sample(pattern, place, least, budget)
    else:
        text = (name[:64] or "text") + (f" {variant + 1}" if variant else "")
        text = text.ljust(least, "x")
        if len(text) > most:
            text = (str(variant) if variant else text)[: int(most)]
    if not least <= len(text) <= most:
        raise SchemaError(place, f"the simulator finds no text from {least} to {most} characters of this form")
    return text


def _format(schema: Schema) -> Any:
    """The format, which the anthropic package puts at the end of the description where the API's schemas lack it."""
    if "format" in schema or not isinstance(description := schema.get("description"), str):
        return schema.get("format")
    found = _DESCRIBED_FORMAT.search(description[-_DESCRIBED_CHARS:])
    return found and found[1]


def number_sample(schema: Schema, place: str, is_whole: bool, variant: int) -> int | float:
    """A number within the bounds: 1 where that is, or else near the lower one."""
    step = _number(schema, "multipleOf", place)
    if step is not None and step <= 0:
        raise SchemaError(place, "multipleOf is not greater than 0")
    if is_whole:
        step = Fraction(1) if step is None else Fraction(step.numerator)
    low, is_above = _bound(schema, "minimum", "exclusiveMinimum", place, max)
    high, is_below = _bound(schema, "maximum", "exclusiveMaximum", place, min)
    number = _within(low, is_above, high, is_below, step, variant)
    if number is None:
        raise SchemaError(place, "no number is within its bounds")
    try:
        is_int = number.denominator == 1 and (is_whole or step is not None) and abs(number) < MAX_INTEGER
        return int(number) if is_int else float(number)
    except OverflowError as error:
        raise SchemaError(place, "its bounds are beyond what a number can be") from error


def _within(
    low: Fraction | None, is_above: bool, high: Fraction | None, is_below: bool, step: Fraction | None, variant: int
) -> Fraction | None:
    def allows(number: Fraction) -> bool:
        return (low is None or number > low or (number == low and not is_above)) and (
            high is None or number < high or (number == high and not is_below)
        )

    one = Fraction(1)
    if step is None:
        if low is not None and high is not None:
            middle = low + (high - low) * Fraction(variant + 1, variant + 2)
            candidates = [one + variant, middle, low]
        else:
            edge = low + 1 if low is not None else high - 1 if high is not None else one
            candidates = [one + variant, edge + (variant if high is None else -variant)]
    else:
        if low is not None:
            multiple = math.ceil(low / step) + (is_above and low % step == 0) + variant
        elif high is not None:
            multiple = math.floor(high / step) - (is_below and high % step == 0) - variant
        else:
            multiple = variant
        candidates = [one + variant] if step == 1 else []
        candidates.append(multiple * step)
    return next((number for number in candidates if allows(number)), None)


def _bound(schema: Schema, name: str, exclusive_name: str, place: str, stricter: Any) -> tuple[Fraction | None, bool]:
    """The bound of one side and whether it is itself outside; an older draft says the latter with true."""
    bound = _number(schema, name, place)
    if isinstance(schema.get(exclusive_name), bool):
        return bound, bool(schema[exclusive_name])
    exclusive = _number(schema, exclusive_name, place)
    if bound is None or exclusive is None:
        return (exclusive, True) if exclusive is not None else (bound, False)
    strictest = stricter(bound, exclusive)
    return strictest, strictest == exclusive


def _number(schema: Schema, name: str, place: str) -> Fraction | None:
    found = schema.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise SchemaError(place, f"{name} is no number")
    return Fraction(found) if isinstance(found, int) else Fraction(repr(found))  # as it was written: 0.1 is a tenth
