"""Work that takes long, in threads and little of it at once: in the meantime everybody else's answers go on."""

from collections.abc import Callable
from typing import TypeVar

import trio

# Below it, to read a body and to count and cut its texts takes some ten milliseconds at most.
MAX_SMALL_BYTES = 30_000

# Threads share one interpreter, so that more would be no faster, and each holds some ten times a body's size.
MAX_AT_ONCE = 2

_T = TypeVar("_T")


class Work:
    """The work of one simulator."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(MAX_AT_ONCE)

    async def done(self, is_long: bool, function: Callable[[], _T]) -> _T:
        """What a function comes to: at once, or where it may take long in a thread, when its turn comes.

        Who is cancelled does not wait for the thread, which then works for nobody.
        """
        if not is_long:
            return function()
        return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=self._limiter)


def is_large(body: bytes) -> bool:
    """Whether all that is done with a request of this body takes long."""
    return len(body) > MAX_SMALL_BYTES
