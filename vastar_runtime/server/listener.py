"""The sockets that clients connect to: a Unix socket that has its mode before anyone can use it, and TCP."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import socket
import stat
from collections.abc import Iterator

import trio

from vastar_runtime.config.groups import group_id
from vastar_runtime.config.quoting import quoted, shown_address
from vastar_runtime.errors import StartupError

BACKLOG = 1024
PROBE_TIMEOUT_S = 2.0
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextlib.contextmanager
def unix_listener(path: str, mode: int, group: str | None) -> Iterator[trio.SocketListener]:
    """Listen on a Unix socket while the context lasts; then the file is removed, if it is still ours.

    A lock beside the socket decides between daemons that start at the same time; a connection attempt decides
    whether a daemon without that lock (the existing runtime) is alive there.

    Args:
        mode: permission bits.
        group: name or number of the owning group; None leaves the process's own.

    Raises:
        StartupError: a live daemon, no permission, a missing directory, a file that is no socket, an unknown group.
    """
    gid = _group_id(group)
    with _lock(path):
        _clear_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.closing(listening):
            _bind(listening, path, mode, gid)
            identity = _identity(path)
            try:
                listening.listen(BACKLOG)  # until here, whoever connects is refused
                listening.setblocking(False)
                yield trio.SocketListener(trio.socket.from_stdlib_socket(listening))
            finally:
                # In this order: a daemon that listens where no file is any more has lost it, and does not end.
                listening.close()
                if _identity(path) == identity:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)


async def tcp_listener(host: str, port: int) -> trio.SocketListener:
    """Listen on TCP.

    Args:
        host: an IP address of this machine.

    Raises:
        StartupError: the port is taken or not allowed, or the address is none of this machine.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        advice = "listen.tcp_host" if error.errno == errno.EADDRNOTAVAIL else "VASTAR_TCP_PORT"
        place = shown_address(host, port)
        raise StartupError(f"cannot listen on {place}: {reason}; choose another {advice}") from error
    return listeners[0]


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    lock_path = f"{path}.lock"
    while True:
        try:
            fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _cannot(lock_path if os.path.lexists(lock_path) else path, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            if error.errno != errno.EWOULDBLOCK:
                raise _cannot(lock_path, error) from error
            who = f"another daemon (PID {holder or 'unknown'})"
            stop = f"vastar-runtime stop --socket {shlex.quote(path)}"
            if _accepts_connections(path):
                raise StartupError(f"{who} is alive on {path}; stop it first: {stop}") from error
            raise StartupError(
                f"{who} on {path} is starting or shutting down, or somebody has removed its socket; "
                f"wait for its end: {stop}"
            ) from error
        # The holder before us may have removed the file between our open and our lock; then it protects nothing.
        if _identity(lock_path) == (os.fstat(fd).st_dev, os.fstat(fd).st_ino):
            break
        os.close(fd)
    try:
        try:
            os.ftruncate(fd, 0)
            os.write(fd, b"%d\n" % os.getpid())
        except OSError as error:
            raise _cannot(lock_path, error) from error
        yield
    finally:
        # Removed under us, it may be another daemon's by now.
        if _identity(lock_path) == (os.fstat(fd).st_dev, os.fstat(fd).st_ino):
            with contextlib.suppress(OSError):  # the directory may be gone; the lock ends with the descriptor anyway
                os.unlink(lock_path)
        os.close(fd)


def _clear_stale(path: str) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot(path, error) from error
    if not stat.S_ISSOCK(status.st_mode):
        raise StartupError(f"{path} exists and is no socket; remove it, or choose another VASTAR_SOCKET_PATH")
    if _accepts_connections(path):
        raise StartupError(f"another daemon is alive on {path}; stop it first: vastar-runtime stop")
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _cannot(path, error) from error


def _accepts_connections(path: str) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (TimeoutError, BlockingIOError) as error:
            raise StartupError(f"another daemon holds {path} and does not answer; stop it first") from error
        except OSError as error:
            raise _cannot(path, error) from error
    return True


def _bind(listening: socket.socket, path: str, mode: int, gid: int | None) -> None:
    # The file is born without any permission that its group or others must not have for a moment.
    before = os.umask(0o177)
    try:
        listening.bind(path)
    except OSError as error:
        raise _cannot(path, error) from error
    finally:
        os.umask(before)
    try:
        if gid is not None:
            os.chown(path, -1, gid, follow_symlinks=False)
        os.chmod(path, mode)
    except OSError as error:
        os.unlink(path)
        advice = ""
        if gid is not None and isinstance(error, PermissionError):
            advice = "; the daemon's user must be in that group (SupplementaryGroups= in a unit)"
        raise StartupError(f"cannot give {path} its group or mode: {error.strerror}{advice}") from error


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _group_id(group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return group_id(group)
    except (LookupError, ValueError) as error:
        raise StartupError(f"listen.socket_group: there is no group {quoted(group)} on this machine") from error


def _cannot(path: str, error: OSError) -> StartupError:
    owner = ""
    if isinstance(error, PermissionError):
        with contextlib.suppress(OSError):
            owner = f" (it belongs to uid {os.lstat(path).st_uid})"
    first = "" if owner else "make room, or " if error.errno in _NO_ROOM else "check the directory, or "
    return StartupError(f"cannot listen on {path}: {error.strerror}{owner}; {first}choose another VASTAR_SOCKET_PATH")
