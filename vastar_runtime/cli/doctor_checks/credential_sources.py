"""Where credentials come from: the files, programs and variables that the configuration names. No secret is read."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

from vastar_runtime.config import Credential
from vastar_runtime.config.permissions import kind, may_change
from vastar_runtime.config.quoting import shown_path

from .circumstances import Circumstances
from .credential_files import access, is_of_unit
from .files import is_within_reach
from .finding import Finding, not_checked, ok, problem, warning
from .permission import closed, myself, reader

_MOST_TOLD = 20


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
    shown, told = shown_path(path), list(access(name, path, reader(seen)))
    yield from told
    try:
        status = os.stat(path)
    except OSError as error:
        if is_of_unit(path):
            yield not_checked(name, f"{shown} is for a unit to see, while it runs (LoadCredential=)")
        elif isinstance(error, FileNotFoundError):
            yield problem(name, f"{shown}: {error.strerror}", "write the key into it; the daemon finds it by itself")
        elif isinstance(error, PermissionError) and not told:  # the daemon may see more than this user
            yield not_checked(name, f"{shown}: {error.strerror}")
        elif not told:
            yield problem(name, f"{shown}: {error.strerror}", "correct the file's path in the configuration")
    else:
        if not stat.S_ISREG(status.st_mode):
            yield problem(name, f"{shown} is {kind(status.st_mode)}, not a file", "write the key into a file there")
        elif not status.st_size and not told:
            yield problem(name, f"{shown} is empty", "write the key into it; the daemon finds it by itself")


def _program(name: str, path: str) -> Iterator[Finding]:
    shown = shown_path(path)
    try:
        status = os.stat(path)
    except OSError as error:
        shut = closed(path, myself(), "")
        yield problem(
            name, *(shut or (f"{shown}: {error.strerror}", "correct the command's path in the configuration"))
        )
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
