"""Who is at the other end of a Unix socket, as the kernel says it (unix(7), SO_PEERCRED)."""

from __future__ import annotations

import msgspec


class Peer(msgspec.Struct, frozen=True):
    """The process that connected, as it was then.

    Attributes:
        groups: the others besides ``gid`` (SO_PEERGROUPS).
    """

    uid: int
    gid: int
    pid: int
    groups: tuple[int, ...] = ()
