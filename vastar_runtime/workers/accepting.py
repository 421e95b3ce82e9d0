"""Accepting on a socket that all workers listen on, so that each has as many connections as the others.

The kernel wakes every idle worker for a new connection, and the first one gets it, which would mostly be the same.
(SO_REUSEPORT would have the kernel choose, for TCP only, by a hash: ten connections spread anyhow over four workers.)
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import trio

# For each connection that this worker has more than the one with fewest, so long a wait before it takes another one:
# long enough for an idle worker to wake up and be faster, short enough for nobody to notice when that one hangs.
YIELD_S = 0.001
MAX_YIELD_S = 0.004
# Of the connections that wait it takes so many in one turn, as long as it is not ahead: see EagerListener.
MAX_IN_A_ROW = 8

# What accept(2) says of a connection that has failed already, and not of the listening socket.
_LOST = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTDOWN}
    | {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}
)


class SharedListener(trio.abc.Listener[trio.SocketStream]):
    """One worker's end of a listening socket.

    Args:
        listening: shared with the other workers.
        is_ahead_by: how many connections this worker has more than is fair, with so many that it has just taken.
    """

    def __init__(self, listening: socket.socket, is_ahead_by: Callable[[int], int]) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._is_ahead_by = is_ahead_by
        self._in_a_row = 0

    async def accept(self) -> trio.SocketStream:
        """A connection that no other worker took.

        Raises:
            OSError: as accept(2), where it is no matter of one connection.
        """
        while True:
            if not 0 < self._in_a_row < MAX_IN_A_ROW or self._is_ahead_by(self._in_a_row) > 0:
                self._in_a_row = 0
                await trio.lowlevel.wait_readable(self._listening)
                ahead_by = self._is_ahead_by(0)
                if ahead_by > 0:
                    await trio.sleep(min(ahead_by * YIELD_S, MAX_YIELD_S))
            self._in_a_row += 1
            try:
                connection, _ = self._listening.accept()
            except BlockingIOError:  # another one was faster, or none waits any more
                self._in_a_row = 0
                continue
            except OSError as error:
                if error.errno == errno.EINVAL:  # shut down by the supervisor, who tells this worker so in a moment
                    await trio.sleep_forever()
                if error.errno not in _LOST:
                    raise
                continue
            return trio.SocketStream(trio.socket.from_stdlib_socket(connection))

    async def aclose(self) -> None:
        """This worker listens no longer; the others do."""
        self._listening.close()
        await trio.lowlevel.checkpoint()
