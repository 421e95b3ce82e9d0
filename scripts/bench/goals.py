"""What the project has set itself: for each figure what must hold, what is aimed at, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.results import Results
from bench.stage import TargetName

Measure = Callable[[Results], float | None]


@dataclass(frozen=True)
class Goal:
    """One row of the table.

    Attributes:
        unit: behind each number.
        more: is better; otherwise less is.
        measure: the figure; None: not measured.
        point, target: whose reason is shown when it is not measured.
    """

    what: str
    must: float
    goal: float
    unit: str
    point: str
    measure: Measure
    target: TargetName = "daemon"
    more: bool = False


@dataclass(frozen=True)
class Judged:
    """A goal with what was measured."""

    what: str
    must: str
    goal: str
    measured: str
    verdict: Literal["goal met", "must met", "missed", "not measured"]


def _times(point: str, metric: str, target: TargetName = "daemon") -> Measure:
    return lambda results: results.ratio(point, target, "nginx", metric)


def _later(point: str, metric: str) -> Measure:
    return lambda results: results.difference(point, "daemon", "direct", metric)


def _median(point: str, metric: str, scale: float = 1, target: TargetName = "daemon") -> Measure:
    def measure(results: Results) -> float | None:
        found = results.median(point, target, metric)
        return None if found is None else found * scale

    return measure


GOALS = (
    Goal("added latency p50 over direct, 1 connection, buffered", 300, 150, "µs", "a/1", _later("a/1", "p50_us")),
    Goal("buffered, 32 connections, 1 worker", 0.15, 0.30, "× nginx", "a/32", _times("a/32", "per_s"), more=True),
    Goal(
        "buffered, 32 connections, 2 workers",
        0.25,
        0.57,
        "× nginx",
        "a/32",
        _times("a/32", "per_s", "daemon-2"),
        "daemon-2",
        more=True,
    ),
    Goal("CPU per buffered request", 130, 70, "µs", "a/32", _median("a/32", "cpu_us_per_request")),
    Goal(
        "one connection, 32 in flight, upstream 20 ms (limit 1,600)",
        1400,
        1550,
        "/ s",
        "b/32",
        _median("b/32", "per_s"),
        more=True,
    ),
    Goal("first chunk later than direct, p50, 1 stream", 300, 150, "µs", "c/first", _later("c/first", "first_p50_us")),
    Goal(
        "chunk delay p99, 200 streams × 50 ms gap",
        5,
        1,
        "ms",
        "c/200x50ms",
        _median("c/200x50ms", "delay_p99_us", 1e-3),
    ),
    Goal("CPU per chunk, 200 streams × 5 ms gap", 50, 25, "µs", "c/200x5ms", _median("c/200x5ms", "cpu_us_per_event")),
    Goal(
        "chunk delay p99, 1,000 streams × 50 ms gap, 2 workers",
        50,
        10,
        "ms",
        "c/1000x50ms",
        _median("c/1000x50ms", "delay_p99_us", 1e-3, "daemon-2"),
        "daemon-2",
    ),
    Goal(
        "lost of 1,000 streams × 50 ms gap, 2 workers",
        0,
        0,
        "",
        "c/1000x50ms",
        lambda results: _lost(results, "c/1000x50ms", "daemon-2"),
        "daemon-2",
    ),
    Goal("gap 0, 16 streams", 100_000, 300_000, "chunks/s", "d/16", _median("d/16", "events_per_s"), more=True),
    Goal("64 MiB body down", 0.3, 0.8, "× nginx", "e/down-64", _times("e/down-64", "mb_per_s"), more=True),
    Goal("RSS, idle", 45, 30, "MB", "g/start", _median("g/start", "rss_bytes", 1e-6)),
    Goal("RSS per idle connection", 30, 10, "kB", "f/idle", _median("f/idle", "rss_bytes_each", 1e-3)),
    Goal("RSS per active stream", 80, 40, "kB", "f/streams", _median("f/streams", "rss_bytes_each", 1e-3)),
    Goal("start to first HealthCheck answer", 0.6, 0.3, "s", "g/start", _median("g/start", "start_ms", 1e-3)),
    Goal(
        "SDK, blocking, per buffered request, CPU",
        80,
        50,
        "µs",
        "i/blocking-request",
        _median("i/blocking-request", "sdk_cpu_us"),
    ),
)


def judge(results: Results) -> list[Judged]:
    """Every goal, with what was measured."""
    return [_judge(goal, results) for goal in GOALS]


def number(value: float) -> str:
    """With as many digits as tell something."""
    size = abs(value)
    if size == 0 or size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _judge(goal: Goal, results: Results) -> Judged:
    value = goal.measure(results)
    must, aim = f"{_text(goal.must)} {goal.unit}".strip(), f"{_text(goal.goal)} {goal.unit}".strip()
    if value is None:
        reason = results.why_not(goal.point, goal.target)
        if results.median(goal.point, goal.target, "per_s") is not None:  # it is the yardstick that is missing
            reason = results.why_not(goal.point, "nginx")
        return Judged(goal.what, must, aim, f"— ({reason})", "not measured")
    measured = f"{number(value)} {goal.unit}".strip()
    if _holds(value, goal.goal, goal):
        return Judged(goal.what, must, aim, measured, "goal met")
    return Judged(goal.what, must, aim, measured, "must met" if _holds(value, goal.must, goal) else "missed")


def _holds(value: float, bound: float, goal: Goal) -> bool:
    return value >= bound if goal.more else value <= bound


def _text(bound: float) -> str:
    return f"{bound:,.0f}" if bound == int(bound) else f"{bound:.2f}".rstrip("0")


def _lost(results: Results, point: str, target: TargetName) -> float | None:
    if not results.values(point, target, "events"):
        return None
    return sum(results.total(point, target, name) for name in ("lost_events", "errors", "unanswered"))
