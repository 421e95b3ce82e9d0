"""Asks the socket who is there."""

import enum
import errno
import os
import shlex
import socket
import struct
import time

import msgspec

from connector_sdk.wire import ExecuteResponse, HealthCheck, HealthCheckResponse, ProtocolError
from vastar_runtime.config import DEFAULT_SOCKET_PATH
from vastar_runtime.config.permissions import user_name
from vastar_runtime.errors import StartupError

from .asking import ask
from .process import is_listened_on, is_runtime, lock_holder, of_this_user, owner
from .socket_file import ANOTHER_PATH, closed, no_socket

# A daemon answers a HealthCheck in well under a millisecond; a loaded machine gets its time.
ANSWER_TIMEOUT_S = 3.0

_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED
_LOST = "it closed the connection without an answer"


class State(enum.Enum):
    """What was found on a socket."""

    NOT_RUNNING = "not_running"
    CLOSED = "closed"  # a daemon holds the socket's lock and accepts no connections: it starts or drains
    CUT_OFF = "cut_off"  # a daemon listens, and somebody has removed the socket's file: nobody reaches it
    FORBIDDEN = "forbidden"
    SILENT = "not_answering"
    LEGACY = "legacy"  # the existing runtime, which answers a HealthCheck as an invalid message
    RUNNING = "running"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``probe``.

    Attributes:
        pid: the process that listens; None when nobody does, or when it cannot be seen from here.
        uid: whose that process is; None when it cannot be told.
        health: its answer, with RUNNING only.
        detail: with SILENT: what happened instead of an answer.
    """

    state: State
    socket_path: str
    pid: int | None = None
    uid: int | None = None
    health: HealthCheckResponse | None = None
    detail: str = ""

    @property
    def is_foreign(self) -> bool:
        """Another program listens there, as far as can be seen from here: neither a daemon nor the existing runtime."""
        return self.state is State.SILENT and self.pid is not None and not is_runtime(self.pid)

    @property
    def owner(self) -> str:
        """Whose process it is: "app (uid 1001)"; "" where it is this user's own, or cannot be told."""
        return "" if self.uid in (None, os.geteuid()) else user_name(self.uid or 0)


def probe(socket_path: str, timeout_s: float = ANSWER_TIMEOUT_S) -> Found:
    """Connect, take the listener's pid from the kernel, and send a HealthCheck.

    Args:
        socket_path: absolute path of the Unix socket.
        timeout_s: seconds for connecting and the answer.

    Raises:
        StartupError: the socket cannot be asked at all, for a reason that ``State`` does not name.
    """
    found = _probe(socket_path, timeout_s)
    if found.detail == _LOST:
        # It took the connection and closed its socket before it came to it: the second look sees it closed.
        found = _probe(socket_path, timeout_s)
    return found


def obstacle(found: Found) -> str:
    """What is on the socket, when it is not a daemon that answers: the middle of a sentence."""
    who = f"PID {found.pid}" if found.pid else "a process that cannot be seen from here"
    if found.owner:
        who += f" of {found.owner}"
    match found.state:
        case State.NOT_RUNNING:
            thing = no_socket(found.socket_path)
            return f"nobody listens on {found.socket_path}{f', which is {thing}' if thing else ''}"
        case State.LEGACY:
            return f"the existing runtime ({who}) answers on {found.socket_path}"
        case State.FORBIDDEN:
            return closed(found.socket_path).what
        case State.CLOSED:
            return f"the daemon on {found.socket_path} ({who}) accepts no connections: it is starting or shutting down"
        case State.CUT_OFF:
            return f"the daemon ({who}) has lost its socket {found.socket_path}, which was removed: nobody can connect"
        case _:
            return f"{who} listens on {found.socket_path} but is no healthy daemon: {found.detail}"


def remedy(found: Found) -> str:
    """What to do about an obstacle that is not to be waited for: the rest of its sentence, or ""."""
    match found.state:
        case State.CUT_OFF:
            whose = f" as {found.owner}" if found.owner else ""
            how = command("restart", found.socket_path)
            return f"; restart it{whose}, with the options that it was started with, --config too: {how}"
        case State.FORBIDDEN:
            return f"; {closed(found.socket_path).way_out}"
        case State.NOT_RUNNING if no_socket(found.socket_path):
            return f"; remove it, or {ANOTHER_PATH}"
        case State.SILENT if not found.is_foreign:
            return f"; see what it is at: {command('doctor', found.socket_path)}"
        case _:
            return ""


def command(name: str, socket_path: str) -> str:
    """A command for whoever is on this socket, as it is typed."""
    option = "" if socket_path == DEFAULT_SOCKET_PATH else f" --socket {shlex.quote(socket_path)}"
    return f"vastar-runtime {name}{option}"


def _probe(socket_path: str, timeout_s: float) -> Found:
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout_s)
        try:
            client.connect(socket_path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return _nobody_accepts(socket_path)
        except PermissionError:
            if no_socket(socket_path):  # who may write it is told so by the system
                return _nobody_accepts(socket_path)
            return Found(state=State.FORBIDDEN, socket_path=socket_path)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise StartupError(f"cannot connect to {socket_path}: {error.strerror or error}") from error
            return Found(
                state=State.SILENT,
                socket_path=socket_path,
                pid=lock_holder(socket_path),
                detail="its queue of new connections is full",
            )
        pid, uid = _peer(client)
        try:
            answer = ask(client, HealthCheck(), deadline)
        except (OSError, ProtocolError) as error:
            detail = str(error)
            if isinstance(error, TimeoutError):
                detail = f"no answer within {timeout_s:g} s"
            elif isinstance(error, ConnectionError):
                detail = _LOST
            return Found(state=State.SILENT, socket_path=socket_path, pid=pid, uid=uid, detail=detail)
    if isinstance(answer, ExecuteResponse):
        return Found(state=State.LEGACY, socket_path=socket_path, pid=pid, uid=uid)
    return Found(state=State.RUNNING, socket_path=socket_path, pid=pid, uid=uid, health=answer)


def _nobody_accepts(socket_path: str) -> Found:
    holder = lock_holder(socket_path)
    # A daemon that drains has closed its socket, and one that starts has made the file before it listens.
    if is_listened_on(socket_path) and not os.path.lexists(socket_path):
        # What removed the socket may have removed the lock beside it. Who listens under this name may do so in another
        # mount namespace, and a title can be anybody's.
        pid = of_this_user(socket_path) if holder is None else holder
        if pid is not None:
            return Found(state=State.CUT_OFF, socket_path=socket_path, pid=pid, uid=owner(pid))
    if holder is None:
        return Found(state=State.NOT_RUNNING, socket_path=socket_path)
    return Found(state=State.CLOSED, socket_path=socket_path, pid=holder)


def _peer(client: socket.socket) -> tuple[int | None, int | None]:
    """PID and uid of who listens."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None, None
    pid, uid, _ = _UCRED.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(pid) or None, int(uid)  # PID 0: it lives in a pid namespace that cannot be seen from ours
