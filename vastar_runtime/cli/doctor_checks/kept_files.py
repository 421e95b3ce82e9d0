"""What the daemon writes: its log and its usage, and the room for them; and how many files it may have open."""

from __future__ import annotations

import os
import resource
import shlex
import stat
from collections.abc import Iterator

from vastar_runtime.cli.process import is_apart
from vastar_runtime.config import DEFAULT_LOG_PATH
from vastar_runtime.config.paths import absolute_path
from vastar_runtime.config.permissions import kind, nearest_existing, user_name
from vastar_runtime.config.quoting import shown_path
from vastar_runtime.config.state import usage_path

from .circumstances import Circumstances
from .files import LittleSpace, has_tilde, little_space, make_directory
from .finding import Finding, not_checked, ok, problem, warning
from .processes import DELETED, log_of
from .restarting import restart
from .usage_damage import damage_in

# Each client and each connection to an upstream is one.
FEW_OPEN_FILES = 4096
_FULL_SHARE = 0.8
_ANOTHER_LOG = "choose another with --log-file or VASTAR_LOG_FILE"
_SQLITE = b"SQLite format 3\0"
_HEADER_BYTES = 100


def check_log(seen: Circumstances) -> Iterator[Finding]:
    """Whether it can be written."""
    name = "log"
    if seen.apart:
        yield not_checked(name, seen.apart)
        return
    path = seen.log_path
    if seen.is_running and seen.pid is not None:
        its = log_of(seen.pid)
        if its is None:
            yield ok(name, "what the daemon logs goes to no file that can be seen: to the journal, or a terminal")
            return
        if is_apart(seen.pid, "mnt"):
            yield ok(name, f"{shown_path(its)}, as the daemon sees it (PrivateTmp=, a container)")
            return
        path = its
    if path.endswith(DELETED):
        advice, command = restart(seen)
        yield problem(
            name,
            f"{shown_path(path.removesuffix(DELETED))} was deleted while the daemon (PID {seen.pid}) writes to it: "
            "what it writes nobody can read",
            f"rotate it with copytruncate{': ' if advice else ''}{advice}",
            command,
        )
        return
    shown = shown_path(path)
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        yield _new_file(name, path, f"{_ANOTHER_LOG}, or make the directory", _other_log(seen, path))
        return
    except OSError as error:
        yield problem(name, f"{shown}: {error.strerror}", _ANOTHER_LOG, _other_log(seen, path))
        return
    if not stat.S_ISREG(status.st_mode):
        yield problem(
            name,
            f"{shown} is {kind(status.st_mode)}, not a file: start does not write to it",
            _ANOTHER_LOG,
            _other_log(seen, path),
        )
    elif status.st_uid != os.geteuid() and not seen.is_running:
        yield problem(
            name,
            f"{shown} belongs to {user_name(status.st_uid)}: no daemon of {user_name(os.geteuid())} writes to it",
            _ANOTHER_LOG,
            _other_log(seen, path),
        )
    elif status.st_uid == os.geteuid() and not os.access(path, os.R_OK | os.W_OK):
        found = f"{shown} has mode {stat.S_IMODE(status.st_mode):04o}, and may not be read and written by its owner"
        yield problem(name, found, command=f"chmod u+rw {shlex.quote(path)}")
    elif (space := little_space(os.path.dirname(path))) is not None:
        yield _little_room(name, space, path)
    else:
        yield ok(name, f"{shown}, {status.st_size >> 10} KiB")


def check_usage(seen: Circumstances) -> Iterator[Finding]:
    """Whether usage can be kept where the settings say."""
    name, told = "usage", seen.statistics or {}
    if isinstance(reason := told.get("usage_problem"), str):
        # Its file may look well from here: the disk was full, or another process kept it locked.
        yield problem(
            name,
            f"the daemon does not write it: {reason}",
            "until then it is kept in the daemon's memory, and a restart loses it; this tells whether it is written",
            seen.command("status"),
        )
        return
    if seen.apart:
        yield not_checked(name, seen.apart)
        return
    if "usage_file" in told:
        file = told["usage_file"] if isinstance(told["usage_file"], str) else None
        why_not = "" if file else "the daemon has no place for it: [usage] file is none, or it was started without HOME"
    elif seen.is_running and not seen.is_ours:
        yield not_checked(name, "the daemon does not tell where it keeps it")
        return
    else:
        file, why_not = usage_path(seen.settings, seen.environ), "neither HOME nor XDG_STATE_HOME is set"
    if seen.settings.usage.file is None:
        yield ok(name, "is not kept ([usage] file)")
    elif file is None:
        yield warning(
            name,
            f"is not kept: {why_not}",
            "set one of HOME and XDG_STATE_HOME where the daemon is started, or name a file in [usage]",
        )
    else:
        yield _usage(name, file)


