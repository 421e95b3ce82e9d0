"""Call again after a failure that may pass: exponential backoff with full jitter."""

from __future__ import annotations

import random as _random
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from .errors import ConnectorException
from .wire.messages import ErrorClass

T = TypeVar("T")

_NAMES = {member.name.replace("_", ""): member for member in ErrorClass}


class Backoff:
    """How long to wait before one try after another: exponential, with full jitter.

    Before retry n (from 0), a random part of ``initial_ms * 2**n``, at most ``most_ms``: callers that failed together
    do not come back together.

    Args:
        random: gives a number from 0 to 1.
    """

    def __init__(self, initial_ms: float, most_ms: float, random: Callable[[], float]) -> None:
        self._next_ms = min(initial_ms, most_ms)
        self._most_ms = most_ms
        self._random = random

    def next_ms(self, at_least_ms: float) -> float:
        """The next wait, never shorter than what was asked for."""
        wait_ms = max(self._random() * self._next_ms, at_least_ms)
        self._next_ms = min(self._next_ms * 2, self._most_ms)
        return wait_ms


def retry_with_backoff(
    func: Callable[[], T],
    max_retries: int = 3,
    initial_backoff_ms: int = 1000,
    max_backoff_ms: int = 30000,
    retryable_errors: Iterable[str] | None = None,
    *,
    sleep: Callable[[float], object] = time.sleep,
    random: Callable[[], float] = _random.random,
) -> T:
    """``func()``, called again after a retryable ConnectorException, at most ``max_retries`` times.

    Before retry n (from 0) it waits a random part of ``initial_backoff_ms * 2**n``, at most ``max_backoff_ms``
    (``Backoff``). It never waits less than the daemon or the API asks for (``retry_after_ms``); where that is over
    ``max_backoff_ms``, the exception is raised at once.

    Args:
        retryable_errors: names of the error classes to retry, in place of what ``is_retryable()`` says, such as
            ``["TRANSIENT", "RATE_LIMITED"]``; "RateLimited" is read too.
        sleep: takes seconds.
        random: gives a number from 0 to 1.

    Raises:
        ConnectorException: the last one, when it is not retryable or the retries are used up.
        ValueError: a name that is no error class, or a negative number.
    """
    if min(max_retries, initial_backoff_ms, max_backoff_ms) < 0:
        raise ValueError("max_retries, initial_backoff_ms and max_backoff_ms must not be negative")
    chosen = None if retryable_errors is None else _error_classes(retryable_errors)
    backoff = Backoff(initial_backoff_ms, max_backoff_ms, random)
    retries_left = max_retries
    while True:
        try:
            return func()
        except ConnectorException as error:
            is_retryable = error.is_retryable() if chosen is None else error.error_class in chosen
            wanted_ms = error.retry_after_ms
            if not is_retryable or retries_left == 0 or wanted_ms > max_backoff_ms:
                raise
        sleep(backoff.next_ms(wanted_ms) / 1000)
        retries_left -= 1


def _error_classes(names: Iterable[str]) -> frozenset[ErrorClass]:
    if isinstance(names, str):
        raise ValueError(f"retryable_errors: a list of names, not the text {names!r}")
    chosen = set()
    for name in names:
        member = _NAMES.get(name.replace("_", "").upper())
        if member is None:
            known = ", ".join(member.name for member in ErrorClass)
            raise ValueError(f"retryable_errors: {name!r} is no error class; the names are {known}")
        chosen.add(member)
    return frozenset(chosen)
