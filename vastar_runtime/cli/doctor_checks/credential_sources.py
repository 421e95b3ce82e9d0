"""Where credentials come from: the files, programs and variables that the configuration names. No secret is read."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

from vastar_runtime.config import Credential
from vastar_runtime.config.quoting import shown_path

from .circumstances import Circumstances
from .files import is_read_only, is_within_reach, kind, may_change, user_name
from .finding import Finding, not_checked, ok, problem, warning
from .processes import groups_of_process

_MOST_TOLD = 20
_ADVICE = "give it to the daemon's user, with mode 0600"
_OF_UNITS = ("/run/credentials/", "/var/run/credentials/")


def check_credential_sources(seen: Circumstances) -> Iterator[Finding]:
    """One line for each that something is wrong with, or one for all."""
    credentials = seen.settings.credentials
    if credentials and seen.apart:
        yield not_checked("credentials' sources", seen.apart)
        return
    wrong = [finding for credential in credentials for finding in _source(seen, credential)]
    yield from wrong[:_MOST_TOLD]
    if credentials and not wrong:
        yield ok("credentials' sources", f"{len(credentials)} found where the configuration says")


def _source(seen: Circumstances, credential: Credential) -> Iterator[Finding]:
    name = f"credential {credential.name}"
    if credential.file is not None:
        yield from _file(seen, name, credential.file)
    elif credential.command is not None:
        yield from _program(name, credential.command[0])
    elif credential.env is not None and not seen.is_running and not seen.environ.get(credential.env):
        yield warning(
            name,
            f"{credential.env} is not set here: a daemon that is started from here cannot use it",
            f"set {credential.env} where the daemon is started",
        )


def _file(seen: Circumstances, name: str, path: str) -> Iterator[Finding]:
    shown = shown_path(path)
    try:
        status = os.stat(path)
    except OSError as error:
        if path.startswith(_OF_UNITS):
            yield not_checked(name, f"{shown} is for a unit to see, while it runs (LoadCredential=)")
            return
        yield problem(name, f"{shown}: {error.strerror}", "write the key into it; the daemon finds it by itself")
        return
    if not stat.S_ISREG(status.st_mode):
        yield problem(name, f"{shown} is {kind(status.st_mode)}, not a file", "write the key into a file there")
    elif status.st_mode & (stat.S_IROTH | stat.S_IWOTH) and is_within_reach(path):
        if is_read_only(path):
            return  # secrets that are mounted into a container come like this, where nobody else is
        make, may_do = (problem, "replace") if status.st_mode & stat.S_IWOTH else (warning, "read")
        can_do_without = may_change(status) and _daemon_can_do_without(seen, status)
        yield make(
            name,
            f"{shown} (of {user_name(status.st_uid)}) has mode {stat.S_IMODE(status.st_mode):04o}: "
            f"anybody on this machine may {may_do} the key",
            _ADVICE
            if not can_do_without
            else ""
            if seen.is_running
            else f"unless another user's daemon reads it ({_ADVICE})",
            f"chmod o-rw {shlex.quote(path)}" if can_do_without else None,
        )
    elif not status.st_size:
        yield problem(name, f"{shown} is empty", "write the key into it; the daemon finds it by itself")


def _daemon_can_do_without(seen: Circumstances, status: os.stat_result) -> bool:
    """Whether it reads the file as its owner, or with a group."""
    uid, groups = os.geteuid(), {os.getegid(), *os.getgroups()}
    if seen.is_running and seen.found is not None and seen.found.uid is not None:
        uid, groups = seen.found.uid, (groups_of_process(seen.pid) if seen.pid is not None else None) or set()
    return uid == status.st_uid or bool(status.st_gid in groups and status.st_mode & stat.S_IRGRP)


def _program(name: str, path: str) -> Iterator[Finding]:
    shown = shown_path(path)
    try:
        status = os.stat(path)
    except OSError as error:
        yield problem(name, f"{shown}: {error.strerror}", "correct the command's path in the configuration")
        return
    if not stat.S_ISREG(status.st_mode):
        yield problem(name, f"{shown} is {kind(status.st_mode)}, not a program", "correct the command's path")
    elif not os.access(path, os.X_OK):
        found = f"{shown} may not be run by this user"
        if may_change(status):
            yield problem(name, found, command=f"chmod +x {shlex.quote(path)}")
        else:
            yield problem(name, found, "its owner can allow it")
    elif status.st_mode & stat.S_IWOTH and is_within_reach(path):
        yield problem(
            name,
            f"{shown} has mode {stat.S_IMODE(status.st_mode):04o}: anybody may change what the daemon runs",
            "" if may_change(status) else "its owner, or root, can take that away",
            f"chmod o-w {shlex.quote(path)}" if may_change(status) else None,
        )
