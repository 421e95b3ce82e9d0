"""Charts of a run: latency, throughput over concurrency, chunk delay."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import TARGETS, TITLES
from bench.results import Results
from bench.stage import TargetName

COLOURS: dict[TargetName, str] = {
    "direct": "#9a9a9a",
    "nginx": "#2b8a3e",
    "httpx2": "#e8590c",
    "daemon": "#1864ab",
    "daemon-2": "#4dabf7",
}
SIZE_INCHES = (8.0, 4.5)
DPI = 110


def draw(results: Results, into: Path) -> list[Path]:
    """Write the charts as PNG files, those of which there is anything to show; where they are."""
    drawn = []
    for name, chart in (("latency", _latency), ("throughput", _throughput), ("chunk_delay", _chunk_delay)):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        if chart(results, figure):
            drawn.append(into / f"{name}.png")
            figure.savefig(drawn[-1], dpi=DPI, metadata={"Software": None})
    return drawn


def _latency(results: Results, figure: Figure) -> bool:
    axes = figure.subplots()
    ticks: set[int] = set()
    for target, (counts, medians) in _lines(results, r"a/(\d+)", "p50_us"):
        axes.plot(counts, medians, marker="o", color=COLOURS[target], label=f"{TITLES[target]}, p50")
        _, tails = _line(results, target, r"a/(\d+)", "p99_us")
        axes.plot(counts, tails, marker=".", linestyle=":", color=COLOURS[target], label=f"{TITLES[target]}, p99")
        ticks.update(counts)
    return _finish(axes, ticks, "Latency of a buffered request", "connections", "µs")


def _throughput(results: Results, figure: Figure) -> bool:
    axes = figure.subplots()
    ticks: set[int] = set()
    for target, (counts, rates) in _lines(results, r"a/(\d+)", "per_s"):
        axes.plot(counts, rates, marker="o", color=COLOURS[target], label=TITLES[target])
        ticks.update(counts)
    return _finish(axes, ticks, "Buffered requests, 400 B of JSON", "connections", "requests per second")


def _chunk_delay(results: Results, figure: Figure) -> bool:
    found = False
    panels = figure.subplots(1, 2, sharey=True)
    for axes, gap_ms in zip(panels, (5, 50), strict=True):
        ticks: set[int] = set()
        for target, (counts, delays) in _lines(results, rf"c/(\d+)x{gap_ms}ms", "delay_p99_us"):
            axes.plot(counts, [each / 1e3 for each in delays], marker="o", color=COLOURS[target], label=TITLES[target])
            ticks.update(counts)
        found |= _finish(axes, ticks, f"Chunk delay p99, {gap_ms} ms gap", "streams", "ms")
    return found


def _lines(results: Results, pattern: str, metric: str) -> Iterator[tuple[TargetName, tuple[list[int], list[float]]]]:
    for target in TARGETS:
        line = _line(results, target, pattern, metric)
        if line[0]:
            yield target, line


def _line(results: Results, target: TargetName, pattern: str, metric: str) -> tuple[list[int], list[float]]:
    """A metric over the number in the points' names."""
    counts, values = [], []
    for point in results.titles:
        matched = re.fullmatch(pattern, point)
        value = results.median(point, target, metric) if matched else None
        if matched and value is not None:
            counts.append(int(matched[1]))
            values.append(value)
    return counts, values


def _finish(axes: Axes, ticks: set[int], title: str, x: str, y: str) -> bool:
    """Title, scales and legend; False when there is nothing to show."""
    axes.set(title=title, xlabel=x, ylabel=y, xscale="log", yscale="log")
    axes.grid(visible=True, which="major", alpha=0.3)
    if not ticks:
        return False
    axes.set_xticks(sorted(ticks), [f"{each:,}" for each in sorted(ticks)])
    axes.minorticks_off()
    axes.legend(fontsize="small")
    return True
