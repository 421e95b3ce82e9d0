"""Looks at paths, users and processes, for a person's eyes."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from typing import NamedTuple

# A log grows by this in minutes at worst.
LITTLE_SPACE_BYTES = 64 << 20
_STRANGER_UID = -1  # nobody has it
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind(mode: int) -> str:
    """ "a directory", "a FIFO"."""
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def user_name(uid: int) -> str:
    """ "app (uid 1001)", or "uid 1001" where nobody has that number."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def group_name(gid: int) -> str:
    """The group's name, or its number."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def groups_of(uid: int) -> set[int]:
    """The numbers of the groups that a user is in, as the user database has it; none for one that it does not know. A
    process may have others."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return set()
    return set(os.getgrouplist(user.pw_name, user.pw_gid))


def may(status: os.stat_result, uid: int, groups: set[int], bits: int) -> bool:
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


def closed_directory(path: str, uid: int, groups: set[int]) -> str | None:
    """The first directory on the way to a path that a user may not search; None: there is none.

    Raises:
        OSError: one of them cannot be looked at.
    """
    parts = os.path.dirname(path).split(os.sep)
    for number in range(1, len(parts) + 1):
        directory = os.sep.join(parts[:number]) or os.sep
        if not may(os.stat(directory), uid, groups, 1):
            return directory
    return None


def is_within_reach(path: str) -> bool:
    """Whether any user of this machine comes as far as its directory; its mode says what they may do there."""
    try:
        return closed_directory(path, _STRANGER_UID, set()) is None
    except OSError:
        return True


def nearest_existing(path: str) -> str:
    """The path itself, or the nearest directory above it that there is."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


class LittleSpace(NamedTuple):
    """What is left on a disk, as a sentence. ``is_full``: nothing more can be written, or no file be made."""

    found: str
    is_full: bool


def little_space(directory: str, least_bytes: int = LITTLE_SPACE_BYTES) -> LittleSpace | None:
    """What is left on a directory's disk, if it is less than this; None: there is enough.

    Raises:
        OSError: it cannot be looked at.
    """
    room = os.statvfs(directory)
    free = room.f_bavail * room.f_frsize
    if room.f_blocks and free < least_bytes:
        left = f"has {free >> 20} MiB left" if free else "is full"
        return LittleSpace(f"the disk of {directory} {left}", is_full=not free)
    if room.f_files and not room.f_favail:
        return LittleSpace(f"the disk of {directory} has no inode left", is_full=True)
    return None


def may_change(status: os.stat_result) -> bool:
    """Whether this user may give it another mode."""
    return os.geteuid() in (0, status.st_uid)


def has_list(path: str) -> bool:
    """Whether an access control list (acl(5)) says more about it than the mode."""
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False


def is_read_only(path: str) -> bool:
    """Whether nothing can be changed there: secrets that are mounted into a container."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def has_tilde(path: str) -> bool:
    """Whether a shell was to put a home directory in a place where it does not: in quotes, or after an option's "="."""
    return "/~" in path


def make_directory(path: str) -> str | None:
    """The command; None: this user cannot, or the path is a mistake."""
    nearest = nearest_existing(path)
    if has_tilde(path) or not os.path.isdir(nearest) or not os.access(nearest, os.W_OK | os.X_OK):
        return None
    return f"mkdir -p {shlex.quote(path)}"
