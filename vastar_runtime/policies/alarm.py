"""Cancels scopes when their time has come: one heap and one task for the time limits of all requests.

trio keeps a deadline for each scope that is entered. Here one scope serves many requests, one after the other, and a
limit that moves on with every progress costs nothing while it moves: the heap is asked again when it is due.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Protocol

import trio

# Alarms that ended before they were due stay in the heap; with more of them than others it is made anew.
MIN_STALE = 256


class _Nobody:
    def cancel(self) -> None:
        """Nothing runs in it."""


NOBODY = _Nobody()
_of_this_run: trio.lowlevel.RunVar[_AlarmClock] = trio.lowlevel.RunVar("alarm clock")


class Cancellable(Protocol):
    """As trio.CancelScope."""

    def cancel(self) -> None:
        """End what runs in it."""


class Alarm:
    """Cancels a scope at a time that may be moved.

    Attributes:
        at: when, in trio's time; inf: never.
        has_rung: its scope is cancelled, and of no use any more.
    """

    __slots__ = ("_clock", "at", "due", "has_rung", "scope")

    def __init__(self, scope: Cancellable) -> None:
        self.scope = scope
        self.at = math.inf
        self.due = math.inf  # when the clock looks at it: never later than ``at``
        self.has_rung = False
        self._clock: _AlarmClock | None = None

    def set(self, at: float) -> None:
        """Ring at this time instead; inf: not at all. To be called inside a trio run."""
        self.at = at
        if at < self.due:
            if self._clock is None:
                self._clock = _clock()
            self._clock.add(self)

    def end(self) -> None:
        """It is not to ring any more."""
        self.at = math.inf
        if self.due < math.inf and self._clock is not None:
            self._clock.one_is_stale()
        self.scope = NOBODY  # an alarm that stays in the heap for minutes keeps nothing of the request alive


class _AlarmClock:
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()  # so that no two alarms are compared
        self._stale = 0
        self._pause = trio.CancelScope()

    def add(self, alarm: Alarm) -> None:
        """Look at it at its time."""
        if alarm.due < math.inf:
            self.one_is_stale()
        alarm.due = alarm.at
        heapq.heappush(self._heap, (alarm.at, next(self._numbers), alarm))
        if alarm.at < self._pause.deadline:
            self._pause.deadline = alarm.at

    def one_is_stale(self) -> None:
        """An alarm in the heap has ended, or is in it once more."""
        self._stale += 1
        if self._stale > MIN_STALE and self._stale > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if _is_current(entry) and entry[2].at < math.inf]
            heapq.heapify(self._heap)
            self._stale = 0

    async def run(self) -> None:
        """Ring each alarm at its time."""
        while True:
            with self._pause:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                entry = heapq.heappop(self._heap)
                if _is_current(entry):
                    self._look_at(entry[2], now)
                elif self._stale:
                    self._stale -= 1
            self._pause = trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf)

    def _look_at(self, alarm: Alarm, now: float) -> None:
        alarm.due = math.inf
        if alarm.at <= now:
            alarm.has_rung = True
            alarm.scope.cancel()
        elif alarm.at < math.inf:
            self.add(alarm)
        elif self._stale:
            self._stale -= 1


def _is_current(entry: tuple[float, int, Alarm]) -> bool:
    return entry[2].due == entry[0]


def _clock() -> _AlarmClock:
    try:
        return _of_this_run.get()
    except LookupError:
        clock = _AlarmClock()
        _of_this_run.set(clock)
        trio.lowlevel.spawn_system_task(clock.run, name="alarm clock")
        return clock
