"""When a completion is asked for again. No I/O: both connectors share it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from .errors import APIError, ConnectorException
from .retry import Backoff
from .wire.messages import ErrorClass

DEFAULT_MAX_RETRIES = 2  # as the openai package's
MAX_RETRIES = 1000
_INITIAL_BACKOFF_MS = 500
_MAX_BACKOFF_MS = 8_000
# Of an API: a conflict over something that is locked, which passes.
_CONFLICT = 409

# Gets the error, and for how many seconds the completion waits before it is asked for again.
OnRetry = Callable[[ConnectorException, float], object]


class RetryClock:
    """Time and chance, as retries use them; tests have their own."""

    def monotonic_s(self) -> float:
        """A clock that never goes back, in seconds."""
        return time.monotonic()

    def random(self) -> float:
        """A number from 0 to 1."""
        return random.random()

    def sleep(self, seconds: float) -> None:
        """Wait, in a thread."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Wait, in a task."""
        import anyio

        await anyio.sleep(seconds)


class Tries:
    """The tries of one completion, the first of which begins now.

    Args:
        max_retries: how often it may be asked for again.
        timeout_ms: for all of them, and the waits between them.
        on_retry: is told of each wait.

    Attributes:
        timeout_ms: what the next try may take, from its request to its last byte.
    """

    def __init__(self, max_retries: int, timeout_ms: int, clock: RetryClock, on_retry: OnRetry | None = None) -> None:
        self._retries_left = max_retries
        self._clock = clock
        self._on_retry = on_retry
        self._ends_at_s = clock.monotonic_s() + timeout_ms / 1000
        self._backoff = Backoff(_INITIAL_BACKOFF_MS, _MAX_BACKOFF_MS, clock.random)
        self.timeout_ms = timeout_ms

    def wait_s(self, error: ConnectorException) -> float | None:
        """How long to wait before the next try, in seconds; None when there is none: the error is to be raised.

        There is none when the error will not pass, when the retries are used up, and when the wait would leave the
        try no time. The wait is never shorter than ``error.retry_after_ms``.
        """
        if self._retries_left == 0 or not _may_pass(error):
            return None
        wait_ms = self._backoff.next_ms(error.retry_after_ms)
        timeout_ms = int((self._ends_at_s - self._clock.monotonic_s()) * 1000 - wait_ms)
        if timeout_ms < 1:
            return None
        self._retries_left -= 1
        self.timeout_ms = timeout_ms
        if self._on_retry is not None:
            self._on_retry(error, wait_ms / 1000)
        return wait_ms / 1000


def _may_pass(error: ConnectorException) -> bool:
    if isinstance(error, APIError):  # which the daemon passes on as it came
        return error.is_retryable() or error.status == _CONFLICT
    # What the daemon has tried again in vain is not multiplied: such failures open the circuit of the origin, behind
    # which the next error would be. And who waited for an open circuit would wait for long, without a word.
    is_circuit_open = error.error_class is ErrorClass.TRANSIENT and error.attempts == 0 and error.retry_after_ms > 0
    return error.is_retryable() and error.attempts <= 1 and not is_circuit_open
