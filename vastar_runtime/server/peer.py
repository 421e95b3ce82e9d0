"""Asks the kernel of a client: who it is, whether it is there, whether it has taken what was sent."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios

import structlog
import trio

from vastar_runtime.policies.peer import Peer

_UCRED = struct.Struct("iII")  # pid, uid, gid: unix(7), SO_PEERCRED
_SO_PEERGROUPS = 59  # asm-generic/socket.h; Linux 4.13
_GROUPS_BYTES = 1024  # as much as Python asks for at once: 256 groups

log = structlog.get_logger()


def peer_of(stream: trio.abc.Stream) -> Peer | None:
    """The client's process; None where the kernel does not say: TCP."""
    if not isinstance(stream, trio.SocketStream) or stream.socket.family != socket.AF_UNIX:
        return None
    pid, uid, gid = _UCRED.unpack(stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(uid=uid, gid=gid, pid=pid, groups=_groups(stream, uid))


def _groups(stream: trio.SocketStream, uid: int) -> tuple[int, ...]:
    """Those that the process had besides its own when it connected."""
    try:
        data = stream.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError as error:
        log.warning("a client's groups are not known", uid=uid, reason=os.strerror(error.errno or 0))
        return ()
    assert isinstance(data, bytes)
    return tuple(sorted(memoryview(data).cast("I")))


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
