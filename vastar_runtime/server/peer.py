"""Asks the kernel who connected."""

from __future__ import annotations

import socket
import struct

import trio

from vastar_runtime.policies.peer import Peer

_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


def peer_of(stream: trio.abc.Stream) -> Peer | None:
    """The client's process; None where the kernel does not say: TCP."""
    if not isinstance(stream, trio.SocketStream) or stream.socket.family != socket.AF_UNIX:
        return None
    pid, uid, gid = _UCRED.unpack(stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(uid=uid, gid=gid, pid=pid)
