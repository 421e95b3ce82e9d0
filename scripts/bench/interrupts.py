"""SIGINT and SIGTERM end a run, but not between the start of a process and the note that it runs."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_is_held = False
_came_meanwhile = False


def end_on_signals() -> None:
    """From now on the first of them raises KeyboardInterrupt in the main thread."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """What comes inside is raised at the end."""
    global _is_held
    _is_held = True
    try:
        yield
    finally:
        _is_held = False
        if _came_meanwhile:
            raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Once: what has been started is then stopped in peace."""
    global _came_meanwhile
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    if _is_held:
        _came_meanwhile = True
    else:
        raise KeyboardInterrupt
