"""Asks the kernel of a client: who it is, whether it is there, whether it has taken what was sent."""

from __future__ import annotations

import ctypes
import fcntl
import select
import socket
import struct
import termios

import trio

from vastar_runtime.policies.peer import Peer

_UCRED = struct.Struct("iII")  # pid, uid, gid: unix(7), SO_PEERCRED
_SO_PEERGROUPS = 59  # asm-generic/socket.h; Linux 4.13
# As many as a process can have (NGROUPS_MAX); Python's own getsockopt takes 256 of them at most.
_groups_buffer = ctypes.create_string_buffer(65_536 * 4)
_getsockopt = ctypes.CDLL(None).getsockopt


def peer_of(stream: trio.abc.Stream) -> Peer | None:
    """The client's process; None where the kernel does not say: TCP."""
    if not isinstance(stream, trio.SocketStream) or stream.socket.family != socket.AF_UNIX:
        return None
    pid, uid, gid = _UCRED.unpack(stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(uid=uid, gid=gid, pid=pid, groups=_groups(stream.socket.fileno()))


def _groups(fd: int) -> tuple[int, ...]:
    """Those that the process had besides its own when it connected. A kernel that does not say knows of none."""
    size = ctypes.c_uint32(len(_groups_buffer))
    if _getsockopt(fd, socket.SOL_SOCKET, _SO_PEERGROUPS, _groups_buffer, ctypes.byref(size)) != 0:
        return ()
    return tuple(memoryview(_groups_buffer)[: size.value].cast("B").cast("I"))


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
