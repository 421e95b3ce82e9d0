"""A directory and processes for one request; nothing is left of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from types import TracebackType
from typing import Self

from vastar_runtime.cli.background import end, launch, read_line, tail
from vastar_runtime.config import MAX_SOCKET_PATH_BYTES
from vastar_runtime.config.quoting import shown_path
from vastar_runtime.errors import StartupError

from . import keeper
from .bounded import TookTooLong, within

_END_TIMEOUT_S = 2.0
_SOCKET = "vastar.sock"
_SHORT = "/tmp"  # noqa: S108 - a new directory is made there, for this user alone


class EndedAtOnce(StartupError):
    """What was started ended before it was ready."""


class Workshop:
    """A context manager. What it made is gone when it is left, also what a thread that was left behind goes on to make:
    that finds it closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_closed = False
        self._directory: str | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def directory(self) -> str:
        """A new one, whose path is short enough for ``socket_path``.

        Raises:
            StartupError: none can be made.
        """
        with self._lock:
            if self._is_closed:
                raise StartupError("the time is over")
            if self._directory is None:
                self._directory = _new_directory()
                self._keeper = _start_keeper(self._directory)
            return self._directory

    @property
    def socket_path(self) -> str:
        """For a daemon."""
        return os.path.join(self.directory(), _SOCKET)

    def start(self, arguments: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> str:
        """``python -m vastar_runtime ARGUMENTS --ready-fd N``, until it says its line, which is returned.

        Raises:
            EndedAtOnce: as its name says, with the last line that it wrote.
            StartupError: it cannot be started, or said nothing in time.
        """
        name = arguments[0]
        log_path = os.path.join(self.directory(), f"{name}.log")
        try:
            pipe = self._launch(arguments, environ, log_path)
        except OSError as error:
            where = "" if error.filename is None else f"{shown_path(os.fsdecode(error.filename))}: "
            raise StartupError(f"cannot start a {name}: {where}{error.strerror or error}") from error
        with pipe:
            line = read_line(pipe.fileno(), timeout_s)
        if line is None:
            raise StartupError(f"a {name} that was started was not ready within {timeout_s:g} s")
        if not line:
            said = " ".join(tail(log_path, 1)) or "it wrote nothing"
            raise EndedAtOnce(f"a {name} that was started ended at once: {said}")
        return line

    def close(self) -> None:
        """End what runs, and remove what there is."""
        with self._lock:
            self._is_closed = True
            for process in self._processes:
                process.terminate()
            for process in self._processes:
                end(process, _END_TIMEOUT_S)
            if self._directory is not None:
                directory = self._directory
                with contextlib.suppress(TookTooLong):  # its disk hangs
                    within(_END_TIMEOUT_S, lambda: shutil.rmtree(directory, ignore_errors=True))
            if self._keeper is not None:
                assert self._keeper.stdin is not None
                with contextlib.suppress(OSError):
                    self._keeper.stdin.close()  # there is nothing left for it to do
                with contextlib.suppress(subprocess.TimeoutExpired):  # it is killed next
                    self._keeper.wait(_END_TIMEOUT_S)
                self._keeper.kill()
                self._keeper.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _launch(self, arguments: Sequence[str], environ: Mapping[str, str], log_path: str) -> FileIO:
        # Under the lock, so that whoever closes waits for what is being started, and ends it, too.
        with self._lock, _private_umask(), open(log_path, "ab") as log:
            if self._is_closed:
                raise StartupError("the time is over")
            process, pipe = launch(arguments, log.fileno(), environ=environ, detached=False)
            self._processes.append(process)
            if self._keeper is not None and self._keeper.stdin is not None:
                with contextlib.suppress(OSError):  # somebody has ended it; this program ends its processes itself
                    self._keeper.stdin.write(b"%d\n" % process.pid)
                    self._keeper.stdin.flush()
            return pipe


def _start_keeper(directory: str) -> subprocess.Popen[bytes] | None:
    """Nothing is left behind of a program that is killed, either; None: that cannot be."""
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-I", "-S", keeper.__file__, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what ends all of this program's group is to leave it alone
        )
    except OSError:
        return None


@contextlib.contextmanager
def _private_umask() -> Iterator[None]:
    """What is made, and what children make, is this user's alone, and the user can use it: the umask that was inherited
    may take that away, also from whoever is to remove it."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _new_directory() -> str:
    for parent in (None, _SHORT):
        try:
            with _private_umask():
                directory = tempfile.mkdtemp(prefix="vastar-doctor-", dir=parent)
        except OSError as error:
            raise StartupError(f"no temporary directory can be made: {error.strerror or error}") from error
        if len(os.fsencode(os.path.join(directory, _SOCKET))) <= MAX_SOCKET_PATH_BYTES:
            return directory
        os.rmdir(directory)
    raise StartupError("the path of temporary directories is too long for a socket")
