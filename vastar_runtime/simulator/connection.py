"""The simulator's hold on one TCP connection, for what ASGI has no words for: resets, raw bytes, and who has left."""

import fcntl
import select
import socket
import struct
from typing import Any

import trio

# Where serve.py puts the connection for each of its requests.
STATE_KEY = "connection"

# A reset throws away what is not sent yet. A client that does not read gets so long to take what belongs before it.
MAX_DRAIN_S = 1.0
_DRAIN_STEP_S = 0.01

# tcp(7), linux/sockios.h: bytes of the send queue that were never sent.
_SIOCOUTQNSD = 0x894B
_IS_LOST = select.EPOLLHUP | select.EPOLLERR
_HAS_LEFT = select.EPOLLRDHUP | _IS_LOST


class Connection:
    """One accepted TCP connection. Hypercorn reads and writes it; what is here happens beside that."""

    def __init__(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        """``scope``: of all that is done for the connection."""
        self._stream = stream
        self._scope = scope
        self.was_reset = False
        self.garbage_bytes = 0

    @property
    def has_left(self) -> bool:
        """Whether the client has closed its side, or the connection is closed already."""
        return self._is(_HAS_LEFT)

    @property
    def is_lost(self) -> bool:
        """Whether nothing that is sent arrives any more; a client that closed its side alone may still read."""
        return self._is(_IS_LOST)

    def _is(self, events: int) -> bool:
        if self._stream.socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._stream.socket.fileno(), events)
        return bool(poll.poll(0))

    async def left(self) -> None:
        """Returns when the client has closed its side, or reset the connection.

        Reading would tell as well, but Hypercorn reads, and stops doing so while bytes wait that nobody has asked for;
        a client that sent them and left would be waited for without end.
        """
        if self._stream.socket.fileno() < 0:
            return
        with select.epoll(1) as epoll:
            epoll.register(self._stream.socket.fileno(), _HAS_LEFT)
            await trio.lowlevel.wait_readable(epoll.fileno())

    async def reset(self) -> None:
        """Ends the connection with a TCP reset, after what was sent before, as ``close`` does."""
        with trio.move_on_after(MAX_DRAIN_S):
            while self._unsent():  # noqa: ASYNC110 - the kernel tells of what is acknowledged, not of what is sent
                await trio.sleep(_DRAIN_STEP_S)
        if self._stream.socket.fileno() < 0:
            return  # the client has left in the meantime
        self.was_reset = True
        # Without the linger close() would end it regularly.
        self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Closes it, in the middle of an answer if need be, and cancels all that is done for it.

        Hypercorn takes a closed socket for a client that left, but does not notice while it waits for someone to take
        what it has read, or for the end of an answer with the next request behind it.
        """
        self._stream.socket.close()  # first: Hypercorn shields its writes
        self._scope.cancel()

    async def send_garbage(self, data: bytes) -> None:
        """Sends bytes past the HTTP of this connection, and closes it as ``close`` does."""
        try:
            await self._stream.send_all(data)
            self.garbage_bytes += len(data)
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            pass  # the client has left, or the server is about to close: nobody reads them
        self.close()

    def _unsent(self) -> int:
        """Bytes that the kernel has not sent yet; 0 when the connection is closed."""
        number = self._stream.socket.fileno()
        if number < 0:
            return 0
        answer: bytes = fcntl.ioctl(number, _SIOCOUTQNSD, struct.pack("i", 0))
        return int(struct.unpack("i", answer)[0])


def connection_of(scope: Any) -> Connection:
    """The connection that a request came on."""
    connection: Connection = scope["state"][STATE_KEY]
    return connection
