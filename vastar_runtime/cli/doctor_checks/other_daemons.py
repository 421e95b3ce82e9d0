"""Daemons on other sockets than the one that clients with these variables use."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vastar_runtime.cli.probe import State
from vastar_runtime.cli.process import NAME, describe
from vastar_runtime.config.quoting import shown_path

from .circumstances import Circumstances
from .finding import Finding, listed, ok, warning

_TITLE = f"{NAME} --socket "
_WORKER = re.compile(r" \(worker [0-9]+\)\Z")
# Those of demo and doctor are gone in a moment.
_PASSING = ("vastar-demo-", "vastar-doctor-")
_MOST_PROCESSES = 100_000


class Daemon(NamedTuple):
    """One that runs, as its process title tells."""

    pid: int
    socket: str


def check_other_daemons(seen: Circumstances) -> Iterator[Finding]:
    """Where one runs elsewhere, and none here, somebody's VASTAR_SOCKET_PATH is another."""
    others = [daemon for daemon in running(os.listdir("/proc")) if daemon.socket != seen.socket]
    yield from other_daemons(seen, others)


def running(names: Iterable[str]) -> Iterator[Daemon]:
    """Those that can be seen, one for each socket; the workers of a daemon have its title.

    Args:
        names: of processes, as ``/proc`` has them; others are passed over.
    """
    seen: set[str] = set()
    for name in list(names)[:_MOST_PROCESSES]:
        words = describe(int(name)) if name.isascii() and name.isdigit() else ""
        socket_path = _WORKER.sub("", words.removeprefix(_TITLE))
        is_passing = os.path.basename(os.path.dirname(socket_path)).startswith(_PASSING)
        if words.startswith(_TITLE) and socket_path not in seen and not is_passing:
            seen.add(socket_path)
            yield Daemon(int(name), socket_path)


def other_daemons(seen: Circumstances, others: list[Daemon]) -> Iterator[Finding]:
    """
    Args:
        others: on other sockets.
    """
    if not others:
        return
    where = listed(f"PID {daemon.pid} on {shown_path(daemon.socket)}" for daemon in others)
    if seen.state is not State.NOT_RUNNING:
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
