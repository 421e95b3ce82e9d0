"""A secret that a program prints, good for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from .errors import Unusable
from .program import Program
from .secret import Secret, secret_in
from .source import Source

# Of the time that it may be used: then the next one is fetched, so that no request waits for it.
REFRESH_AFTER = 0.8
# However short that time is: a process a second can be borne.
MIN_PAUSE_S = 1.0
FIRST_RETRY_S = 2.0
MAX_RETRY_S = 30.0


class CommandSource(Source):
    """A program's output.

    Args:
        ttl_ms: how long it may be used.
    """

    def __init__(self, name: str, arguments: Sequence[str], ttl_ms: int, environ: Mapping[str, str]) -> None:
        super().__init__(name, "command")
        self._program = Program(arguments, environ)
        self._ttl_s = ttl_ms / 1000
        self._read_at: float | None = None  # in trio's time
        self._is_retired = False
        self._woken = trio.Event()

    def current(self) -> Secret | None:
        """See Source; in a task, as time counts."""
        is_good = self._read_at is not None and trio.current_time() < self._read_at + self._ttl_s
        return self._secret if is_good else None

    def use_for(self, ttl_ms: int) -> None:
        """Another time for which its output may be used, what there is of it too."""
        if ttl_ms / 1000 != self._ttl_s:
            self._ttl_s = ttl_ms / 1000
            self._woken.set()

    def retire(self) -> None:
        """It is not needed any more, but by requests that wait for it."""
        self._is_retired = True
        self._woken.set()

    async def keep(self, running: trio.CapacityLimiter) -> None:
        """Run the program now, and again in time, until ``retire``.

        Args:
            running: how many programs may run at once.
        """
        try:
            await self._keep(running)
        finally:
            # Once what it has is too old, nobody is to wait for more.
            self.problem = self.problem or "its command is not called any more"
            self._changed.set()

    async def _keep(self, running: trio.CapacityLimiter) -> None:
        failures = 0
        while True:
            try:
                async with running:
                    output = await self._program.output()
                self._has_output(output)
            except Unusable as error:
                self._lacks(f"its command {error}")
                pause_s = min(FIRST_RETRY_S * 2 ** min(failures, 10), MAX_RETRY_S)
                failures += 1
            else:
                pause_s = max(REFRESH_AFTER * self._ttl_s, MIN_PAUSE_S)
                failures = 0
            with trio.move_on_after(pause_s):
                await self._woken.wait()
            if self._is_retired:
                return
            self._woken = trio.Event()

    def _has_output(self, output: bytes) -> None:
        if not output.strip():
            raise Unusable("printed nothing")
        try:
            secret = secret_in(output)
        except Unusable as error:
            raise Unusable(f"printed something that {error}") from error
        self._read_at = trio.current_time()
        self._has(secret)
