"""The tasks in which a connection's requests run, where they need any."""

from __future__ import annotations

from collections.abc import Callable

import outcome
import trio

from .running import RunningRequest


class Runners:
    """Runs requests in tasks of a nursery; one task that is done waits for the next request, since to begin and end a
    task and a scope for each costs several times as much as to wake one.

    Args:
        ended: told of each request that has been answered.

    Attributes:
        nursery: to be set before the first request comes.
    """

    def __init__(self, ended: Callable[[RunningRequest], None]) -> None:
        self.nursery: trio.Nursery | None = None
        self._ended = ended
        self._idle: trio.lowlevel.Task | None = None

    def run(self, running: RunningRequest) -> None:
        """Have it run, in a scope of its own."""
        assert self.nursery is not None
        runner, self._idle = self._idle, None
        if runner is None:
            self.nursery.start_soon(self._run, running)
        else:
            trio.lowlevel.reschedule(runner, outcome.Value(running))

    def fail(self, error: Exception) -> None:
        """End the nursery, and all that runs in it, with this error."""
        assert self.nursery is not None
        self.nursery.start_soon(_raise, error)

    async def _run(self, running: RunningRequest | None) -> None:
        def cancel(_: object) -> trio.lowlevel.Abort:
            self._idle = None
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            with trio.CancelScope() as scope:
                while running is not None:
                    await running.run(scope)
                    self._ended(running)
                    may_go_on = self._idle is None and not running.has_used_scope
                    running = None
                    if may_go_on:
                        self._idle = trio.lowlevel.current_task()
                        running = await trio.lowlevel.wait_task_rescheduled(cancel)
            if running is not None:
                running.stopped()
        except trio.Cancelled:
            if running is not None:
                running.left()
            raise
        finally:
            if running is not None:
                self._ended(running)


async def _raise(error: Exception) -> None:
    raise error
