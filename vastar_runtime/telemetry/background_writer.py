"""Writes the log in a thread: its reader may stall (a pipe to a collector, a slow disk) and then stalls no request."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Self

# About 2 MiB of lines. What comes on top is counted, and the count is logged as soon as there is room.
MAX_WAITING_LINES = 10_000
# At the end: how long to wait for a reader that stalls.
FLUSH_TIMEOUT_S = 1.0


class BackgroundWriter:
    """The part of a text stream that a log needs; a context manager that writes what is left at its end.

    Args:
        sink: takes bytes, and may wait. An OSError of it (a full disk, a reader that has gone) costs lines of the log.
            Not a buffered stream: one keeps what it could not write, and fails on it again when the process ends.
    """

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def write(self, text: str) -> None:
        """Queue a line; never waits."""
        try:
            if self._dropped:
                self._lines.put_nowait(f'level=warning event="log lines dropped" count={self._dropped}\n')
                self._dropped = 0
            self._lines.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Nothing: the thread holds no line back."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=FLUSH_TIMEOUT_S)
            self._thread.join(FLUSH_TIMEOUT_S)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError):
                self._sink(line.encode(errors="replace"))
