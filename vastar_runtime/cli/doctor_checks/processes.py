"""Looks at processes in /proc (proc(5)), for a person's eyes."""

from __future__ import annotations

import os
import stat

import msgspec

from vastar_runtime.cli.process import is_apart

_MAX_BYTES = 65536
DELETED = " (deleted)"


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How a daemon was started, as far as it can be seen: this says how it can be started again.

    Attributes:
        unit: the systemd unit that it belongs to, and this process does not; None: it belongs to none.
        is_contained: it lives in a container, and this process does not.
        is_detached: it has a session to itself, as ``start`` makes one.
        log: the file that its standard error goes to; ends with DELETED if it is gone; None: it goes elsewhere.
    """

    unit: str | None = None
    is_contained: bool = False
    is_detached: bool = False
    log: str | None = None


def manner_of(pid: int) -> Manner | None:
    """None: the system does not show it."""
    if not _fields(pid):
        return None
    unit = unit_of(_read(f"/proc/{pid}/cgroup"))
    own_unit = unit_of(_read("/proc/self/cgroup"))
    return Manner(
        unit=None if unit == own_unit else unit,
        is_contained=is_apart(pid, "pid") is not False,
        is_detached=_fields(pid)[3:4] == [str(pid)],
        log=log_of(pid),
    )


def log_of(pid: int) -> str | None:
    """Where a process's standard error goes, if that is a file and can be seen."""
    try:
        path = os.readlink(f"/proc/{pid}/fd/2")
        mode = os.stat(f"/proc/{pid}/fd/2").st_mode
    except OSError:
        return None
    return path if stat.S_ISREG(mode) else None


def unit_of(cgroup: str) -> str | None:
    """The service of systemd in the text of ``/proc/PID/cgroup``; None: it names none."""
    for line in cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers in ("", "name=systemd"):
            for name in reversed(path.split("/")):
                if name.endswith(".service") and not name.startswith("user@"):
                    return name
    return None


def groups_of_process(pid: int) -> set[int] | None:
    """The numbers of the groups that a process has, whatever the user database says; None: that is not shown."""
    found: set[int] = set()
    for line in _read(f"/proc/{pid}/status").splitlines():
        name, _, values = line.partition(":")
        if name == "Gid":
            found |= {int(gid) for gid in values.split()[1:2]}  # the effective one
        elif name == "Groups":
            return found | {int(gid) for gid in values.split()}
    return None


def process_state(pid: int) -> str:
    """R, S, D, T, Z; "" when it cannot be told."""
    return "".join(_fields(pid)[:1])


def is_of_user(pid: int, uid: int | None) -> bool:
    """Whether a process is this user's, now. A number that the kernel told may have got another owner since."""
    try:
        return os.stat(f"/proc/{pid}").st_uid == uid
    except OSError:
        return False


def _fields(pid: int) -> list[str]:
    """Of ``/proc/PID/stat``, from the state on; the name before it may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    """ "" when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_BYTES)
    except OSError:
        return ""
