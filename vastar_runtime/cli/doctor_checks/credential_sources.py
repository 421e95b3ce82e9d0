"""Where credentials come from: the files, programs and variables that the configuration names. No secret is read."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

from vastar_runtime.config import Credential
from vastar_runtime.config.quoting import shown_path

from .circumstances import Circumstances
from .files import is_within_reach, kind, user_name
from .finding import Finding, ok, problem, warning

_MOST_TOLD = 20


def check_credential_sources(seen: Circumstances) -> Iterator[Finding]:
    """One line for each that something is wrong with, or one for all."""
    credentials = seen.settings.credentials
    wrong = [finding for credential in credentials for finding in _source(seen, credential)]
    yield from wrong[:_MOST_TOLD]
    if credentials and not wrong:
        yield ok("credentials' sources", f"{len(credentials)} found where the configuration says")


def _source(seen: Circumstances, credential: Credential) -> Iterator[Finding]:
    name = f"credential {credential.name}"
    if credential.file is not None:
        yield from _file(name, credential.file)
    elif credential.command is not None:
        yield from _program(name, credential.command[0])
    elif credential.env is not None and not seen.is_running and not seen.environ.get(credential.env):
        yield warning(
            name,
            f"{credential.env} is not set here: a daemon that is started from here cannot use it",
            f"set {credential.env} where the daemon is started",
        )


def _file(name: str, path: str) -> Iterator[Finding]:
    shown = shown_path(path)
    try:
        status = os.stat(path)
    except OSError as error:
        yield problem(name, f"{shown}: {error.strerror}", "write the key into it; the daemon finds it by itself")
        return
    if not stat.S_ISREG(status.st_mode):
        yield problem(name, f"{shown} is {kind(status.st_mode)}, not a file", "write the key into a file there")
    elif status.st_mode & (stat.S_IROTH | stat.S_IWOTH) and is_within_reach(path):
        # Secrets that are mounted into a container come like this, and cannot be changed there.
        make, may_do = (problem, "replace") if status.st_mode & stat.S_IWOTH else (warning, "read")
        yield make(
            name,
            f"{shown} (of {user_name(status.st_uid)}) has mode {stat.S_IMODE(status.st_mode):04o}: "
            f"anybody on this machine may {may_do} the key",
            command=f"chmod o-rw {shlex.quote(path)}",
        )
    elif not status.st_size:
        yield problem(name, f"{shown} is empty", "write the key into it; the daemon finds it by itself")


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
        yield problem(name, f"{shown} may not be run by this user", command=f"chmod +x {shlex.quote(path)}")
    elif status.st_mode & stat.S_IWOTH and is_within_reach(path):
        yield problem(
            name,
            f"{shown} has mode {stat.S_IMODE(status.st_mode):04o}: anybody may change what the daemon runs",
            command=f"chmod o-w {shlex.quote(path)}",
        )
