"""Starting a process, in a thread, and ending it with all of its group."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import trio

from .errors import Unusable


class Child(NamedTuple):
    """A process that was started. Its standard output is a pipe; reading from it does not wait."""

    popen: subprocess.Popen[bytes]
    pidfd: int

    @property
    def stdout_fd(self) -> int:
        """The pipe's end."""
        assert self.popen.stdout is not None
        return self.popen.stdout.fileno()

    def kill(self) -> None:
        """The process and its group; only before it has been waited for, which makes its number another's."""
        _kill(self.popen)

    def close(self) -> None:
        """Let go of it."""
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        os.close(self.pidfd)


class Start:
    """Starting a program, which may hang with its disk; one that nobody waits for any more is ended at once.

    Attributes:
        ended: the thread has come to its end, or will do nothing.
    """

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self.ended = trio.Event()
        self._arguments = arguments
        self._environ = environ
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._has_begun = False
        self._is_abandoned = False

    def run(self) -> Child:
        """In the thread.

        Raises:
            OSError: the system does not run it.
            Unusable: no process can have its arguments or environment.
        """
        with self._lock:
            self._has_begun = True
            if self._is_abandoned:
                raise Unusable("is not waited for")
        try:
            child = self._open()
            if not self._give(child):
                child.kill()
                child.close()
                child.popen.wait()
            return child
        finally:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self.ended.set)

    def abandon(self) -> Child | None:
        """It is not waited for; if it runs already, that is for the caller to end."""
        with self._lock:
            self._is_abandoned = True
            if not self._has_begun:
                self.ended.set()
            return self._child

    def _give(self, child: Child) -> bool:
        """False: nobody takes it."""
        with self._lock:
            self._child = child
            return not self._is_abandoned

    def _open(self) -> Child:
        popen = self._popen()
        if popen is None:  # not raised there: that error may quote the environment, and would be this one's context
            raise Unusable("cannot be run: its arguments or its environment are none that a process can have")
        try:
            child = Child(popen, os.pidfd_open(popen.pid))
        except OSError:
            _kill(popen)
            popen.communicate()
            raise
        os.set_blocking(child.stdout_fd, False)
        return child

    def _popen(self) -> subprocess.Popen[bytes] | None:
        try:
            return subprocess.Popen(  # noqa: S603 - what the configuration names
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                env=self._environ,
                start_new_session=True,
            )
        except ValueError:
            return None


def _kill(popen: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(popen.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of them have ended
    except PermissionError:
        return  # another user's, by a set-user-ID bit
