"""The daemon: its version, its workers, and what it refuses."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from vastar_runtime import __version__
from vastar_runtime.cli.printing import counted
from vastar_runtime.cli.probe import State as OnSocket
from vastar_runtime.cli.refusals import refusals
from vastar_runtime.config.permissions import user_name

from .circumstances import Circumstances
from .credential_files import closed_to
from .finding import Finding, listed, not_checked, ok, problem, warning
from .permission import reader
from .processes import DELETED, process_state
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
        owner = os.stat(directory).st_uid
        if owner == os.geteuid():
            return warning("daemon", found, f"make the socket's directory writable first; then {advice}")
        return warning("daemon", found, f"{user_name(owner)} can start one, whose the socket's directory is")
    return warning("daemon", found, advice, command)


def check_daemon_statistics(seen: Circumstances) -> Iterator[Finding]:
    """What the daemon tells its own user: workers, limits, credentials, shared limits."""
    name = "limits and circuits"
    if seen.statistics is None:
        if seen.is_silent:
            yield _silent(seen)
        elif seen.is_failing:
            yield _failing(seen)
        else:
            yield not_checked(name, seen.statistics_problem)
        return
    try:
        findings = [
            *_workers(seen, seen.statistics),
            *_refusals(seen, seen.statistics),
            *_credentials(seen, seen.statistics),
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


def _failing(seen: Circumstances) -> Finding:
    """It serves requests, perhaps, and cannot tell how it stands: a mistake of ours."""
    log = None if seen.manner is None else seen.manner.log
    has_log = log is not None and not log.endswith(DELETED)
    return problem(
        "daemon's account of itself",
        f"it fails when it is asked how it stands: {seen.statistics_problem}",
        f"please report that, with what its log says of it{'; these are its last lines' if has_log else ''}",
        f"tail -n 40 {shlex.quote(str(log))}" if has_log else None,
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


def _credentials(seen: Circumstances, told: dict[str, Any]) -> Iterator[Finding]:
    for credential in told["credentials"][:_MOST_TOLD]:
        name, why = f"credential {credential['name']} in the daemon", str(credential["problem"])
        if not credential["is_usable"]:
            if credential["problem"] is None:
                yield warning(name, "it is being fetched", "look again in some seconds")
            else:
                yield problem(name, f"it cannot be used: {why}", *_mend(seen, credential))
        elif credential["problem"] is not None:
            yield warning(name, f"an older one is used: {why}", *_mend(seen, credential))


def _mend(seen: Circumstances, told: dict[str, Any]) -> tuple[str, str | None]:
    """Advice and a command."""
    if told["source"] == "env":
        return "set the variable where the daemon is started, and start it anew", None
    if told["source"] == "file":
        path = next((known.file for known in seen.settings.credentials if known.name == told["name"]), None)
        shut = None if path is None or seen.apart else closed_to(path, reader(seen))
        return ("mend the file; the daemon reads it again by itself", None) if shut is None else shut[1:]
    return "mend the command; the daemon calls it again when ttl_ms has passed", None


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
