"""Asks the kernel of a client: who it is, whether it is there, whether it has taken what was sent."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios

import trio

from vastar_runtime.policies.peer import Peer

_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


def peer_of(stream: trio.abc.Stream) -> Peer | None:
    """The client's process; None where the kernel does not say: TCP."""
    if not isinstance(stream, trio.SocketStream) or stream.socket.family != socket.AF_UNIX:
        return None
    pid, uid, gid = _UCRED.unpack(stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(uid=uid, gid=gid, pid=pid)


def is_sending(stream: trio.abc.Stream) -> bool:
    """Whether a TCP client's kernel has yet to take what was written (tcp(7), SIOCOUTQ)."""
    if not isinstance(stream, trio.SocketStream) or stream.socket.family == socket.AF_UNIX:
        return False
    return fcntl.ioctl(stream.socket.fileno(), termios.TIOCOUTQ, bytes(4)) != bytes(4)


def still_reads(stream: trio.abc.Stream) -> bool:
    """After a client's end of sending: whether it is still there. Only a Unix socket can tell (poll(2), POLLHUP)."""
    if not isinstance(stream, trio.SocketStream) or stream.socket.family != socket.AF_UNIX:
        return False
    poll = select.poll()
    poll.register(stream.socket.fileno(), 0)  # POLLHUP is reported without being asked for
    return not poll.poll(0)
