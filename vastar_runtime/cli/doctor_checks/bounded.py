"""A look that ends in time: what hangs (a dead network disk, a resolver without an answer) is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class TookTooLong(Exception):
    """It was not done in time. ``str()`` is the rest of a sentence."""


class Look(Generic[Result]):
    """Something that is being done, in a thread of its own.

    The thread is a daemon's: one that hangs in the system does not keep the program from ending.
    """

    def __init__(self, do: Callable[[], Result]) -> None:
        self._do = do
        self._done = threading.Event()
        self._results: list[Result] = []
        self._errors: list[Exception] = []
        threading.Thread(target=self._run, daemon=True, name="look").start()

    def result(self, timeout_s: float) -> Result:
        """What came of it, waiting for no longer than this.

        Raises:
            TookTooLong: it is not done.
            Exception: what it ended with.
        """
        if not self._done.wait(max(0.0, timeout_s)):
            raise TookTooLong(f"no result within {timeout_s:.1f} s: something that it looks at hangs")
        if self._errors:
            raise self._errors[0]
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._do())
        except Exception as error:  # handed to whoever asks for the result
            self._errors.append(error)
        finally:
            self._done.set()


def within(timeout_s: float, do: Callable[[], Result]) -> Result:
    """As ``Look(do).result(timeout_s)``."""
    return Look(do).result(timeout_s)
