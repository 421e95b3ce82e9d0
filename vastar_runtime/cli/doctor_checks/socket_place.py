"""The socket's path: its length, its directory, and what lies there."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

from vastar_runtime.cli.probe import Found, State
from vastar_runtime.cli.process import NAME, describe
from vastar_runtime.cli.socket_file import closed, no_socket
from vastar_runtime.config import DEFAULT_SOCKET_PATH
from vastar_runtime.config.permissions import kind, may_change, user_name
from vastar_runtime.config.quoting import shown_path

from .circumstances import Circumstances
from .files import group_name, groups_of, has_tilde, is_within_reach, little_space, make_directory
from .finding import Finding, ok, problem, warning
from .processes import is_of_user, process_state
from .restarting import restart, start
from .socket_lock import lock_in_the_way

_OVERFLOW_UID = 65534
# The socket's lock is a file with a PID in it.
_LEAST_BYTES = 4096
_OTHER_PATH = "choose another path with --socket or VASTAR_SOCKET_PATH"
_OF_UNITS = ("/run/", "/var/run/")


def check_socket_directory(seen: Circumstances) -> Iterator[Finding]:
    """Whether a daemon could make its socket there, and who else could."""
    path = seen.socket
    if path is None:
        yield _no_path(seen)
        return
    if seen.is_on_tcp_only:
        return
    name = "socket's directory"
    directory = os.path.dirname(path)
    shown = shown_path(directory)
    try:
        status = os.stat(directory)
    except FileNotFoundError:
        yield _no_directory(name, path, directory)
        return
    except OSError as error:
        yield problem(name, f"{shown}: {error.strerror}", f"{_OTHER_PATH}, or have this user let in there")
        return
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    if not stat.S_ISDIR(status.st_mode):
        yield problem(name, f"{shown} is {kind(status.st_mode)}, not a directory", _OTHER_PATH)
    elif not os.access(directory, os.X_OK):
        yield problem(
            name,
            f"{shown} (of {user_name(status.st_uid)}, mode {mode}) may not be searched by {user_name(os.geteuid())}",
            "" if status.st_uid == os.geteuid() else f"its owner can allow it; or {_OTHER_PATH}",
            f"chmod u+x {shlex.quote(directory)}" if status.st_uid == os.geteuid() else None,
        )
    elif seen.state is State.NOT_RUNNING and not os.access(directory, os.W_OK):
        yield problem(
            name,
            f"{shown} (of {user_name(status.st_uid)}, mode {mode}) may not be written by {user_name(os.geteuid())}: "
            "a daemon of this user cannot listen there",
            *(
                ("", f"chmod u+w {shlex.quote(directory)}")
                if status.st_uid == os.geteuid()
                else (f"{user_name(status.st_uid)} can start one; for one of your own {_OTHER_PATH}", None)
            ),
        )
    elif status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX and is_within_reach(directory):
        yield problem(
            name,
            f"{shown} has mode {mode}: anybody may replace the socket and read what goes through it",
            "" if may_change(status) else f"its owner, or root, can mend that; or {_OTHER_PATH}",
            f"chmod +t {shlex.quote(directory)}" if may_change(status) else None,
        )
    elif seen.state is State.NOT_RUNNING and (space := little_space(directory, _LEAST_BYTES)) is not None:
        yield problem(name, f"{space.found}: no daemon can start there", "make room", f"df -h {shlex.quote(directory)}")
    else:
        yield ok(name, f"{shown} (of {user_name(status.st_uid)}, mode {mode})")


def check_socket_path(seen: Circumstances) -> Iterator[Finding]:
    """The daemon reads the configuration file; clients do not."""
    path = seen.socket
    if path is None or seen.socket_path is not None or seen.environ.get("VASTAR_SOCKET_PATH") or seen.tcp is not None:
        return
    if path == DEFAULT_SOCKET_PATH:
        return
    if seen.is_running and (seen.is_ours or os.geteuid() == 0):  # whoever looks after it need not be a client
        yield ok("socket's path", f"the configuration says {shown_path(path)}: clients need it in VASTAR_SOCKET_PATH")
    else:
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


def _no_directory(name: str, path: str, directory: str) -> Finding:
    found = f"{shown_path(directory)} does not exist"
    if has_tilde(path):
        return problem(name, f"{found}: the ~ is taken as it stands", "write it without quotes, or the whole path")
    if path.startswith(_OF_UNITS):
        return problem(name, found, "a unit with RuntimeDirectory= makes it when it is started, with systemctl")
    return problem(name, found, f"make it; or {_OTHER_PATH}", make_directory(directory))


def check_socket(seen: Circumstances) -> Iterator[Finding]:
    """What lies at the path, and who answers."""
    path, found = seen.socket, seen.found
    if path is None:
        return  # told with the directory
    if seen.is_on_tcp_only:
        yield ok("socket", "none is needed: clients with these variables use TCP, where a daemon answers")
        return
    if found is None:
        yield problem("socket", seen.found_problem, _OTHER_PATH)
        return
    match found.state:
        case State.NOT_RUNNING:
            yield _nobody(seen, path)
            yield from lock_in_the_way(path)
        case State.FORBIDDEN:
            yield _forbidden(path)
        case State.SILENT:
            yield _silent(seen, found)
        case State.LEGACY:
            yield problem(
                "socket",
                f"the existing runtime (PID {_pid(found)}) answers on {shown_path(path)}: clients get that one, and "
                "this one does not start there",
                "stop it, then start this one in its place",
                f"kill {found.pid}" if _may_end(found) else None,
            )
        case State.CLOSED:
            yield warning(
                "socket",
                f"the daemon (PID {_pid(found)}) accepts no connections on {shown_path(path)}: it starts or stops",
                "wait for it; this tells how it stands",
                seen.command("status"),
            )
        case State.CUT_OFF:
            yield problem(
                "socket",
                f"the daemon (PID {_pid(found)}) has lost {shown_path(path)}, which was removed (by a cleaner of old "
                "files?): nobody can connect",
                *restart(seen),
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
            *start(seen, "see the end of the log, dmesg, and start it again; that replaces the socket"),
        )
    return problem(
        "socket",
        f"{shown} is {no_socket(path) or kind(status.st_mode)}: no daemon starts there",
        f"remove it, or {_OTHER_PATH}",
        "unset VASTAR_SOCKET_PATH" if seen.socket_path is None and seen.environ.get("VASTAR_SOCKET_PATH") else None,
    )


def _forbidden(path: str) -> Finding:
    shown, me, why = shown_path(path), os.geteuid(), closed(path)
    try:
        status = os.stat(path)
    except OSError:
        return problem("socket", why.what, why.advice, why.command)
    if why.command is not None:
        return problem("socket", why.what, why.advice, why.command)
    if not why.is_listened_on:
        return problem("socket", why.what, f"its owner, or root, can remove it; or {_OTHER_PATH}")
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
        'its owner can let a group in, whose members may then connect: with socket_mode = "0660" and socket_group in '
        f"[listen], or --socket-mode 0660 --socket-group GROUP where it is started; or {_OTHER_PATH}",
    )


def _silent(seen: Circumstances, found: Found) -> Finding:
    pid = found.pid
    if pid is None:
        return problem(
            "socket",
            f"a process that cannot be seen from here holds {shown_path(found.socket_path)}: {found.detail}",
            f"look at it where it runs (another container?); or {_OTHER_PATH}",
        )
    words = describe(pid)
    if not words.startswith(NAME):
        return problem(
            "socket",
            f"PID {pid} ({words[:80] or 'unknown'}) listens on {shown_path(found.socket_path)} and is no daemon of "
            f"ours: {found.detail}",
            _OTHER_PATH,
        )
    what = f"the daemon (PID {pid}) holds {shown_path(found.socket_path)} and does not answer: {found.detail}"
    if process_state(pid) == "T":
        advice = "let it go on" if _may_end(found) else f"let {user_name(found.uid or 0)} or root say that it may go on"
        what = f"{what}; it is stopped (SIGSTOP, Ctrl-Z)"
        return problem("socket", what, advice, f"kill -CONT {pid}" if _may_end(found) else None)
    if not _may_end(found):
        return problem("socket", what, f"{user_name(found.uid or 0)} or root can end it, if it goes on hanging")
    advice = "its log may say why; if it goes on hanging, end it by force, and start it again as it was started"
    return problem("socket", what, advice, f"kill -9 {pid}")


def _may_end(found: Found) -> bool:
    """Whether this user may signal who listens, and its number is still the same process's."""
    return found.pid is not None and os.geteuid() in (0, found.uid) and is_of_user(found.pid, found.uid)


def _answered(path: str, found: Found) -> Finding:
    shown = shown_path(path)
    if found.uid in (None, os.geteuid()):
        return ok("socket", f"a daemon answers on {shown}")
    who = f"{user_name(found.uid or 0)} answers on {shown}"
    if found.pid is None:
        who = f"a daemon that cannot be seen from here (another container?) answers on {shown}, as uid {found.uid}"
    if found.uid == 0 or not _is_for_anybody(path):
        return ok("socket", who)
    return warning(
        "socket",
        f"{who}, where anybody can be the first to listen: that user sees all requests and keys",
        f"make sure that it is meant; or {_OTHER_PATH}, in a directory that only the daemon's user may write",
    )


def _is_for_anybody(path: str) -> bool:
    """Whether every user may make a socket there, or a directory on the way to it."""
    below = os.path.dirname(path)
    try:
        while not os.stat(below).st_mode & stat.S_IWOTH:
            if os.stat(below).st_uid in (0, os.geteuid()):  # who made it is trusted
                return False
            below = os.path.dirname(below)
    except OSError:
        pass
    return True


def _pid(found: Found) -> str:
    return "not visible from here" if found.pid is None else str(found.pid)
