"""Who may reach and use what lies at a path: whose it is, which mode it has, what stands in the way, and what to do."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Collection
from typing import NamedTuple

from .quoting import shown_path

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# As chmod(1) has them, and as people say.
_WORDS = {
    os.R_OK: ("r", "read"),
    os.R_OK | os.W_OK: ("rw", "read and write"),
    os.X_OK: ("x", "enter"),
    os.W_OK | os.X_OK: ("wx", "write"),
}
UNSEEN = "what is in the way cannot be seen"


class Obstacle(NamedTuple):
    """What keeps a user out: the file, or a directory on the way to it.

    Attributes:
        bits: what the user is to be given there, as for ``os.access``: to read, to read and write, to enter, or to
            make files there.
    """

    path: str
    status: os.stat_result
    bits: int

    @property
    def is_directory(self) -> bool:
        """It is on the way, or the file would have to be made in it."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def what(self) -> str:
        """A sentence about the file: ``it belongs to root (uid 0), mode 0600``."""
        subject = f"the directory {shown_path(self.path)}" if self.is_directory else "it"
        mode = stat.S_IMODE(self.status.st_mode)
        return f"{subject} belongs to {user_name(self.status.st_uid)}, mode {mode:04o}"

    def command(self, uid: int) -> str | None:
        """What lets this user in, if it is the owner, whom the mode keeps out."""
        if uid != self.status.st_uid or (self.status.st_mode >> 6) & self.bits == self.bits:
            return None
        return f"chmod u+{_WORDS[self.bits][0]} {shlex.quote(self.path)}"


class Denied(NamedTuple):
    """
    Attributes:
        what: the rest of a sentence about the file: ``it belongs to root (uid 0), mode 0600``.
        way_out: what its owner can do.
    """

    what: str
    way_out: str


def denied(path: str, bits: int = os.R_OK) -> Denied:
    """Args: as for ``in_the_way``."""
    me = os.geteuid()
    found = in_the_way(path, bits)
    if found is None:
        return Denied(UNSEEN, f"let {user_name(me)} use it")
    if (command := found.command(me)) is not None:
        return Denied(found.what, f"let its owner in: {command}")
    return Denied(found.what, f"let {user_name(me)} {_WORDS[found.bits][1]} it")


def in_the_way(path: str, bits: int) -> Obstacle | None:
    """What keeps this user, whom the system has denied a file, from it; of one that there is not, from making it. None:
    that cannot be seen.

    Args:
        path: absolute.
        bits: what is to be done with it: as in ``Obstacle``.
    """
    real = os.path.realpath(path)
    nearest = nearest_existing(real)
    try:
        return obstacle(path, bits) or Obstacle(
            nearest, os.stat(nearest), bits if nearest == real else os.W_OK | os.X_OK
        )
    except OSError:
        return None


def obstacle(path: str, bits: int, uid: int | None = None, groups: Collection[int] = ()) -> Obstacle | None:
    """The first thing that keeps a user out; None: there is none, or nothing lies there.

    Args:
        path: absolute.
        bits: what is to be done with it: as in ``Obstacle``.
        uid: whom the modes are to let in; None: this user, of whom the system knows more than modes say.
        groups: of that user.

    Raises:
        OSError: something there cannot be looked at.
    """
    real = os.path.realpath(path)
    for place in dict.fromkeys((*_directories(path), *_directories(real), real)):
        needed = bits if place == real else os.X_OK
        try:
            status = os.stat(place)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if place != real and not stat.S_ISDIR(status.st_mode):
            return None
        if not (os.access(place, needed, effective_ids=True) if uid is None else may(status, uid, groups, needed)):
            return Obstacle(place, status, needed)
    return None


def closed_directory(path: str, uid: int, groups: set[int]) -> str | None:
    """The first directory on the way to a path that its mode closes to a user; None: there is none.

    Raises:
        OSError: one of them cannot be looked at.
    """
    found = obstacle(os.path.dirname(path), os.X_OK, uid, groups)
    return None if found is None else found.path


def may(status: os.stat_result, uid: int, groups: Collection[int], bits: int) -> bool:
    """Whether the mode gives a user all of these permissions: 4 to read, 2 to write, 1 to search."""
    if uid == 0:
        return True
    if uid == status.st_uid:
        given = status.st_mode >> 6
    elif status.st_gid in groups:
        given = status.st_mode >> 3
    else:
        given = status.st_mode
    return given & bits == bits


def may_change(status: os.stat_result) -> bool:
    """Whether this user may give it another mode."""
    return os.geteuid() in (0, status.st_uid)


def has_list(path: str) -> bool:
    """Whether an access control list (acl(5)) says more about it than the mode."""
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False


def kind(mode: int) -> str:
    """ "a directory", "a FIFO"."""
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def user_name(uid: int) -> str:
    """ "app (uid 1001)", or "uid 1001" where nobody has that number."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def nearest_existing(path: str) -> str:
    """The path itself, or the nearest directory above it that there is."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _directories(path: str) -> list[str]:
    """Those on the way to it, from the root on."""
    parts = path.split(os.sep)
    return [os.sep.join(parts[:number]) or os.sep for number in range(1, len(parts))]
