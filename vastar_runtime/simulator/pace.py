"""When an answer comes: the time before its first piece, and between its pieces."""

import random
from collections.abc import AsyncIterator, Iterable, Iterator

import trio

from .settings import SimulatorSettings


class Pace:
    """The pauses of one answer. With a seed they are the same for every answer."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._first_s = settings.first_token_ms / 1000
        self._next_s = 1 / settings.tokens_per_second if settings.tokens_per_second else 0.0
        self._jitter = settings.jitter
        self._random = random.Random(settings.seed)

    def first_s(self) -> float:
        """Seconds before the first piece, or before an answer in one piece."""
        return self._first_s * self._share()

    def next_s(self) -> float:
        """Seconds before each further piece."""
        return self._next_s * self._share()

    def _share(self) -> float:
        return 1 + self._random.uniform(-self._jitter, self._jitter)


class Paced(AsyncIterator[bytes]):
    """Pieces at a pace. The work of making and sending them takes nothing from it, but what is late is not made up for.

    Not an async generator: when the client vanishes, one would be left half run for the garbage collector to finalise,
    which trio warns about.
    """

    def __init__(self, pieces: Iterable[bytes], pace: Pace) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._pace = pace
        self._due: float | None = None

    async def __anext__(self) -> bytes:
        now = trio.current_time()
        pause_s = self._pace.first_s() if self._due is None else self._pace.next_s()
        self._due = max((now if self._due is None else self._due) + pause_s, now)
        await trio.sleep_until(self._due)
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration
