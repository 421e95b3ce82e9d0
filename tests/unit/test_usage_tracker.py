"""UsageTracker: what was used and what it cost, and no word about what nobody knows."""

from __future__ import annotations

import gc
import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from chat_stories import (
    DONE,
    HELLO,
    PATIENCE_S,
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

from connector_sdk import APIError
from connector_sdk.openai import (
    AsyncOpenAIConnector,
    ChatChunk,
    OpenAIConnector,
    Price,
    Usage,
    UsageTracker,
)
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


def _in_time(call: Callable[[], object]) -> None:
    """In a thread, which nobody waits for if it waits for itself."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE_S / 4)
    assert not thread.is_alive()


class _CollectedWhenAdded(int):
    """A count in the midst of whose addition Python collects garbage."""

    def __radd__(self, other: int) -> int:
        gc.collect()
        return other + int(self)


class _Reader:
    """Looks at what was used when it is collected."""

    def __init__(self, tracker: UsageTracker, seen: list[object]) -> None:
        self.tracker, self.seen = tracker, seen

    def __del__(self) -> None:
        self.seen.append(self.tracker.models)


def _blocking_stream(tracker: UsageTracker) -> object:
    def chunks(_request: Any) -> Iterator[ChatChunk]:
        yield ChatChunk(model="dropped")
        yield ChatChunk()

    connector = OpenAIConnector(usage_tracker=tracker)
    connector._stream = chunks  # type: ignore[assignment]
    stream = connector.stream_chunks(HELLO)
    next(stream)
    return stream


def _async_stream(tracker: UsageTracker) -> object:
    stream = AsyncOpenAIConnector(usage_tracker=tracker).stream_chunks(HELLO)
    stream._has_come, stream._model = True, "dropped"
    return stream


@pytest.fixture
def no_other_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("stream_of", [_blocking_stream, _async_stream])
def test_a_stream_that_is_collected_in_the_midst_of_counting_is_counted(
    stream_of: Callable[[UsageTracker], object], no_other_collection: None
) -> None:
    tracker = UsageTracker({"m": CHEAP})
    seen: list[object] = []
    cycle = [stream_of(tracker), _Reader(tracker, seen)]
    cycle.append(cycle)
    del cycle
    _in_time(lambda: tracker.add("m", Usage(_CollectedWhenAdded(7), 1)))
    assert seen == [()]
    assert repr(tracker) == "<UsageTracker of 2 models>"
    assert [(model.model, model.requests, model.prompt_tokens) for model in tracker.models] == [
        ("dropped", 1, 0),
        ("m", 1, 7),
    ]


def test_what_is_counted_while_somebody_reads_waits_for_nobody() -> None:
    tracker = UsageTracker()
    with tracker._lock:
        _in_time(lambda: tracker.add("m", Usage(1, 2)))
    assert tracker.total_prompt_tokens == 1


def test_a_function_that_gives_prices_may_look_at_what_was_used() -> None:
    tracker = UsageTracker(lambda model: DEAR if tracker.total_prompt_tokens else CHEAP)
    _in_time(lambda: [tracker.add(model, Usage(1, 0)) for model in ("a", "b")])
    assert [model.price for model in tracker.models] == [CHEAP, DEAR]


@pytest.mark.parametrize("price_of", [lambda model: {}[model], lambda model: "0.15"])
def test_a_function_that_fails_to_give_a_price_costs_no_answer(
    chats: Chats, socket_path: str, caplog: pytest.LogCaptureFixture, price_of: Any
) -> None:
    tracker = UsageTracker(price_of)
    with ScriptedDaemon(saying("a", usage=USAGE), socket_path):
        connector = chats.connector(usage_tracker=tracker)
        assert chats.whole(connector) == "a"
        assert chats.texts(connector) == ["a"]
        chats.close(connector)
    assert tracker.report() == "m: 2 requests, 20 prompt tokens, 4 completion tokens, cost unknown (no price)"
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        "no price for 'm': the function that gives prices failed",
    )
    assert record.exc_info


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
