"""Finding the daemon's process and ending it, without a pid file and without a name pattern.

The pid comes from the kernel (the socket's peer, or the holder of its lock). A pid may be reused between two looks,
so a process is held by its pidfd first, then recognised by its title, and only then signalled, through the pidfd.
"""

import os
import select
import signal
from types import TracebackType
from typing import Self

from vastar_runtime.config.permissions import user_name
from vastar_runtime.config.quoting import written
from vastar_runtime.errors import StartupError

NAME = "vastar-connector-runtime"


def title(socket_path: str) -> str:
    """The process title of the daemon on a socket; ``pgrep -f vastar-connector-runtime`` finds it."""
    return written(f"{NAME} --socket {socket_path}")


def describe(pid: int) -> str:
    """What ``/proc`` shows as the command line of a process, in one line; empty when there is none to see."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:  # it has ended, or the system hides other users' processes
        return ""


def is_runtime(pid: int) -> bool:
    """Whether a process calls itself a runtime: ours, or the existing one."""
    words = describe(pid).split()
    return bool(words) and os.path.basename(words[0]) == NAME


def owner(pid: int) -> int | None:
    """The uid of a process; None: it has ended, or cannot be seen."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def is_listened_on(socket_path: str) -> bool | None:
    """Whether a process listens that has bound a socket to this path, by this very name; None: this system does not
    tell."""
    path = os.fsencode(socket_path)
    try:
        with open("/proc/net/unix", "rb") as file:
            # "Num: RefCount Protocol Flags Type St Inode Path"; this flag is that of a socket that listens.
            return any(
                fields[3] == b"00010000" and fields[7] == path
                for line in file
                if len(fields := line.removesuffix(b"\n").split(None, 7)) == 8
            )
    except OSError:
        return None


def is_apart(pid: int, kind: str) -> bool | None:
    """Whether a process has another namespace of this kind ("pid", "net") than this one; None: that is not shown."""
    try:
        its, own = os.stat(f"/proc/{pid}/ns/{kind}"), os.stat(f"/proc/self/ns/{kind}")
    except OSError:
        return None
    return (its.st_dev, its.st_ino) != (own.st_dev, own.st_ino)


def of_this_user(socket_path: str) -> int | None:
    """The pid of the daemon of this user that has the title of the one on this path, and sees the same files as this
    process; None when none is seen."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and describe(int(name)) == title(socket_path):
            pid = int(name)
            if owner(pid) == os.geteuid() and is_apart(pid, "mnt") is False:
                return pid
    return None


def lock_holder(socket_path: str) -> int | None:
    """The pid of the daemon that holds ``SOCKET.lock``, accepting connections or not; None when none is seen.

    Asks ``/proc/locks`` (proc_locks(5)) instead of trying the lock, which would get in the way of a daemon that starts.
    """
    try:
        inode = os.stat(f"{socket_path}.lock").st_ino
        with open("/proc/locks", encoding="ascii") as file:
            lines = file.readlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        # "1: FLOCK ADVISORY WRITE 4711 08:01:131 0 EOF". The device is that of the file system below an overlay and
        # cannot be compared with st_dev; the title makes up for it.
        if len(fields) == 8 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            pid = int(fields[4])
            if pid > 0 and describe(pid) == title(socket_path):
                return pid
    return None


def not_permitted(pid: int, uid: int | None) -> str:
    """Why this user cannot end a process of another one, and who can."""
    whose = "another user" if uid is None else user_name(uid)
    return (
        f"PID {pid} belongs to {whose}: not permitted to stop it; run this as {whose if uid is not None else 'root'}, "
        "or choose another path with --socket"
    )


class Process:
    """A runtime's process, held by its pidfd; a context manager."""

    def __init__(self, pid: int) -> None:
        """Take hold of it.

        Args:
            pid: as the kernel told it.

        Raises:
            ProcessLookupError: it has ended.
            StartupError: it is no vastar-connector-runtime, or this system has no pidfd.
        """
        if not hasattr(os, "pidfd_open"):
            raise StartupError("this command needs Linux 5.3 or later; end the daemon with Ctrl-C or its supervisor")
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        if not is_runtime(pid):
            words = describe(pid).split()
            ended = self.wait(0)
            self.close()
            if ended:
                raise ProcessLookupError(pid)
            raise StartupError(f"PID {pid} ({' '.join(words)[:80] or 'unknown'}) is no {NAME}: left alone")

    def send(self, signal_number: signal.Signals) -> None:
        """Signal it; nothing happens when it has ended.

        Raises:
            StartupError: it belongs to another user.
        """
        try:
            signal.pidfd_send_signal(self._fd, signal_number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise StartupError(not_permitted(self.pid, owner(self.pid))) from error

    def wait(self, timeout_s: float) -> bool:
        """True when it has ended, at the latest after ``timeout_s`` seconds."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
