"""What a person reads: the table of goals on the terminal, and the page with every figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.goals import Judged, judge, number
from bench.results import Results
from bench.stage import TargetName

TARGETS: tuple[TargetName, ...] = ("direct", "nginx", "httpx2", "daemon", "daemon-2")
TITLES: dict[TargetName, str] = {
    "direct": "direct",
    "nginx": "nginx",
    "httpx2": "httpx2",
    "daemon": "daemon",
    "daemon-2": "daemon, 2 workers",
}

# Scenario, heading, and the figures that say something about it: name, metric, factor.
Figures = tuple[tuple[str, str, float], ...]
_LOAD: Figures = (
    ("requests/s", "per_s", 1),
    ("p50 µs", "p50_us", 1),
    ("p99 µs", "p99_us", 1),
    ("CPU µs per request", "cpu_us_per_request", 1),
)
_STREAM: Figures = (
    ("chunks/s", "events_per_s", 1),
    ("first chunk p50 ms", "first_p50_us", 1e-3),
    ("delay p50 ms", "delay_p50_us", 1e-3),
    ("delay p99 ms", "delay_p99_us", 1e-3),
    ("CPU µs per chunk", "cpu_us_per_event", 1),
)
_MEMORY: Figures = (
    ("RSS MB", "rss_bytes", 1e-6),
    ("RSS kB each", "rss_bytes_each", 1e-3),
    ("PSS MB", "pss_bytes", 1e-6),
    ("PSS kB each", "pss_bytes_each", 1e-3),
)
SCENARIOS: tuple[tuple[str, str, Figures], ...] = (
    ("a", "Buffered requests, 400 B of JSON", _LOAD),
    ("b", "One connection, many in flight, upstream 20 ms", _LOAD),
    ("c", "Streams", _STREAM),
    ("d", "Streams as fast as they go", _STREAM),
    ("e", "Large bodies", (("MB/s", "mb_per_s", 1), ("CPU ms per request", "cpu_us_per_request", 1e-3))),
    ("f", "Memory", _MEMORY),
    ("g", "Start", (("ms to the first answer", "start_ms", 1), *_MEMORY)),
    ("h", "TLS upstream", _LOAD),
    ("i", "The SDK's own cost", (("CPU µs", "sdk_cpu_us", 1), ("per second", "per_s", 1))),
)


def goals_table(results: Results) -> str:
    """The goals with what was measured, as a Markdown table that reads well on a terminal too."""
    rows = [("what", "must", "goal", "measured", "")]
    rows += [(each.what, each.must, each.goal, each.measured, _verdict(each)) for each in judge(results)]
    return _aligned(rows)


def page(results: Results, charts: list[Path]) -> str:
    """The page, Markdown; ``charts`` relative to it."""
    parts = [
        "# Performance",
        _INTRODUCTION.format(rounds=results.rounds, scale="" if results.scale == "full" else f" --{results.scale}"),
        "## Goals",
        "What must hold, what is aimed at, and what was measured.",
        goals_table(results),
        _unmeasured(results),
        "## Charts",
        *(f"![{chart.stem.replace('_', ' ')}]({chart.as_posix()})" for chart in charts),
        "## Machine",
        _aligned([("what", "value"), *results.machine.items()]),
        "## All figures",
        _HOW,
    ]
    for letter, title, figures in SCENARIOS:
        table = _scenario_table(results, letter, figures)
        if table:
            parts += [f"### {title}", table]
    if results.problems:
        parts += ["## What failed", "\n".join(f"- {problem}" for problem in results.problems)]
    return "\n\n".join(part for part in parts if part) + "\n"


_INTRODUCTION = """\
Measured by `scripts/bench/run.py{scale}` on one machine, which the load, the upstream and every target share, over
loopback and a Unix socket; medians of {rounds} rounds, in which the targets take turns (memory has one round in the
quick form). The daemon runs with its default settings, its policies and its log on; nginx without a log. Another
machine gives other figures; ratios within a run travel better."""

_HOW = """\
- **direct** is the load generator straight at the upstream; **nginx** relays the same upstream with 2 workers,
  `proxy_buffering off` and kept connections; **httpx2** is what an application would use instead of the daemon: its
  async client on asyncio, in one process, with the figures of that process.
- CPU is user and system time of a target's whole process tree, from the kernel's CPU clocks.
- The delay of a chunk is its age when the load generator reads it: from the upstream's write on.
- RSS is that of the daemon's first process (`/proc/PID/statm`); PSS adds all its processes up and counts shared pages
  once (`/proc/PID/smaps_rollup`).
- Streams and buffered requests are one per connection, unless it says otherwise. 1,000 streams belong to 5 tenants:
  the daemon opens at most 256 connections to an origin for each."""


def _scenario_table(results: Results, letter: str, figures: Figures) -> str:
    rows: list[tuple[str, ...]] = []
    for point, title in results.titles.items():
        if not point.startswith(f"{letter}/"):
            continue
        for target in TARGETS:
            cells = [
                # Of several processes the first one's own memory says nothing of those that serve.
                "" if target == "daemon-2" and metric.startswith("rss") else _cell(found, factor)
                for _, metric, factor in figures
                for found in [results.median(point, target, metric)]
            ]
            if any(cells):
                rows.append((title, TITLES[target], *cells))
    if not rows:
        return ""
    return _aligned([("", "target", *(name for name, _, _ in figures)), *rows])


def _unmeasured(results: Results) -> str:
    """What was skipped, by reason; a target that was not there at all is named once."""
    seen = {each.target for each in results.measured}
    by_reason: dict[str, list[str]] = {}
    for skip in results.skipped:
        what = f"{results.titles[skip.point]} ({TITLES[skip.target]})" if skip.target in seen else TITLES[skip.target]
        whats = by_reason.setdefault(skip.reason, [])
        if what not in whats:
            whats.append(what)
    if not by_reason:
        return ""
    lines = [f"- {reason}: {', '.join(whats)}" for reason, whats in by_reason.items()]
    return "Not measured:\n\n" + "\n".join(lines)


def _verdict(judged: Judged) -> str:
    return {"goal met": "✓✓ goal", "must met": "✓ must", "missed": "✗ missed", "not measured": ""}[judged.verdict]


def _cell(value: float | None, factor: float) -> str:
    return "" if value is None else number(value * factor)


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    rows = [rows[0], tuple("-" * width for width in widths), *rows[1:]]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows
    )
