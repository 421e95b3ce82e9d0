"""What is to be done once in each turn of the loop, for all that came up in it."""

from __future__ import annotations

from collections.abc import Callable

import outcome
import trio

from vastar_runtime.http.readiness import at_end_of_turn, guarded

_of_this_run: trio.lowlevel.RunVar[_Turns] = trio.lowlevel.RunVar("turns")


def next_turn(call: Callable[[], None]) -> None:
    """Have this called in the next turn of the loop, or at the end of this one. To be called inside a trio run."""
    if at_end_of_turn(call):
        return
    try:
        turns = _of_this_run.get()
    except LookupError:
        turns = _Turns()
        _of_this_run.set(turns)
        trio.lowlevel.spawn_system_task(turns.run, name="turns")
    turns.add(call)


class _Turns:
    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []
        self._sleeper: trio.lowlevel.Task | None = None

    def add(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            trio.lowlevel.reschedule(sleeper, outcome.Value(None))

    async def run(self) -> None:
        def cancel(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        while True:
            calls, self._calls = self._calls, []
            for call in calls:
                guarded(call)
            self._sleeper = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(cancel)
