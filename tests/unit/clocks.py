"""A clock that a test moves, for what takes one as a function; and what it takes to look at it without a loop."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Clock:
    """Seconds since some time or other."""

    now = 12_345.678

    def __call__(self) -> float:
        return self.now


def result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine that never waits returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waits")
