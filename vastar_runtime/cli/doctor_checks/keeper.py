"""Ends what a program leaves behind that is killed: a process of its own, which waits until a pipe closes.

Run by its path, as ``python -I -S keeper.py DIRECTORY``: it imports nothing but the standard library. On its standard
input come the numbers of processes, one in a line; when that ends, so do these, and the directory is removed. The
numbers of processes that have ended by then are nobody else's, since each is held from the moment that it comes.
"""

import contextlib
import os
import select
import signal
import sys

_END_TIMEOUT_MS = 2000


def keep(directory: str) -> None:
    """Returns when everything is gone."""
    held = []
    for line in sys.stdin.buffer:
        with contextlib.suppress(OSError, ValueError):  # it has ended already
            held.append(os.pidfd_open(int(line)))
    for number in (signal.SIGTERM, signal.SIGKILL):
        running = [fd for fd in held if not _has_ended(fd, 0)]
        for fd in running:
            with contextlib.suppress(OSError):  # it has ended since
                signal.pidfd_send_signal(fd, number)
        for fd in running:
            _has_ended(fd, _END_TIMEOUT_MS)
    import shutil

    shutil.rmtree(directory, ignore_errors=True)


def _has_ended(fd: int, timeout_ms: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what ends the program shall not end this one before
    keep(sys.argv[1])
