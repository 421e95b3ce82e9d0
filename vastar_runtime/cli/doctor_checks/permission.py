"""Whether a user may read a file, and what to do where that is not so."""

from __future__ import annotations

import os
from typing import NamedTuple

from vastar_runtime.config.permissions import has_list, may_change, obstacle, user_name
from vastar_runtime.config.quoting import shown_path

from .circumstances import Circumstances
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
        if who[:2] == myself()[:2]:
            found = obstacle(path, os.R_OK)
        elif who.groups is None:
            return None
        else:
            found = obstacle(path, os.R_OK, who.uid, who.groups)
            if found is not None and has_list(found.path):
                return None
    except OSError:
        return None
    if found is None:
        return None
    name, verb = user_name(who.uid), "read"
    if found.is_directory:
        advice, verb = f"let {name} search that directory (chmod, setfacl); or name a file elsewhere", "reached"
    line = f"{shown_path(path)} may not be {verb} by {name}: {found.what}"
    if not may_change(found.status):
        return Closed(line, f"its owner, or root, can {advice}", None)
    command = found.command(who.uid)
    return Closed(line, advice if command is None else "", command)
