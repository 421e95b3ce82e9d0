"""The group that is to own the socket's file: whether this machine has it, and where it was named."""

from __future__ import annotations

import grp
from collections.abc import Mapping

from .quoting import quoted
from .settings import KeyPath, Listen

SOCKET_GROUP: KeyPath = ("listen", "socket_group")
MAX_GROUP_ID = 2**32 - 2  # chown(2) takes 2^32 - 1 for "leave it"


def group_id(group: str) -> int:
    """Of a name or a number.

    Raises:
        LookupError: there is no such group on this machine.
    """
    if group.isascii() and group.isdigit() and len(group) <= 10 and int(group) <= MAX_GROUP_ID:
        return int(group)
    return grp.getgrnam(group).gr_gid


def missing_group(listen: Listen, sources: Mapping[KeyPath, str]) -> str | None:
    """Why a daemon with these settings could not start on this machine, and where that stands; None: it could.

    Args:
        sources: as ``Examined`` has them.
    """
    if listen.socket_group is None:
        return None
    try:
        group_id(listen.socket_group)
    except (LookupError, ValueError):  # a name that no group can have, from the command line
        words = f"there is no group {quoted(listen.socket_group)} on this machine"
    else:
        return None
    source = sources.get(SOCKET_GROUP, "")
    if source.startswith("--"):
        return f"{source}: {words}"
    return ": ".join(part for part in (source, "listen.socket_group", words) if part)
