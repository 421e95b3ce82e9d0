"""What lies at the socket's path, and why this user cannot use it: in one phrase, and with a way out."""

import os
import shlex
import stat
from typing import NamedTuple

from vastar_runtime.config.permissions import UNSEEN, in_the_way, kind, user_name

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
    found = in_the_way(path, os.R_OK | os.W_OK)
    if found is None:
        return Closed(f"permission denied on {path}: {UNSEEN}", ANOTHER_PATH)
    what, let_in, is_listened = f"no permission to reach socket {path}: {found.what}", "let its owner in", True
    if not found.is_directory:
        is_listened = is_listened_on(path) is not False  # where it cannot be told, somebody may
        nobody = "" if is_listened else ", and nobody is seen to listen there"
        what = f"permission denied on {path}: {found.what}{nobody}"
        let_in = f"end and remove what is there (vastar-runtime clean --socket {shlex.quote(path)}), or {let_in}"
    if (command := found.command(os.geteuid())) is not None:
        return Closed(what, let_in, command, is_listened)
    return Closed(what, f"run this as {user_name(found.status.st_uid)}, or {ANOTHER_PATH}", None, is_listened)
