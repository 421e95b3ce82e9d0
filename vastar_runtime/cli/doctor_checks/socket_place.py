"""The socket's path: its length, its directory, and what lies there."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

from vastar_runtime.cli.probe import Found, State
from vastar_runtime.cli.process import NAME, describe
from vastar_runtime.config import DEFAULT_SOCKET_PATH
from vastar_runtime.config.quoting import shown_path

from .circumstances import Circumstances
from .files import group_name, groups_of, is_within_reach, kind, little_space, process_state, user_name
from .finding import Finding, ok, problem, warning

# Below are the users of services (Debian and Red Hat alike).
_FIRST_PERSON_UID = 1000
_OVERFLOW_UID = 65534
# The socket's lock is a file with a PID in it.
_LEAST_BYTES = 4096


def check_socket_directory(seen: Circumstances) -> Iterator[Finding]:
    """Whether a daemon could make its socket there, and who else could."""
    path = seen.socket
    if path is None:
        yield _no_path(seen)
        return
    name = "socket's directory"
    directory = os.path.dirname(path)
    shown = shown_path(directory)
    other = "or choose another path with VASTAR_SOCKET_PATH"
    try:
        status = os.stat(directory)
    except FileNotFoundError:
        yield problem(name, f"{shown} does not exist", other, f"mkdir -p {shlex.quote(directory)}")
        return
    except OSError as error:
        yield problem(name, f"{shown}: {error.strerror}", f"give this user its way there, {other}")
        return
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    if not stat.S_ISDIR(status.st_mode):
        yield problem(name, f"{shown} is {kind(status.st_mode)}, not a directory", "choose another path: --socket")
    elif not os.access(directory, os.X_OK):
        yield problem(
            name,
            f"{shown} (of {user_name(status.st_uid)}, mode {mode}) may not be searched by {user_name(os.geteuid())}",
            f"its owner can allow it, {other}",
            f"chmod a+x {shlex.quote(directory)}",
        )
    elif not seen.is_running and not os.access(directory, os.W_OK):
        yield problem(
            name,
            f"{shown} (of {user_name(status.st_uid)}, mode {mode}) may not be written by {user_name(os.geteuid())}: "
            "a daemon of this user cannot listen there",
            "choose another path",
            _elsewhere(seen),
        )
    elif status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX and is_within_reach(directory):
        yield problem(
            name,
            f"{shown} has mode {mode}: anybody may replace the socket and read what goes through it",
            command=f"chmod +t {shlex.quote(directory)}",
        )
    elif not seen.is_running and (full := little_space(directory, _LEAST_BYTES)) is not None:
        yield problem(name, f"{full}: no daemon can start there", "make room", f"df -h {shlex.quote(directory)}")
    else:
        yield ok(name, f"{shown} (of {user_name(status.st_uid)}, mode {mode})")


def check_socket_path(seen: Circumstances) -> Iterator[Finding]:
    """The daemon reads the configuration file; clients do not."""
    path = seen.socket
    if path is None or seen.socket_path is not None or seen.environ.get("VASTAR_SOCKET_PATH"):
        return
    if path != DEFAULT_SOCKET_PATH:
        yield warning(
            "socket's path",
            f"the configuration says {shown_path(path)}; clients do not read it, and look at {DEFAULT_SOCKET_PATH}",
            "where clients run",
            f"export VASTAR_SOCKET_PATH={shlex.quote(path)}",
        )


def _no_path(seen: Circumstances) -> Finding:
    if seen.socket_problem.startswith("VASTAR_SOCKET_PATH"):
        return problem("socket", seen.socket_problem, "choose a shorter one", "unset VASTAR_SOCKET_PATH")
    return problem("socket", seen.socket_problem, "say where the daemon is with --socket or VASTAR_SOCKET_PATH")


def _elsewhere(seen: Circumstances) -> str | None:
    is_flag = seen.socket_path is not None
    return None if is_flag or seen.socket == DEFAULT_SOCKET_PATH else f"export VASTAR_SOCKET_PATH={DEFAULT_SOCKET_PATH}"


def check_socket(seen: Circumstances) -> Iterator[Finding]:
    """What lies at the path, and who answers."""
    path, found = seen.socket, seen.found
    if path is None:
        return  # told with the directory
    if found is None:
        yield problem("socket", seen.found_problem, "choose another path with --socket or VASTAR_SOCKET_PATH")
        return
    match found.state:
        case State.NOT_RUNNING:
            yield _nobody(seen, path)
        case State.FORBIDDEN:
            yield _forbidden(path)
        case State.SILENT:
            yield _silent(seen, found)
        case State.LEGACY:
            yield problem(
                "socket",
                f"the existing runtime (PID {_pid(found)}) answers on {shown_path(path)}: clients get that one, and "
                "this one does not start there",
                "stop it, and start this one in its place",
                None if found.pid is None else f"kill {found.pid} && {seen.command('start')}",
            )
        case State.CLOSED:
            yield warning(
                "socket",
                f"the daemon (PID {_pid(found)}) accepts no connections on {shown_path(path)}: it starts or stops",
                "wait for it; stop tells when it has ended",
                seen.command("stop"),
            )
        case State.RUNNING:
            yield _answered(path, found)


def _nobody(seen: Circumstances, path: str) -> Finding:
    shown = shown_path(path)
    try:
        status = os.lstat(path)
    except OSError:
        return ok("socket", f"nothing lies at {shown} yet")
    if stat.S_ISSOCK(status.st_mode):
        return problem(
            "socket",
            f"{shown} is there, and nobody listens: its daemon was killed (kill -9, out of memory)",
            "see the end of the log, dmesg, and start it again; that replaces the socket",
            seen.command("start"),
        )
    return problem(
        "socket",
        f"{shown} is {kind(status.st_mode)}, no socket: no daemon starts there",
        "move it away",
        f"mv {shlex.quote(path)} {shlex.quote(path + '.moved-away')}",
    )


def _forbidden(path: str) -> Finding:
    shown, me = shown_path(path), os.geteuid()
    try:
        status = os.stat(path)
    except OSError as error:
        return problem(
            "socket",
            f"{shown} cannot be looked at by {user_name(me)}: {error.strerror}",
            f"the owner of {shown_path(os.path.dirname(path))} has to let this user search it",
        )
    group = group_name(status.st_gid)
    mode = stat.S_IMODE(status.st_mode)
    found = f"{shown} belongs to {user_name(status.st_uid)}, group {group}, mode {mode:04o}: not for {user_name(me)}"
    if status.st_uid == _OVERFLOW_UID or user_name(status.st_uid).startswith("uid "):
        found += "; that user is none of this machine's: is it shared between containers?"
    if mode & 0o060 == 0o060 and status.st_gid not in {os.getegid(), *os.getgroups()}:
        if status.st_gid in groups_of(me):
            return problem("socket", found, "this session began before the user joined the group", f"newgrp {group}")
        name = user_name(me).partition(" ")[0]
        advice = f"root can add this user to the group: usermod -aG {group} {name}; then log in again"
        return problem("socket", found, advice)
    return problem(
        "socket",
        found,
        "its owner can let a group in, whose members may then connect: vastar-runtime restart --socket-mode 0660 "
        "--socket-group GROUP",
    )


def _silent(seen: Circumstances, found: Found) -> Finding:
    pid = found.pid
    if pid is None:
        return problem(
            "socket",
            f"a process that cannot be seen from here holds {shown_path(found.socket_path)}: {found.detail}",
            "end it where it runs (another container?), or choose another path with VASTAR_SOCKET_PATH",
        )
    words = describe(pid)
    if not words.startswith(NAME):
        return problem(
            "socket",
            f"PID {pid} ({words[:80] or 'unknown'}) listens on {shown_path(found.socket_path)} and is no daemon of "
            f"ours: {found.detail}",
            "choose another path with VASTAR_SOCKET_PATH, or end that program",
        )
    what = f"the daemon (PID {pid}) holds {shown_path(found.socket_path)} and does not answer: {found.detail}"
    if process_state(pid) == "T":
        return problem("socket", f"{what}; it is stopped (SIGSTOP, Ctrl-Z)", "let it go on", f"kill -CONT {pid}")
    return problem(
        "socket",
        what,
        "it hangs: look at its log, end it by force and start it again",
        f"kill -9 {pid}; {seen.command('start')}",
    )


def _answered(path: str, found: Found) -> Finding:
    shown = shown_path(path)
    if found.uid in (None, os.geteuid()):
        return ok("socket", f"a daemon answers on {shown}")
    who = f"{user_name(found.uid or 0)} answers on {shown}"
    if found.pid is None:
        who = f"a daemon that cannot be seen from here (another container?) answers on {shown}, as uid {found.uid}"
    if (found.uid or 0) < _FIRST_PERSON_UID or os.geteuid() == 0:
        return ok("socket", who)
    return warning("socket", f"{who}: that user sees all requests and keys", "make sure that it is meant")


def _pid(found: Found) -> str:
    return "not visible from here" if found.pid is None else str(found.pid)
