"""Whether a credential's file may be read by whom it is for, and by nobody else. No secret is read."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator

from vastar_runtime.config import Credential
from vastar_runtime.config.permissions import may_change, user_name
from vastar_runtime.config.quoting import shown_path

from .files import is_read_only, is_within_reach
from .finding import Finding, problem, warning
from .permission import Closed, Reader, closed, myself

_ADVICE = "give it to the daemon's user, with mode 0600"
_MOST_TOLD = 20
_OF_UNITS = ("/run/credentials/", "/var/run/credentials/")


def notes(credentials: Iterable[Credential]) -> list[str]:
    """What ``access`` finds in all files of the configuration, for this user: one line each."""
    lines = [
        f"{finding.name}: {finding.found}; {': '.join(part for part in (finding.remedy, finding.command) if part)}"
        for credential in credentials
        if credential.file is not None
        for finding in access(f"credential {credential.name}", credential.file, myself())
    ]
    more = [f"so it is with {len(lines) - _MOST_TOLD} more"] if len(lines) > _MOST_TOLD else []
    return lines[:_MOST_TOLD] + more


def access(name: str, path: str, who: Reader) -> Iterator[Finding]:
    """Nothing where it is as it should be, is missing, or is no file."""
    try:
        status = os.stat(path)
    except OSError:
        status = None
    if status is not None and not stat.S_ISREG(status.st_mode):
        return
    if (shut := closed_to(path, who)) is not None:
        yield problem(name, *shut)
    if (
        status is not None
        and status.st_mode & (stat.S_IROTH | stat.S_IWOTH)
        and is_within_reach(path)
        and not is_read_only(path)  # secrets that are mounted into a container come like this, where nobody else is
    ):
        yield _open(name, path, status, who)


def closed_to(path: str, who: Reader) -> Closed | None:
    """Why a key may not be read; None: it may, is not there, or that cannot be told."""
    return None if is_of_unit(path) else closed(path, who, _ADVICE)


def is_of_unit(path: str) -> bool:
    """Whether systemd makes the file, for a unit to see while it runs (LoadCredential=)."""
    return path.startswith(_OF_UNITS)


def _open(name: str, path: str, status: os.stat_result, who: Reader) -> Finding:
    make, may_do = (problem, "replace") if status.st_mode & stat.S_IWOTH else (warning, "read")
    can_do_without = may_change(status) and _can_do_without(who, status)
    return make(
        name,
        f"{shown_path(path)} (of {user_name(status.st_uid)}) has mode {stat.S_IMODE(status.st_mode):04o}: "
        f"anybody on this machine may {may_do} the key",
        _ADVICE
        if not can_do_without
        else ""
        if who.is_daemon
        else f"take that away, unless another user's daemon reads it ({_ADVICE})",
        f"chmod o-rw {shlex.quote(path)}" if can_do_without else None,
    )


def _can_do_without(who: Reader, status: os.stat_result) -> bool:
    """Whether it reads the file as its owner, or with a group."""
    return who.uid == status.st_uid or bool(status.st_gid in (who.groups or ()) and status.st_mode & stat.S_IRGRP)
