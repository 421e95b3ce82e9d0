"""The run itself: every point of every target, round after round."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.points import Point, problems
from bench.results import Measured, Results, Skip
from bench.scenarios import Scale
from bench.stage import Skipped, Stage

# For each point the targets take turns, so that those that are compared are measured within seconds of each other.


def measure(stage: Stage, points: list[Point], scale: Scale, results: Results, tell: Callable[[str], None]) -> None:
    """Fill ``results``.

    Args:
        tell: takes a line for each point that has been measured.

    Raises:
        BenchError: the run cannot go on; what was measured until then stands.
    """
    began = time.monotonic()
    for number in range(1, scale.max_rounds + 1):
        round_began = time.monotonic()
        for point in points:
            if point.name.startswith("f/") and number > scale.memory_rounds:
                continue
            _measure_point(stage, point, number, results)
            tell(f"round {number} of {scale.max_rounds}: {point.title}")
        results.rounds = number
        results.took_s = time.monotonic() - began
        next_ends_s = results.took_s + time.monotonic() - round_began
        if scale.budget_s is not None and next_ends_s > scale.budget_s:
            return


def _measure_point(stage: Stage, point: Point, number: int, results: Results) -> None:
    for target in point.targets:
        try:
            values = point.measure(stage, target)
        except Skipped as skipped:
            if number == 1:
                results.skipped.append(Skip(point.name, target, str(skipped)))
            continue
        results.measured.append(Measured(point.name, target, number, values))
        problem = problems(point, target, values)
        if problem is not None:
            results.problems.append(f"round {number}, {problem}")
