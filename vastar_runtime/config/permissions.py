"""Why the system denies this user a file, and what to do: whose it is, which mode it has, what stands in the way."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from typing import NamedTuple

from .quoting import shown_path

_LETTERS = ((os.R_OK, "r"), (os.W_OK, "w"), (os.X_OK, "x"))
_VERBS = {"r": "read", "rw": "read and write", "x": "enter", "wx": "write"}


class Denied(NamedTuple):
    """
    Attributes:
        what: the rest of a sentence about the file: ``it belongs to root (uid 0), mode 0600``.
        way_out: what its owner can do.
    """

    what: str
    way_out: str


def denied(path: str, bits: int = os.R_OK) -> Denied:
    """What may stand in the way to a file; of one that there is not, to making it.

    Args:
        path: absolute.
        bits: what is to be done with it, as for ``os.access``.
    """
    path = os.path.realpath(path)
    for directory in _directories(path):
        if os.path.isdir(directory) and not os.access(directory, os.X_OK, effective_ids=True):
            return _denied(directory, os.X_OK, f"the directory {shown_path(directory)}")
    if os.path.lexists(path):
        return _denied(path, bits, "it")
    nearest = next((each for each in reversed(_directories(path)) if os.path.isdir(each)), os.sep)
    return _denied(nearest, os.W_OK | os.X_OK, f"the directory {shown_path(nearest)}")


def user_name(uid: int) -> str:
    """ "app (uid 1001)", or "uid 1001" where nobody has that number."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _directories(path: str) -> list[str]:
    """Those on the way to it, from the root on."""
    parts = path.split(os.sep)
    return [os.sep.join(parts[:number]) or os.sep for number in range(1, len(parts))]


def _denied(path: str, bits: int, subject: str) -> Denied:
    letters = "".join(letter for bit, letter in _LETTERS if bits & bit)
    me = os.geteuid()
    let_in = f"let {user_name(me)} {_VERBS[letters]} it"
    try:
        status = os.stat(path)
    except OSError as error:  # it has gone meanwhile
        return Denied(f"{subject} cannot be looked at ({error.strerror})", let_in)
    what = f"{subject} belongs to {user_name(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}"
    if status.st_uid == me and (status.st_mode >> 6) & bits != bits:
        return Denied(what, f"let its owner in: chmod u+{letters} {shlex.quote(path)}")
    return Denied(what, let_in)