def _usage(name: str, path: str) -> Finding:
    advice = "name a file in [usage] that the daemon's user can write, or let it"
    shown, directory = shown_path(path), os.path.dirname(path)
    if not os.path.lexists(path):
        return _new_file(name, path, advice, None, makes_directory=True)
    try:
        status = os.stat(path)
    except OSError as error:
        return problem(name, f"{shown}: {error.strerror}", advice)
    if not stat.S_ISREG(status.st_mode):
        return problem(name, f"{shown} is {kind(status.st_mode)}, not a file", advice)
    if not (os.access(path, os.R_OK | os.W_OK) and os.access(directory, os.W_OK)):
        return problem(
            name,
            f"{shown} (of {user_name(status.st_uid)}), or its directory, may not be written by "
            f"{user_name(os.geteuid())}: usage is lost, and budgets forget what was used",
            advice,
            f"ls -ld {shlex.quote(path)} {shlex.quote(directory)}",
        )
    fault = _no_usage_in(path)
    if (fault := damage_in(path) if fault is None else f"{shown} {fault}") is not None:
        return problem(
            name,
            f"{fault}: usage is lost, and budgets forget what was used",
            "name another file in [usage], or move this one away while no daemon runs",
            f"ls -l {shlex.quote(path)}",
        )
    if (space := little_space(directory)) is not None:
        return _little_room(name, space, path)
    return ok(name, f"is kept in {shown}, {status.st_size >> 10} KiB")


def _no_usage_in(path: str) -> str | None:
    """Why a file cannot be the daemon's, by its header (sqlite.org/fileformat); None: it can, as far as that tells.

    Raises:
        OSError: it cannot be read.
    """
    from vastar_runtime.metering.usage_file import APPLICATION_ID, SCHEMA_VERSION  # a Python may lack SQLite

    with open(path, "rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header:
        return None
    if len(header) < _HEADER_BYTES or not header.startswith(_SQLITE):
        return "is no SQLite database, or a damaged one"
    version, application_id = (int.from_bytes(header[at : at + 4], "big") for at in (60, 68))
    if application_id not in (0, APPLICATION_ID):
        return "is the database of another program"
    if application_id and version != SCHEMA_VERSION:
        return f"has schema {version}, and this version knows {SCHEMA_VERSION}"
    return None


def check_open_files(seen: Circumstances) -> Iterator[Finding]:
    """How many the daemon may have, and has."""
    name = "open files"
    if seen.apart and seen.pid is None:
        yield not_checked(name, seen.apart)
        return
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
            "raise the hard limit: LimitNOFILE= in a systemd unit, /etc/security/limits.conf",
            "ulimit -n 65536" if os.geteuid() == 0 else None,
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


def _other_log(seen: Circumstances, path: str) -> str | None:
    """How to choose another log than the one at this path."""
    variable = seen.environ.get("VASTAR_LOG_FILE")
    if variable and path == _absolute(variable):
        return "unset VASTAR_LOG_FILE"
    is_default = path == DEFAULT_LOG_PATH and os.path.isabs(seen.environ.get("HOME", ""))
    return 'export VASTAR_LOG_FILE="$HOME/vastar-runtime.log"' if is_default else None


def _absolute(path: str) -> str | None:
    """None: it is relative to a directory that is gone."""
    try:
        return absolute_path(path)
    except ValueError:
        return None


def _new_file(name: str, path: str, advice: str, command: str | None, *, makes_directory: bool = False) -> Finding:
    """One that there is none of yet."""
    shown, directory = shown_path(path), os.path.dirname(path)
    nearest = nearest_existing(directory)
    if nearest != directory and not makes_directory:
        if has_tilde(path):
            return problem(name, f"{shown}: the ~ is taken as it stands", "write it without quotes, or the whole path")
        return problem(name, f"{shown}: its directory does not exist", advice, make_directory(directory) or command)
    if not os.path.isdir(nearest):
        return problem(name, f"{shown} cannot be made: {shown_path(nearest)} is no directory", advice, command)
    if not os.access(nearest, os.W_OK | os.X_OK):
        found = f"{shown} cannot be made: {shown_path(nearest)} may not be written by {user_name(os.geteuid())}"
        return problem(name, found, advice, command)
    if (space := little_space(nearest)) is not None:
        return _little_room(name, space, path)
    return ok(name, f"{shown} will be made when it is needed")


def _little_room(name: str, space: LittleSpace, path: str) -> Finding:
    found, command = f"{space.found}, for {shown_path(path)}", f"df -h {shlex.quote(os.path.dirname(path))}"
    return (problem if space.is_full else warning)(name, found, "make room", command)
