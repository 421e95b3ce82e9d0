"""Whether a user may read a file, and what to do where that is not so."""

from __future__ import annotations

import os
import shlex
import stat
from typing import NamedTuple

from vastar_runtime.config.quoting import shown_path

from .circumstances import Circumstances
from .files import closed_directory, has_list, may, may_change, user_name
from .processes import groups_of_process


class Reader(NamedTuple):
    """Who is to read.

    Attributes:
        uid: of its process.
        groups: that its process has; None: they are not shown.
        is_daemon: one that runs; else whoever asks, who may start one.
    """

    uid: int
    groups: set[int] | None
    is_daemon: bool = False


class Closed(NamedTuple):
    """A file that may not be read.

    Attributes:
        found: one line, which begins with the file's path.
        advice: "" where the command says all.
        command: None: this user can type nothing that lets the reader in.
    """

    found: str
    advice: str
    command: str | None


def myself() -> Reader:
    """Whoever asks."""
    return Reader(os.geteuid(), {os.getegid(), *os.getgroups()})


def reader(seen: Circumstances) -> Reader:
    """The daemon that runs, or whoever would start one."""
    if not seen.is_running or seen.found is None or seen.found.uid is None:
        return myself()
    return Reader(seen.found.uid, None if seen.pid is None else groups_of_process(seen.pid), is_daemon=True)


def closed(path: str, who: Reader, advice: str) -> Closed | None:
    """None: it may be read, is not there, or that cannot be told.

    Args:
        advice: how somebody else's file can be opened to the reader.
    """
    try:
        status = os.stat(path)
    except PermissionError:
        return closed_by_directory(path, who)
    except OSError:
        return None
    if (who.uid, who.groups) == myself()[:2]:  # the kernel knows more of this process than modes say
        return None if os.access(path, os.R_OK) else closed_by_mode(path, status, who, advice)
    if who.groups is None:
        return None
    try:
        directory = closed_directory(os.path.realpath(path), who.uid, who.groups)
    except OSError:
        return None
    if directory is not None:
        return None if has_list(directory) else closed_by_directory(path, who)
    if may(status, who.uid, who.groups, 4) or has_list(path):
        return None
    return closed_by_mode(path, status, who, advice)


def closed_by_mode(path: str, status: os.stat_result, who: Reader, advice: str) -> Closed:
    """The file itself lets the reader not read.

    Args:
        advice: as for ``closed``.
    """
    found = f"{shown_path(path)} ({_whose(status)}) may not be read by {user_name(who.uid)}"
    return Closed(found, *_way("u+r", path, status, who, advice))


def closed_by_directory(path: str, who: Reader) -> Closed:
    """The reader does not come as far as the file."""
    found = f"{shown_path(path)} may not be reached by {user_name(who.uid)}"
    try:
        directory = closed_directory(os.path.realpath(path), who.uid, who.groups or set())
        status = None if directory is None else os.stat(directory)
    except OSError:
        directory = status = None
    if directory is None or status is None:
        return Closed(f"{found}: a directory on the way is closed", "name a file in a directory that is open", None)
    advice = f"let {user_name(who.uid)} search that directory (chmod, setfacl); or name a file elsewhere"
    return Closed(
        f"{found}: the directory {shown_path(directory)} ({_whose(status)}) is closed to it",
        *_way("u+x", directory, status, who, advice),
    )


def _way(change: str, path: str, status: os.stat_result, who: Reader, advice: str) -> tuple[str, str | None]:
    """Advice and a command."""
    if not may_change(status):
        return f"its owner, or root, can {advice}", None
    return ("", f"chmod {change} {shlex.quote(path)}") if status.st_uid == who.uid else (advice, None)


def _whose(status: os.stat_result) -> str:
    return f"of {user_name(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}"
