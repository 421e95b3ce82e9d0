"""``vastar-runtime clean``."""

import fcntl
import os
import signal
import stat

import click
from click.core import ParameterSource

from vastar_runtime import config
from vastar_runtime.errors import StartupError

from .options import log_option, socket_option
from .probe import Found, State, obstacle, probe, remedy
from .process import Process
from .socket_file import ANOTHER_PATH, no_socket

TERM_TIMEOUT_S = 5.0
KILL_TIMEOUT_S = 5.0


@click.command(
    short_help="End a runtime that hangs; remove its socket and log.",
    epilog="Example: vastar-runtime clean --socket /run/app/vastar.sock --log-file /var/log/vastar.log",
)
@socket_option
@log_option
def clean(socket_path: str | None, log_path: str) -> None:
    """End the runtime on the socket, by force after 5 s, and remove its socket and log.

    Requests in flight that take longer are lost. The default log is removed only with the default socket; another log,
    where it is named.
    """
    path = config.load_socket_path(socket_path=socket_path)
    # A runtime that hangs is found too: the pid comes from the kernel and needs no answer.
    found = probe(path, timeout_s=1.0)
    if found.state is State.FORBIDDEN and _let_owner_in(path, stat.S_IFSOCK):
        found = probe(path, timeout_s=1.0)
    done = [_end(found), _remove_socket(path), _remove_lock(f"{path}.lock")]
    is_log_named = click.get_current_context().get_parameter_source("log_path") is not ParameterSource.DEFAULT
    # The default log may be that of a daemon on another socket.
    is_log_its = is_log_named or path == config.DEFAULT_SOCKET_PATH
    if is_log_its:
        done.append(_remove_log(log_path))
    if not any(done):
        click.echo(f"Nothing to clean up: no runtime on {path}, no socket{', no log' if is_log_its else ''}")


def _end(found: Found) -> bool:
    if found.state is State.NOT_RUNNING:
        return False
    if found.state is State.FORBIDDEN:
        raise StartupError(f"{obstacle(found)}: left alone{remedy(found)}")
    if found.pid is None:
        raise StartupError(f"the process that listens on {found.socket_path} cannot be seen from here; end it there")
    try:
        with Process(found.pid) as process:
            process.send(signal.SIGTERM)
            if process.wait(TERM_TIMEOUT_S):
                click.echo(f"Stopped the runtime (PID {found.pid})")
                return True
            process.send(signal.SIGKILL)
            if not process.wait(KILL_TIMEOUT_S):
                raise StartupError(f"PID {found.pid} does not end, not even by SIGKILL; its log or dmesg may say why")
            click.echo(f"Killed the runtime (PID {found.pid}): it did not stop within {TERM_TIMEOUT_S:g} s")
            return True
    except ProcessLookupError:  # it ended between the two looks
        return False


def _remove_socket(path: str) -> bool:
    kind = _kind(path)
    if kind is None:
        return False
    if kind != stat.S_IFSOCK:
        what = no_socket(path) or "no socket"  # a link to one
        raise StartupError(f"{path} is {what}: left alone; see what it is, and remove it, or {ANOTHER_PATH}")
    if probe(path, timeout_s=1.0).state is not State.NOT_RUNNING:
        raise StartupError(f"another runtime has just started on {path}: left alone")
    return _remove("socket", path)


def _remove_lock(path: str) -> bool:
    if _kind(path) != stat.S_IFREG:
        return False
    _let_owner_in(path, stat.S_IFREG)
    try:
        with open(path, "rb") as file:
            # A daemon that starts at this moment holds it; without its file, a second one could start beside it.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _remove("lock", path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StartupError(f"cannot remove the lock {path}: {error.strerror}") from error


def _let_owner_in(path: str, kind: int) -> bool:
    """Give this user's own file, which is to be removed, a mode with which it can be used until then; whether that has
    changed."""
    try:
        status = os.lstat(path)
        if stat.S_IFMT(status.st_mode) != kind or status.st_uid != os.geteuid() or status.st_mode & 0o600 == 0o600:
            return False
        os.chmod(path, stat.S_IMODE(status.st_mode) | 0o600)
    except OSError:  # what it is then used for says why that cannot be
        return False
    return True


def _remove_log(path: str) -> bool:
    kind = _kind(path)
    if kind is None:
        return False
    if kind != stat.S_IFREG:
        click.echo(f"Left {path} alone: it is no regular file")
        return True
    return _remove("log", path)


def _remove(what: str, path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StartupError(f"cannot remove the {what} {path}: {error.strerror}") from error
    click.echo(f"Removed the {what} {path}")
    return True


def _kind(path: str) -> int | None:
    """The file's type, of a link itself; None when there is none."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StartupError(f"cannot look at {path}: {error.strerror}") from error
