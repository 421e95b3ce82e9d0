"""Starts this program as a child that tells when it is ready."""

import os
import selectors
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import FileIO
from typing import NamedTuple

from vastar_runtime.config.permissions import kind, user_name
from vastar_runtime.errors import StartupError

# Python's imports on a cold disk of a loaded machine take seconds; more than this is a hang.
READY_TIMEOUT_S = 30.0

# Beginnings of names, in lower case.
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_SETTINGS = ("vastar_", "openai_", "state_directory")

_TAIL_BYTES = 8192
_MAX_LINE_BYTES = 65536


class Child(NamedTuple):
    """A child that has said its line.

    Attributes:
        process: it runs.
        line: what it wrote to its ready pipe, without the line end.
    """

    process: subprocess.Popen[bytes]
    line: str


def open_log(path: str) -> int:
    """A file descriptor that appends to a log of our own.

    The default log lies in a directory where everybody may create files: a link there could lead to any file of ours,
    and a FIFO could hold us up.

    Args:
        path: absolute.

    Raises:
        StartupError: the file cannot be opened, is no regular file, or is another user's.
    """
    advice = "choose another with --log-file or VASTAR_LOG_FILE"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    is_new = True
    try:
        try:
            fd = os.open(path, flags | os.O_EXCL, 0o600)
        except FileExistsError:
            is_new = False
            fd = os.open(path, flags, 0o600)
    except OSError as error:
        reason = _not_a_file(path) or error.strerror
        raise StartupError(f"cannot open the log {path}: {reason}; {advice}") from error
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
        if is_new and status.st_mode & 0o600 != 0o600:  # the umask shuts its owner out
            with suppress(OSError):  # not every file system has modes; then it is as it is
                os.fchmod(fd, 0o600)
        return fd
    os.close(fd)
    is_file = stat.S_ISREG(status.st_mode)
    reason = f"it belongs to {user_name(status.st_uid)}" if is_file else f"it is {kind(status.st_mode)}"
    raise StartupError(f"cannot use the log {path}: {reason}; {advice}")


def private_environ(environ: Mapping[str, str], directory: str, *, drop: tuple[str, ...] = ()) -> dict[str, str]:
    """The variables of a child that nobody else is to know of: this machine's settings are for its daemon, and what the
    child uses is not kept with what others use.

    Args:
        environ: of this process.
        directory: absolute; takes the child's state.
        drop: what else to leave out: beginnings of names, in lower case.
    """
    kept = {name: value for name, value in environ.items() if not name.lower().startswith((*_SETTINGS, *drop))}
    return kept | {"VASTAR_CONFIG": os.devnull, "XDG_STATE_HOME": directory}


def launch(
    arguments: Sequence[str], log_fd: int, *, environ: Mapping[str, str], detached: bool
) -> tuple[subprocess.Popen[bytes], FileIO]:
    """Start ``python -m vastar_runtime ARGUMENTS --ready-fd N``; the process, and the pipe that ``read_line`` reads.

    Args:
        arguments: with absolute paths, since the child works in ``/``.
        log_fd: takes the child's standard output and error.
        environ: the child's environment.
        detached: give it a session of its own, so that it outlives the terminal.

    Raises:
        OSError: it cannot be started.
    """
    read_fd, write_fd = os.pipe()
    pipe = FileIO(read_fd)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            # -P: a module that lies in the working directory must not stand in for one of ours.
            [sys.executable, "-P", "-m", "vastar_runtime", *arguments, "--ready-fd", str(write_fd)],
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=[write_fd],
            cwd="/",
            env=_absolute_python_path(environ),
            start_new_session=detached,
        )
    except BaseException:
        pipe.close()
        raise
    finally:
        os.close(write_fd)
    return process, pipe


def spawn(arguments: Sequence[str], log_fd: int, *, environ: Mapping[str, str], detached: bool) -> Child:
    """As ``launch``, and wait for its line.

    Raises:
        StartupError: it cannot be started, ended, or said nothing for READY_TIMEOUT_S; then it was killed.
    """
    try:
        process, pipe = launch(arguments, log_fd, environ=environ, detached=detached)
    except OSError as error:
        raise StartupError(f"cannot run {sys.executable}: {error.strerror}") from error
    with pipe:
        try:
            line = read_line(pipe.fileno(), READY_TIMEOUT_S)
        except BaseException:
            end(process)
            raise
    if line is None:
        end(process)
        raise StartupError(f"it was not ready within {READY_TIMEOUT_S:g} s")
    if not line:
        # The pipe closes a moment before the process can be waited for.
        raise StartupError(f"it ended before it was ready (exit status {process.wait(READY_TIMEOUT_S)})")
    return Child(process, line)


def read_line(fd: int, timeout_s: float) -> str | None:
    """What a child writes until it closes its ready pipe: its one line, or the first 64 KiB of more; None when the time
    is over."""
    deadline = time.monotonic() + timeout_s
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            piece = os.read(fd, 4096)
            if not piece or len(data) > _MAX_LINE_BYTES:
                return data.decode(errors="replace").strip()
            data += piece
    return None


def end(process: subprocess.Popen[bytes], timeout_s: float = 5.0) -> None:
    """SIGTERM, and SIGKILL when it has not ended after ``timeout_s`` seconds."""
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also when Ctrl-C is pressed once more while waiting
        process.kill()
        process.wait()


def tail(path: str, lines: int) -> list[str]:
    """The last lines of a log, as far as they lie in its last 8 KiB; none when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            file.seek(max(0, os.fstat(fd).st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def _not_a_file(path: str) -> str:
    """Why a path cannot be a log, where the system's message would not tell ("too many levels of links")."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return ""
    return "" if stat.S_ISREG(mode) else f"it is {kind(mode)}"


def _absolute_python_path(environ: Mapping[str, str]) -> dict[str, str]:
    """The child works in another directory, where a relative PYTHONPATH would mean another place."""
    entries = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if not entries:
        return dict(environ)
    return {**environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, entries))}
