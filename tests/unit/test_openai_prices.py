"""Prices of models: read as they are written, and multiplied exactly."""

from __future__ import annotations

import decimal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connector_sdk import ConnectorException
from connector_sdk.openai import (
    Price,
    Usage,
    UsageTracker,
    load_prices,
)

CHEAP = Price("0.15", 0.6)


@pytest.mark.parametrize(
    ("price", "error"),
    [
        ((-1, 1), "input_per_million: -1"),
        ((1, "much"), "output_per_million: 'much'"),
        ((1, "NaN"), "output_per_million: 'NaN'"),
        ((1, float("inf")), "output_per_million: inf"),
        ((1, "1e-30"), "output_per_million"),
        ((1, "9" * 100), "output_per_million"),
        ((1, "0" * 64 + "5"), "output_per_million: '0000"),
        ((1, 10**5000), "output_per_million: inf cannot be used; it takes a number from 0 to 1000000000 with"),
        ((1, 1.23456789012e-05), "output_per_million: 1.23456789012e-05 .*at most 12 decimals"),
        ((1, 1e-13), "output_per_million: 1e-13 .*at most 12 decimals"),
        ((1, 1, " "), "currency"),
        ((1, 1, "x" * 17), "currency"),
        ((1, 1, "USD", -1), "cached_input_per_million"),
    ],
)
def test_prices_that_cannot_be_used_are_refused(price: tuple[Any, ...], error: str) -> None:
    with pytest.raises(ConnectorException, match=error):
        Price(*price)


def test_a_price_is_the_number_that_it_shows() -> None:
    shown = ((0.1 + 0.2, "0.3"), (0.15, "0.15"), ("0.15", "0.15"), (1.5e-10, "0.00000000015"), (1e9, "1000000000"))
    for given, number in shown:
        assert Price(given, 1).input_per_million == Decimal(number)
    for zero in (0, -0.0, "-0", "0E+9999999"):
        tracker = UsageTracker({"m": Price(zero, zero)})
        tracker.add("m", Usage(5, 6))
        assert tracker.report().endswith("cost 0.00 USD")


def test_the_decimal_context_of_the_application_changes_no_cost() -> None:
    tracker = UsageTracker({"*": Price("999999999.123456789012", 0.6)})
    with decimal.localcontext(prec=3, traps=[decimal.Inexact, decimal.Rounded, decimal.FloatOperation]):
        assert Price(0.1 + 0.2, "0.60") == Price("0.3", "0.6")
        for model in ("a", "b"):
            tracker.add(model, Usage(10**12, 1_234_567))
        assert tracker.models[0].cost == Decimal("999999999123457.5297522")
        assert tracker.total_costs == {"USD": Decimal("1999999998246915.0595044")}
        assert "cost 1999999998246915.0595044 USD" in tracker.report()


def test_prices_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("m: {input_per_million: 0.15, output_per_million: 0.6}\nn:\n  input_per_million: '1'\n"
                    "  output_per_million: 2\n  currency: EUR\n")  # fmt: skip
    assert load_prices(path) == {"m": CHEAP, "n": Price(1, 2, "EUR")}
    tracker = UsageTracker.from_file(path)
    tracker.add("m", Usage(1_000_000))
    assert tracker.total_costs == {"USD": Decimal("0.15")}
    path.write_text('{"m": {"input_per_million": 0.15,\n "output_per_million": 0.6}}')
    assert load_prices(path) == {"m": CHEAP}
    for content, error in (
        ("m: 7", "m: a price has input_per_million"),
        ("m: {input_per_millon: 1}", "m: there is no input_per_millon; did you mean input_per_million"),
        ("m: {input_per_million: 1}", "m: output_per_million is missing"),
        ("m: {input_per_million: [], output_per_million: 1}", "m: input_per_million must be"),
        ("m: {input_per_million: -1, output_per_million: 1}", "m: input_per_million: -1 cannot be used"),
        ("m: {input_per_million: 0x" + "f" * 5000 + ", output_per_million: 1}", "m: input_per_million: inf cannot"),
        ("m: {input_per_million: 1}\nm: {}", ":2: m is there twice; leave one of them"),
        (
            "'4': {input_per_million: 1, output_per_million: 1}\n4: {input_per_million: 1, output_per_million: 1}",
            "4: it is there twice",
        ),
    ):
        path.write_text(content)
        with pytest.raises(ConnectorException, match=error) as e:
            load_prices(path)
        assert str(path) in str(e.value)
