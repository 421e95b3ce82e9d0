"""Looks at paths, disks and groups, for a person's eyes."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
from typing import NamedTuple

from vastar_runtime.config.permissions import closed_directory, nearest_existing

# A log grows by this in minutes at worst.
LITTLE_SPACE_BYTES = 64 << 20
_STRANGER_UID = -1  # nobody has it


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


def is_within_reach(path: str) -> bool:
    """Whether any user of this machine comes as far as its directory; its mode says what they may do there."""
    try:
        return closed_directory(path, _STRANGER_UID, set()) is None
    except OSError:
        return True


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
