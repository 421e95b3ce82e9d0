"""A clock that a test moves, for what takes one as a function; and what it takes to look at it without a loop."""

from __future__ import annotations

import heapq
import random
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Clock:
    """Seconds since some time or other."""

    now = 12_345.678

    def __call__(self) -> float:
        return self.now


class Schedule(Clock):
    """A clock that moves to the next of those that wait: what tasks on a mock clock do, at a tenth of the price.

    Args:
        dice: who comes first of those whose waits end at the same moment.
    """

    now = 0.0

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def run(self, *everyone: Iterator[float]) -> None:
        """Run all of them to their ends. Each yields the seconds that it waits for."""
        # The number keeps the heap from comparing generators.
        waiting = [(self.now, self._dice.random(), number, each) for number, each in enumerate(everyone)]
        heapq.heapify(waiting)
        while waiting:
            self.now, _, number, each = heapq.heappop(waiting)
            wait_s = next(each, None)
            if wait_s is not None:
                heapq.heappush(waiting, (self.now + wait_s, self._dice.random(), number, each))


def result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine that never waits returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waits")
