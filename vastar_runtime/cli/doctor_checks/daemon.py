"""The daemon: its version, its workers, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from vastar_runtime import __version__
from vastar_runtime.cli.printing import counted
from vastar_runtime.cli.probe import State as OnSocket
from vastar_runtime.cli.refusals import refusals

from .circumstances import Circumstances
from .files import user_name
from .finding import Finding, listed, not_checked, ok, problem, warning
from .processes import process_state
from .restarting import restart, start

_MOST_TOLD = 10
_MEANWHILE = {
    "open": "nothing of that is limited meanwhile",
    "closed": "what has such a limit is refused meanwhile",
    "local": "each daemon counts for itself meanwhile",
}


def check_daemon(seen: Circumstances) -> Iterator[Finding]:
    """Whether one runs, which one, and whether it is the version that is installed."""
    found = seen.found
    if seen.is_on_tcp_only and seen.tcp is not None and seen.tcp.health is not None:
        health, where = seen.tcp.health, f"at {seen.tcp.address}"
    elif found is None or (found.state is not OnSocket.NOT_RUNNING and found.health is None):
        yield not_checked("daemon", "see the socket")
        return
    elif found.health is None:
        yield _none(seen)
        return
    else:
        health, where = found.health, f"PID {'not visible from here' if found.pid is None else found.pid}"
    uptime = timedelta(seconds=health.uptime_ms // 1000)
    in_flight = counted(health.active_requests, "request")
    what = f"{where}, version {health.version or 'not told'}, up for {uptime}, {in_flight} in flight"
    if health.draining:
        yield warning(
            "daemon",
            f"{what}: it shuts down, and takes no new request",
            "wait until it has ended; this tells",
            seen.command("status"),
        )
    elif not health.healthy:
        advice, command = restart(seen)
        yield problem("daemon", f"{what}: it says that it is not well", advice or "its log says why", command)
    elif health.version != __version__ and seen.apart:
        yield ok("daemon", f"{what}; installed here is {__version__}")
    elif health.version != __version__:
        yield warning(
            "daemon",
            f"{what}; installed is {__version__}: what was installed since it was started does not run yet",
            *restart(seen),
        )
    else:
        yield ok("daemon", what)


def _none(seen: Circumstances) -> Finding:
    found, directory = "none runs for clients with these variables", os.path.dirname(seen.socket or "")
    advice, command = start(seen, "start one")
    if command == seen.command("start") and os.path.isdir(directory) and not os.access(directory, os.W_OK):
        owner = user_name(os.stat(directory).st_uid)
        return warning("daemon", found, f"{owner} can start one, whose the socket's directory is")
    return warning("daemon", found, advice, command)


def check_daemon_statistics(seen: Circumstances) -> Iterator[Finding]:
    """What the daemon tells its own user: workers, limits, credentials, shared limits."""
    name = "limits and circuits"
    if seen.statistics is None:
        yield _silent(seen) if seen.is_silent else not_checked(name, seen.statistics_problem)
        return
    try:
        findings = [
            *_workers(seen, seen.statistics),
            *_refusals(seen, seen.statistics),
            *_credentials(seen.statistics),
            *_shared_limits(seen.statistics),
        ]
    except (LookupError, TypeError, AttributeError):  # of another version, whose snapshot has another shape
        yield not_checked(name, "the daemon is of another version, and tells it in another way")
        return
    yield from findings


def _silent(seen: Circumstances) -> Finding:
    """Its workers go on without the process that keeps what they share."""
    found = f"it says that it is well, and its main process (PID {seen.pid}) does not answer: {seen.statistics_problem}"
    if seen.pid is not None and process_state(seen.pid) == "T":
        return problem("daemon's main process", f"{found}; it is stopped (SIGSTOP)", "", f"kill -CONT {seen.pid}")
    advice, command = restart(seen)
    return problem(
        "daemon's main process",
        found,
        f"the machine is overloaded, or it hangs{': ' if advice else ''}{advice}",
        command,
    )


def _workers(seen: Circumstances, told: dict[str, Any]) -> Iterator[Finding]:
    workers, wanted = told["workers"], told["workers_wanted"]
    silent = [int(worker["pid"]) for worker in workers if not worker.get("answers", True)]
    if silent:
        yield problem(
            "workers",
            f"{len(silent)} of {len(workers)} do not answer (PIDs {listed(map(str, silent))})",
            *(
                ("it is stopped (SIGSTOP)", f"kill -CONT {silent[0]}")
                if process_state(silent[0]) == "T"
                else ("one that goes on hanging can be ended: it is replaced", f"kill -9 {silent[0]}")
            ),
        )
    elif len(workers) < wanted:
        yield warning(
            "workers",
            f"{len(workers)} of {wanted} serve: the others have ended and are started again",
            "the log says why they end",
            seen.command("status"),
        )
    elif wanted > 1:
        yield ok("workers", f"all {wanted} serve")


def _refusals(seen: Circumstances, told: dict[str, Any]) -> Iterator[Finding]:
    lines = list(refusals(told["policies"]))
    for line in lines[:_MOST_TOLD]:
        if line.startswith("circuit "):
            yield warning("circuit", line, "look at that service; it is tried again by itself", seen.command("status"))
        else:
            yield warning(
                "limit",
                line,
                "wait, or raise it in the configuration and reload",
                "vastar-runtime config explain --help",
            )
    if len(lines) > _MOST_TOLD:
        yield warning("limits and circuits", f"{len(lines) - _MOST_TOLD} more", command=seen.command("status"))
    if not lines:
        yield ok("limits and circuits", "nothing is held back")


def _credentials(told: dict[str, Any]) -> Iterator[Finding]:
    for credential in told["credentials"][:_MOST_TOLD]:
        name, why = f"credential {credential['name']} in the daemon", str(credential["problem"])
        if not credential["is_usable"]:
            if credential["problem"] is None:
                yield warning(name, "it is being fetched", "look again in some seconds")
            else:
                yield problem(name, f"it cannot be used: {why}", _mend(credential["source"]))
        elif credential["problem"] is not None:
            yield warning(name, f"an older one is used: {why}", _mend(credential["source"]))


def _mend(source: object) -> str:
    if source == "env":
        return "set the variable where the daemon is started, and start it anew"
    if source == "file":
        return "mend the file; the daemon reads it again by itself"
    return "mend the command; the daemon calls it again when ttl_ms has passed"


def _shared_limits(told: dict[str, Any]) -> Iterator[Finding]:
    shared = told["shared_limits"]
    if shared is None:
        return
    place, reason, fail = shared["address"], shared["reason"], shared["fail"]
    if reason is None:
        yield ok("shared limits", f"Redis at {place} answers")
        return
    found = f"Redis at {place} cannot be asked ({reason}); {_MEANWHILE.get(fail, 'its choice holds meanwhile')}"
    advice = "start Redis, or correct shared_limits; the daemon finds it again by itself"
    yield problem("shared limits", found, advice)
