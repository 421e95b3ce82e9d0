"""Daemons on other sockets than the one that clients with these variables use."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vastar_runtime.cli.probe import State, probe
from vastar_runtime.cli.process import describe, title
from vastar_runtime.config.permissions import user_name
from vastar_runtime.config.quoting import shown_path
from vastar_runtime.errors import StartupError

from .circumstances import Circumstances
from .finding import Finding, listed, ok, warning

_TITLE = title("")
_WORKER = re.compile(r" \(worker [0-9]+\)\Z")
# Those of demo and doctor are gone in a moment.
_PASSING = ("vastar-demo-", "vastar-doctor-")
_MOST_PROCESSES = 100_000
_MOST_ASKED = 8
_ANSWER_TIMEOUT_S = 0.5


class Daemon(NamedTuple):
    """One that answers. ``uid``: whose it is."""

    pid: int
    socket: str
    uid: int


def check_other_daemons(seen: Circumstances) -> Iterator[Finding]:
    """Where one runs elsewhere, and none here, somebody's VASTAR_SOCKET_PATH is another."""
    yield from other_daemons(seen, list(running(os.listdir("/proc"), seen.socket)))


def running(names: Iterable[str], besides: str | None = None) -> Iterator[Daemon]:
    """Those of this user and root, one for each socket. Anybody can give a process this title: it only says where to
    ask, and the kernel tells who answers.

    Args:
        names: of processes, as ``/proc`` has them; others are passed over.
        besides: a socket that is not asked.
    """
    mine = {0, os.geteuid()}
    asked = {besides}
    count = 0
    for name in list(names)[:_MOST_PROCESSES]:
        words = describe(int(name)) if name.isascii() and name.isdigit() else ""
        path = words.removeprefix(_TITLE)
        if not words.startswith(_TITLE) or path in asked or _WORKER.search(path) or not os.path.isabs(path):
            continue
        if os.path.basename(os.path.dirname(path)).startswith(_PASSING):
            continue
        try:
            if os.stat(f"/proc/{name}").st_uid not in mine or count == _MOST_ASKED:
                continue
            asked.add(path)
            count += 1
            found = probe(path, _ANSWER_TIMEOUT_S)
        except (OSError, ValueError, StartupError):  # it has ended, or no socket can have this path
            continue
        if found.state is State.RUNNING and found.pid == int(name) and found.uid in mine:
            yield Daemon(found.pid, path, found.uid)


def other_daemons(seen: Circumstances, others: list[Daemon]) -> Iterator[Finding]:
    """
    Args:
        others: on other sockets.
    """
    if not others:
        return
    where = listed(f"PID {daemon.pid} of {user_name(daemon.uid)} on {shown_path(daemon.socket)}" for daemon in others)
    if seen.state is not State.NOT_RUNNING or seen.is_on_tcp_only:
        yield ok("other daemons", where)
        return
    path = others[0].socket
    command = f"export VASTAR_SOCKET_PATH={shlex.quote(path)}"
    if seen.socket_path is not None:
        command = f"vastar-runtime doctor --socket {shlex.quote(path)}"
    yield warning(
        "other daemons",
        f"none runs on {shown_path(seen.socket or '')}, where clients look that have these variables; one does "
        f"elsewhere: {where}",
        "if that is the one that is meant, name its socket",
        command,
    )
