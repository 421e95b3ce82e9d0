"""UsageTracker: what was used and what it cost, and no word about what nobody knows."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from chat_stories import (
    DONE,
    USAGE,
    Chats,
    StillClock,
    chats,
    endless,
    event,
    failing,
    in_turn,
    saying,
    streaming,
    text,
)
from scripted_daemon import ScriptedDaemon, socket_path

from connector_sdk import APIError, ConnectorException
from connector_sdk.openai import Price, Usage, UsageTracker, load_prices
from connector_sdk.usage_tracker import MAX_MODELS, OTHER_MODELS

__all__ = ["chats", "socket_path"]

CHEAP = Price("0.15", 0.6)
DEAR = Price(Decimal(10), "30", "EUR", cached_input_per_million="2.5")


def test_tokens_and_money_by_model() -> None:
    tracker = UsageTracker({"small": CHEAP, "big": DEAR})
    tracker.add("small", Usage(1_000_000, 500_000))
    tracker.add("small", Usage(1, 1))
    tracker.add("big", Usage(2_000_000, 1_000, cached_prompt_tokens=1_500_000))
    tracker.add("nobody", Usage(5, 6))
    assert tracker.report().splitlines() == [
        "big: 1 request, 2,000,000 prompt tokens (1,500,000 cached), 1,000 completion tokens, cost 8.78 EUR",
        "nobody: 1 request, 5 prompt tokens, 6 completion tokens, cost unknown (no price)",
        "small: 2 requests, 1,000,001 prompt tokens, 500,001 completion tokens, cost 0.45000075 USD",
        "total: 4 requests, 3,000,006 prompt tokens (1,500,000 cached), 501,007 completion tokens, "
        "cost at least 8.78 EUR + 0.45000075 USD",
    ]
    assert (tracker.total_prompt_tokens, tracker.total_completion_tokens) == (3_000_006, 501_007)
    assert tracker.total_costs == {"EUR": Decimal("8.78"), "USD": Decimal("0.45000075")}
    said = json.loads(json.dumps(tracker.as_json()))
    assert said["models"][1] == {
        "model": "nobody",
        "requests": 1,
        "untold_requests": 0,
        "prompt_tokens": 5,
        "cached_prompt_tokens": 0,
        "completion_tokens": 6,
        "cost": None,
        "currency": None,
    }
    assert said["total_costs"] == {"EUR": "8.78", "USD": "0.45000075"}
    assert said["models_without_price"] == ["nobody"]
    tracker.reset()
    assert (tracker.report(), tracker.total_costs, tracker.models) == ("", {}, ())


def test_the_call_of_the_existing_example() -> None:
    tracker = UsageTracker({"gpt-4o-mini": CHEAP})
    tracker.add_usage(1000, 500, "gpt-4o-mini")
    assert tracker.report() == ("gpt-4o-mini: 1 request, 1,000 prompt tokens, 500 completion tokens, cost 0.00045 USD")
    with pytest.raises(ValueError, match="completion_tokens"):
        tracker.add_usage(1, -1, "m")
    with pytest.raises(TypeError, match="prompt_tokens"):
        tracker.add_usage(1.5, 1, "m")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("gpt-4o", "4o"),
        ("gpt-4o-2024-08-06", "4o"),
        ("gpt-4o-latest", "4o"),
        ("gpt-4o-mini", "mini"),
        ("gpt-4o-mini-2024-07-18", "mini"),
        ("gpt-4o-mini-tts", None),
        ("gpt-4o-2024", "4o"),
        ("gpt-4o-20240806", "4o"),
        ("gpt-4o2024-08-06", None),
        ("gpt-4", None),
        ("claude-x-20250101", "claude"),
        ("claude-x-thinking", "claude"),
        ("claude-x-y-20250101", "y"),
        ("claude", None),
        ("", None),
    ],
)
def test_the_price_of_a_version_is_that_of_its_model_and_of_no_other(model: str, price: str | None) -> None:
    names = {"gpt-4o": "4o", "gpt-4o-mini": "mini", "claude-*": "claude", "claude-x-y-*": "y", "claude-x": "claude"}
    tracker = UsageTracker({name: Price(1, 1, currency) for name, currency in names.items()})
    tracker.add(model, Usage(1, 1))
    (used,) = tracker.models
    assert (used.price and used.price.currency) == price


def test_prices_from_a_function() -> None:
    tracker = UsageTracker(lambda model: CHEAP if "mini" in model else None)
    for model in ("a-mini", "a"):
        tracker.add(model, Usage(1, 0))
    assert [model.price for model in tracker.models] == [None, CHEAP]


def test_many_threads_and_many_models() -> None:
    tracker = UsageTracker()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: tracker.add(f"m{number % 1100:04}", Usage(1, 2)), range(5500)))
    assert tracker.total_prompt_tokens == 5500
    assert len(tracker.models) == MAX_MODELS + 1
    assert OTHER_MODELS in [model.model for model in tracker.models]


def test_names_from_elsewhere_drive_no_terminal() -> None:
    tracker = UsageTracker()
    tracker.add("\x1b[2Jm\n" + "x" * 5000, None)
    assert tracker.report().startswith("\ufffd[2Jm\ufffdxxx")
    assert len(tracker.report()) < 300


def test_what_a_connector_counts(chats: Chats, socket_path: str) -> None:
    """Each completion that came, whole or its beginning, and what the API told of it."""
    told = event(choices=[], model="m-2024-01-01", usage=USAGE | {"prompt_tokens_details": {"cached_tokens": 4}})
    tracker = UsageTracker({"m": Price(1, 1)})
    with ScriptedDaemon(failing(401), socket_path) as daemon:
        connector = chats.connector(usage_tracker=tracker, retry_clock=StillClock())
        with pytest.raises(APIError):
            chats.whole(connector)
        assert tracker.models == ()
        daemon.script = in_turn(failing(500), saying("a", usage=USAGE), streaming(text("b"), told, DONE))
        chats.whole(connector)
        chats.texts(connector)
        assert tracker.report().splitlines()[:2] == [
            "m: 1 request, 10 prompt tokens, 2 completion tokens, cost 0.000012 USD",
            "m-2024-01-01: 1 request, 10 prompt tokens (4 cached), 2 completion tokens, cost 0.000012 USD",
        ]
        tracker.reset()
        daemon.script = endless(text("one", usage=USAGE), text("two"), text("three"))
        chats.texts(connector, most=2)
        daemon.script = endless(text("one"), text("two"))
        chats.texts(connector, most=1)
        daemon.script = streaming(text("one"), event(error={"message": "no more"}))
        with pytest.raises(APIError, match="no more"):
            chats.texts(connector)
        assert tracker.report() == (
            "m: 3 requests (2 of unknown usage), 10 prompt tokens, 2 completion tokens, cost at least 0.000012 USD"
        )
        chats.close(connector)


@pytest.mark.parametrize("count", [-1, True, 10**13, 1.5, "7", None, []])
def test_a_count_that_is_none_says_nothing(chats: Chats, socket_path: str, count: Any) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": count}}
    with ScriptedDaemon(saying("a", usage=usage), socket_path):
        connector = chats.connector()
        chats.whole(connector)
        assert connector.last_usage == Usage(0, 3)
        chats.close(connector)


@pytest.mark.parametrize(
    ("price", "error"),
    [
        ((-1, 1), "input_per_million: -1"),
        ((1, "much"), "output_per_million: 'much'"),
        ((1, "NaN"), "output_per_million: 'NaN'"),
        ((1, float("inf")), "output_per_million: inf"),
        ((1, "1e-30"), "output_per_million"),
        ((1, "9" * 100), "output_per_million"),
        ((1, 1, " "), "currency"),
        ((1, 1, "x" * 17), "currency"),
        ((1, 1, "USD", -1), "cached_input_per_million"),
    ],
)
def test_prices_that_cannot_be_used_are_refused(price: tuple[Any, ...], error: str) -> None:
    with pytest.raises(ConnectorException, match=error):
        Price(*price)


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
    ):
        path.write_text(content)
        with pytest.raises(ConnectorException, match=error) as e:
            load_prices(path)
        assert str(path) in str(e.value)
