"""Opens the socket to the daemon, and says what it means when that fails."""

from __future__ import annotations

import os
import shlex
import socket
import stat
import struct

from .config import RuntimeConfig
from .errors import ConnectorException
from .wire import ErrorClass


def open_socket(config: RuntimeConfig, timeout_s: float) -> socket.socket:
    """A connected socket.

    Raises:
        ConnectorException: TRANSIENT when no daemon is there, TIMEOUT when it accepts nobody, PERMANENT when it
            may not be reached.
    """
    try:
        return _connect_tcp(config, timeout_s) if config.use_tcp else _connect_unix(config, timeout_s)
    except PermissionError as error:
        if (uid := _owner_of_no_socket(config)) is not None:
            raise _no_socket(config, uid) from error
        raise ConnectorException(_denied(config), ErrorClass.PERMANENT) from error
    except (TimeoutError, BlockingIOError) as error:
        raise ConnectorException(
            f"the daemon at {config.endpoint} accepted no connection within {timeout_s:g} s; "
            "see whether it is stuck: `vastar-runtime status`",
            ErrorClass.TIMEOUT,
        ) from error
    except OSError as error:
        if (uid := _owner_of_no_socket(config)) is not None:
            raise _no_socket(config, uid) from error
        hint = ""
        if config.use_tcp:
            # A daemon that runs already may be without TCP; then only a restart gives it that.
            hint = "; if it runs without TCP: `VASTAR_USE_TCP=true vastar-runtime restart`"
        elif isinstance(error, ConnectionRefusedError):  # its socket is there, and it listens no more
            hint = "; if it is shutting down, wait until it has ended"
        raise ConnectorException(
            f"no daemon answers at {config.endpoint} ({error.strerror or error}); "
            f"start it with `vastar-runtime start`{hint}",
            ErrorClass.TRANSIENT,
        ) from error


def _connect_unix(config: RuntimeConfig, timeout_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Not settimeout(): it makes the socket non-blocking, and a non-blocking connect to a Unix socket whose
        # queue is full fails at once with EAGAIN, where a blocking one waits its turn.
        seconds, fraction = divmod(timeout_s, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), int(fraction * 1e6)))
        sock.connect(config.socket_path)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect_tcp(config: RuntimeConfig, timeout_s: float) -> socket.socket:
    sock = socket.create_connection((config.tcp_host, config.tcp_port), timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _owner_of_no_socket(config: RuntimeConfig) -> int | None:
    """Whose it is, if something else than a socket lies at the path. Who may write it is refused, who may not is
    forbidden: the system's error does not tell."""
    if config.use_tcp:
        return None
    try:
        status = os.stat(config.socket_path)
    except OSError:
        return None
    return None if stat.S_ISSOCK(status.st_mode) else status.st_uid


def _no_socket(config: RuntimeConfig, uid: int) -> ConnectorException:
    return ConnectorException(
        f"no daemon answers at {config.endpoint} (what lies there is no socket, and its owner has uid {uid}); remove "
        "it, or choose another path (VASTAR_SOCKET_PATH), for the daemon as well",
        ErrorClass.TRANSIENT,
    )


def _denied(config: RuntimeConfig) -> str:
    if config.use_tcp:
        return f"the system does not permit a connection to {config.endpoint}"
    try:
        status = os.stat(config.socket_path)
    except OSError as error:
        return f"no permission to reach {config.endpoint}: {error.strerror}; see the modes of its directories"
    told = f"no permission to use {config.endpoint}: its mode is {stat.S_IMODE(status.st_mode):04o} and its owner "
    if status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWUSR:
        return f"{told}is this user, whom that keeps out: chmod u+rw {shlex.quote(config.socket_path)}"
    advice = "start the daemon with another --socket-mode or --socket-group"
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (os.getegid(), *os.getgroups()):
        advice = f"its group is {_group(status.st_gid)}: put this user into it, and log in again"
    return f"{told}has uid {status.st_uid}; {advice}, or run as its owner"


def _group(gid: int) -> str:
    import grp  # there are systems without it

    try:
        return f"{grp.getgrgid(gid).gr_name} (gid {gid})"
    except KeyError:
        return f"gid {gid}"
