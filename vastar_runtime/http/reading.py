"""Reading from a stream, writing to it and closing it, the short way for a plain socket; and what TLS hides."""

from __future__ import annotations

import os
import ssl
from typing import cast

import trio


async def read_some(stream: trio.abc.ReceiveStream, max_bytes: int) -> bytes:
    """What ``stream.receive_some(max_bytes)`` returns, and its errors.

    trio tries to read before it waits. Where one side waits for the other, as in every request and between the tokens
    of a chat, that is in vain each time, and the exception that tells so is dearer than the read itself.
    """
    if type(stream) is not trio.SocketStream:
        return cast(bytes, await stream.receive_some(max_bytes))
    while True:
        fd = stream.socket.fileno()
        if fd < 0:
            raise trio.ClosedResourceError("this socket was already closed")
        await trio.lowlevel.wait_readable(fd)
        if (data := read_now(fd, max_bytes)) is not None:
            return data


def read_now(fd: int, max_bytes: int) -> bytes | None:
    """What can be read from a socket without waiting; None: nothing yet.

    Raises:
        trio.BrokenResourceError: the connection broke.
    """
    try:
        return os.read(fd, max_bytes)
    except BlockingIOError:
        return None
    except OSError as error:
        raise trio.BrokenResourceError(f"socket connection broken: {error}") from error


def write_some(stream: trio.abc.SendStream, data: bytes) -> int:
    """How many of these bytes the kernel takes at once: all of them, mostly, and then nothing was waited for and no
    other task ran. 0 also where that cannot be known, and where the connection has ended: ``send_all`` says how."""
    if type(stream) is not trio.SocketStream:
        return 0
    try:
        return os.write(stream.socket.fileno(), data)
    except OSError:
        return 0


def under_tls(stream: trio.abc.Stream) -> trio.abc.Stream:
    """What is below all TLS: the socket, as a rule."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream


def has_undecrypted(stream: trio.abc.Stream) -> bool:
    """Bytes that came behind what was read lie in TLS's own buffer, where no socket shows them."""
    while isinstance(stream, trio.SSLStream):
        try:
            # trio offers no read that does not wait. One that finds nothing also takes in session tickets.
            stream._ssl_object.read(1)
        except ssl.SSLWantReadError:
            stream = stream.transport_stream
        except ssl.SSLError:
            return True  # the goodbye, or garbage
        else:
            return True
    return False


async def close_at_once(stream: trio.abc.AsyncResource) -> None:
    """As ``trio.aclose_forcefully``: waits for nothing, says no goodbye. No checkpoint, even when cancelled."""
    if type(stream) is trio.SocketStream:
        stream.socket.close()
        return
    with trio.CancelScope(shield=True):  # a cancelled scope sees its cancellation at its next checkpoint
        await trio.aclose_forcefully(stream)
