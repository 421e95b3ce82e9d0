"""What the daemon writes: its log and its usage, and the room for them; and how many files it may have open."""

from __future__ import annotations

import os
import resource
import shlex
import stat
from collections.abc import Iterator

from vastar_runtime.config.quoting import shown_path
from vastar_runtime.config.state import default_path

from .circumstances import Circumstances
from .files import kind, little_space, nearest_existing, user_name
from .finding import Finding, not_checked, ok, problem, warning

# Each client and each connection to an upstream is one.
FEW_OPEN_FILES = 4096
_FULL_SHARE = 0.8
_DELETED = " (deleted)"
_OWN_LOG = 'export VASTAR_LOG_FILE="$HOME/vastar-runtime.log"'


def check_log(seen: Circumstances) -> Iterator[Finding]:
    """Whether it can be written."""
    name = "log"
    path = _log_of_daemon(seen) or seen.log_path
    if path.endswith(_DELETED):
        yield problem(
            name,
            f"{shown_path(path.removesuffix(_DELETED))} was deleted while the daemon (PID {seen.pid}) writes to it: "
            "what it writes nobody can read",
            "rotate it with copytruncate",
            seen.command("restart"),
        )
        return
    shown = shown_path(path)
    another = "choose another with --log-file, or"
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        yield _new_file(name, path, f"{another} make the directory", _OWN_LOG)
        return
    except OSError as error:
        yield problem(name, f"{shown}: {error.strerror}", "choose another with --log-file")
        return
    if not stat.S_ISREG(status.st_mode):
        yield problem(
            name,
            f"{shown} is {kind(status.st_mode)}, not a file: start does not write to it",
            f"{another} move it away",
            f"mv {shlex.quote(path)} {shlex.quote(path + '.moved-away')}",
        )
    elif status.st_uid != os.geteuid() and not seen.is_running:
        yield problem(
            name,
            f"{shown} belongs to {user_name(status.st_uid)}: no daemon of {user_name(os.geteuid())} writes to it",
            "choose another with --log-file",
            _OWN_LOG,
        )
    elif status.st_uid == os.geteuid() and not os.access(path, os.W_OK):
        yield problem(name, f"{shown} may not be written", command=f"chmod u+w {shlex.quote(path)}")
    elif (full := little_space(os.path.dirname(path))) is not None:
        yield _little_room(name, full, path)
    else:
        yield ok(name, f"{shown}, {status.st_size >> 10} KiB")


def check_usage(seen: Circumstances) -> Iterator[Finding]:
    """Whether usage can be kept where the settings say."""
    name, file = "usage", seen.settings.usage.file
    if file is None:
        yield ok(name, "is not kept ([usage] file)")
        return
    path = default_path(seen.environ) if file == "auto" else file
    if path is None:
        yield warning(
            name,
            "is not kept: neither HOME nor XDG_STATE_HOME is set",
            "set one of them where the daemon is started, or name a file in [usage]",
        )
        return
    if seen.is_running and not seen.is_ours and file == "auto":
        yield not_checked(name, "the daemon is another user's, and keeps it in that user's directory")
        return
    advice = "name a file in [usage] that this user can write, or let it"
    if not os.path.lexists(path):
        yield _new_file(name, path, advice, None, makes_directory=True)
    elif not os.path.isfile(path):
        yield problem(name, f"{shown_path(path)} is {kind(os.stat(path).st_mode)}, not a file", advice)
    elif not (os.access(path, os.R_OK | os.W_OK) and os.access(os.path.dirname(path), os.W_OK)):
        owner = user_name(os.stat(path).st_uid)
        yield problem(
            name,
            f"{shown_path(path)} (of {owner}), or its directory, may not be written by {user_name(os.geteuid())}: "
            "usage is lost, and budgets forget what was used",
            advice,
            f"ls -ld {shlex.quote(path)} {shlex.quote(os.path.dirname(path))}",
        )
    elif (full := little_space(os.path.dirname(path))) is not None:
        yield _little_room(name, full, path)
    else:
        yield ok(name, f"is kept in {shown_path(path)}, {os.stat(path).st_size >> 10} KiB")


def check_open_files(seen: Circumstances) -> Iterator[Finding]:
    """How many the daemon may have, and has."""
    name = "open files"
    remedy = "raise it: LimitNOFILE=65536 in the systemd unit, --ulimit nofile=65536 for a container, else as root"
    if seen.is_running and seen.pid is not None:
        try:
            most, used = _most_open(seen.pid), len(os.listdir(f"/proc/{seen.pid}/fd"))
        except OSError as error:
            yield not_checked(name, f"of the daemon (PID {seen.pid}): {error.strerror}")
            return
        found = f"the daemon (PID {seen.pid}) has {used} of at most {most}"
        if most is not None and used >= most * _FULL_SHARE:
            yield problem(name, f"{found}: it will soon refuse connections", remedy)
        elif most is not None and most < FEW_OPEN_FILES:
            yield warning(name, f"{found}: each client and each upstream connection is one", remedy)
        else:
            yield ok(name, found)
        return
    yield open_files_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def open_files_limit(hard: int) -> Finding:
    """For a daemon that is started from here; it raises its soft limit to the hard one."""
    if hard != resource.RLIM_INFINITY and hard < FEW_OPEN_FILES:
        return warning(
            "open files",
            f"a daemon that is started here may have {hard}: each client and each upstream connection is one",
            "raise the hard limit: LimitNOFILE= in a systemd unit, /etc/security/limits.conf, or as root",
            "ulimit -n 65536",
        )
    shown = "any number" if hard == resource.RLIM_INFINITY else str(hard)
    return ok("open files", f"a daemon that is started here may have {shown}")


def _most_open(pid: int) -> int | None:
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        for line in file:
            if line.startswith("Max open files"):
                soft = line.split()[3]
                return int(soft) if soft.isdigit() else None
    return None


def _log_of_daemon(seen: Circumstances) -> str | None:
    """Where the daemon's standard error goes, if that is a file and can be seen."""
    if not seen.is_running or seen.pid is None:
        return None
    try:
        path = os.readlink(f"/proc/{seen.pid}/fd/2")
        mode = os.stat(f"/proc/{seen.pid}/fd/2").st_mode
    except OSError:
        return None
    return path if stat.S_ISREG(mode) else None


def _new_file(name: str, path: str, advice: str, command: str | None, *, makes_directory: bool = False) -> Finding:
    """One that there is none of yet."""
    shown, directory = shown_path(path), os.path.dirname(path)
    nearest = nearest_existing(directory)
    if nearest != directory and not makes_directory:
        make = f"mkdir -p {shlex.quote(directory)}" if os.access(nearest, os.W_OK | os.X_OK) else command
        return problem(name, f"{shown}: its directory does not exist", advice, make)
    if not os.path.isdir(nearest):
        return problem(name, f"{shown} cannot be made: {shown_path(nearest)} is no directory", advice, command)
    if not os.access(nearest, os.W_OK | os.X_OK):
        found = f"{shown} cannot be made: {shown_path(nearest)} may not be written by {user_name(os.geteuid())}"
        return problem(name, found, advice, command)
    if (full := little_space(nearest)) is not None:
        return _little_room(name, full, path)
    return ok(name, f"{shown} will be made when it is needed")


def _little_room(name: str, full: str, path: str) -> Finding:
    make = problem if full.endswith("is full") or "inode" in full else warning
    return make(name, f"{full}, for {shown_path(path)}", "make room", f"df -h {shlex.quote(os.path.dirname(path))}")
