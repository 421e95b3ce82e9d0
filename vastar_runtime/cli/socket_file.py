"""What lies at the socket's path, and why this user cannot use it: in one phrase, and with a way out."""

import os
import shlex
import stat
from typing import NamedTuple

from .doctor_checks.files import closed_directory, kind, user_name
from .process import is_listened_on

ANOTHER_PATH = "choose another path with --socket"


class Closed(NamedTuple):
    """Why a user may not connect.

    Attributes:
        what: the middle of a sentence.
        advice: the end of it.
        command: what mends it, where the socket, or the directory before it, is this user's own.
        is_listened_on: False where nobody is seen to listen.
    """

    what: str
    advice: str
    command: str | None = None
    is_listened_on: bool = True

    @property
    def way_out(self) -> str:
        """The end of a sentence."""
        return self.advice if self.command is None else f"{self.advice}: {self.command}"


def no_socket(path: str) -> str:
    """ "a file of root (uid 0), no socket"; "" where a socket lies, or nothing, or what cannot be looked at."""
    try:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            status = os.lstat(path)  # a link that leads nowhere
    except OSError:
        return ""
    return "" if stat.S_ISSOCK(status.st_mode) else f"{kind(status.st_mode)} of {user_name(status.st_uid)}, no socket"


def closed(path: str) -> Closed:
    """Why this user, whom the system has not let connect, may not.

    Args:
        path: absolute.
    """
    try:
        status = os.stat(path)
    except OSError:
        return _out_of_reach(path)
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
    is_listened = is_listened_on(path) is not False  # where it cannot be told, somebody may
    nobody = "" if is_listened else ", and nobody is seen to listen there"
    if status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWUSR:
        shown = shlex.quote(path)
        return Closed(
            f"permission denied on {path}: it is this user's own, and its {mode} keeps its owner out{nobody}",
            f"end and remove what is there (vastar-runtime clean --socket {shown}), or let its owner in",
            f"chmod u+rw {shown}",
            is_listened,
        )
    owner = user_name(status.st_uid)
    return Closed(
        f"permission denied on {path}: it belongs to {owner}, {mode}{nobody}",
        f"run this as {owner}, or {ANOTHER_PATH}",
        is_listened_on=is_listened,
    )


def _out_of_reach(path: str) -> Closed:
    me, what = os.geteuid(), f"no permission to reach socket {path}"
    try:
        directory = closed_directory(path, me, {os.getegid(), *os.getgroups()})
        status = None if directory is None else os.stat(directory)
    except OSError:
        directory = status = None
    if directory is None or status is None:
        return Closed(f"{what}: a directory on the way is closed to {user_name(me)}", ANOTHER_PATH)
    owner = user_name(status.st_uid)
    what += f": {directory} belongs to {owner}, mode {stat.S_IMODE(status.st_mode):04o}"
    if status.st_uid == me:
        return Closed(what, "let its owner in", f"chmod u+x {shlex.quote(directory)}")
    return Closed(what, f"run this as {owner}, or {ANOTHER_PATH}")
