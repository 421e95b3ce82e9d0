"""What a run has measured: raw figures, and what is computed from them.

Ratios and differences between targets are taken within a round, where the machine was in the same mood, and the median
is of those.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import msgspec

from bench.load import Values
from bench.stage import TargetName


class Measured(msgspec.Struct, frozen=True):
    """One measurement."""

    point: str
    target: TargetName
    round: int
    values: Values


class Skip(msgspec.Struct, frozen=True):
    """What was not measured, and why."""

    point: str
    target: TargetName
    reason: str


class Results(msgspec.Struct):
    """Everything that a run leaves behind; this is what result.json holds.

    Attributes:
        titles: of the points, by name, in order.
        problems: one line for each measurement in which something failed.
    """

    scale: str
    machine: dict[str, str]
    titles: dict[str, str]
    measured: list[Measured] = []
    skipped: list[Skip] = []
    problems: list[str] = []
    rounds: int = 0
    took_s: float = 0.0

    def values(self, point: str, target: TargetName, metric: str) -> dict[int, float]:
        """A metric by round; without the rounds that have none."""
        return {
            each.round: each.values[metric]
            for each in self.measured
            if each.point == point and each.target == target and metric in each.values
        }

    def median(self, point: str, target: TargetName, metric: str) -> float | None:
        """Over the rounds; None: not measured."""
        return _median(list(self.values(point, target, metric).values()))

    def ratio(self, point: str, target: TargetName, base: TargetName, metric: str) -> float | None:
        """``target`` as a share of ``base``."""
        return self._paired(point, target, base, metric, lambda one, other: one / other)

    def difference(self, point: str, target: TargetName, base: TargetName, metric: str) -> float | None:
        """``target`` minus ``base``."""
        return self._paired(point, target, base, metric, lambda one, other: one - other)

    def total(self, point: str, target: TargetName, metric: str) -> float:
        """Over the rounds."""
        return sum(self.values(point, target, metric).values())

    def why_not(self, point: str, target: TargetName) -> str:
        """Why there is no figure."""
        return next(
            (each.reason for each in self.skipped if each.point == point and each.target == target), "not measured"
        )

    def _paired(
        self, point: str, target: TargetName, base: TargetName, metric: str, how: Callable[[float, float], float]
    ) -> float | None:
        ours, theirs = self.values(point, target, metric), self.values(point, base, metric)
        return _median([how(ours[number], theirs[number]) for number in ours.keys() & theirs.keys()])


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
