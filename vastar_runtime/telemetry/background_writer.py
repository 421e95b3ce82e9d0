"""Writes the log in a thread: its reader may stall (a pipe to a collector, a slow disk) and then stalls no request."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Self

# About 2 MiB of lines. What comes on top is counted, and the count is logged as soon as there is room.
MAX_WAITING_LINES = 10_000
# Lines are gathered for so long and written together. A thread that is woken by a line takes the interpreter from the
# request that comes next (measured, one connection: its first event is 0.4 to 1.4 ms later).
GATHER_S = 0.02
# So it looks by itself for as long as lines come, and sleeps after so many looks in vain: an idle daemon wakes nobody.
LOOKS_IN_VAIN = 100
# At the end: how long to wait for a reader that stalls.
FLUSH_TIMEOUT_S = 1.0


class BackgroundWriter:
    """Where the log's lines go; a context manager that writes what is left at its end.

    Args:
        sink: takes bytes, and may wait. An OSError of it (a full disk, a reader that has gone) costs lines of the log.
            Not a buffered stream: one keeps what it could not write, and fails on it again when the process ends.
    """

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._lines: deque[object] = deque()
        self._dropped = 0
        self._is_asleep = False
        self._has_lines = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def write_later(self, line: object) -> None:
        """Queue a line, whose ``str`` is its text, which the thread asks for; never waits."""
        if len(self._lines) >= MAX_WAITING_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        if self._is_asleep:
            self._has_lines.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._has_lines.set()
        self._thread.join(FLUSH_TIMEOUT_S)

    def _run(self) -> None:
        looks_in_vain = LOOKS_IN_VAIN
        is_last = False
        while not is_last:
            if looks_in_vain == LOOKS_IN_VAIN:
                self._sleep()
            is_last = self._ending.wait(GATHER_S)
            lines = self._taken()
            looks_in_vain = 0 if lines else looks_in_vain + 1
            if lines:
                with contextlib.suppress(OSError):  # it costs these lines, and whoever wrote them nothing
                    self._sink("".join(map(str, lines)).encode(errors="replace"))

    def _sleep(self) -> None:
        """Until there is a line, or the end."""
        self._has_lines.clear()
        self._is_asleep = True
        if not self._lines and not self._ending.is_set():  # looked at after telling that a line must wake us
            self._has_lines.wait()
        self._is_asleep = False

    def _taken(self) -> list[object]:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(f'level=warning event="log lines dropped" count={dropped}\n')
        return lines


# What a pipe takes from several processes without mixing them: pipe(7), PIPE_BUF.
WHOLE_BYTES = 4096


def write_lines(fd: int, data: bytes) -> None:
    """As ``write_all``, for one of several processes that write to the same pipe: no line breaks another one's.

    Args:
        data: lines, of which only one longer than WHOLE_BYTES may be broken.
    """
    begin = 0
    while len(data) - begin > WHOLE_BYTES:
        end = data.rfind(b"\n", begin, begin + WHOLE_BYTES) + 1 or data.find(b"\n", begin) + 1 or len(data)
        write_all(fd, data[begin:end])
        begin = end
    write_all(fd, data[begin:])


def write_all(fd: int, data: bytes) -> None:
    """Write everything to a file descriptor, however often that takes.

    Raises:
        OSError: as os.write.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
