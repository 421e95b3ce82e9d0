"""The socket of a connection that an event loop serves: who sends does not wait, and nobody else has to wake up."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable

import anyio

from .connection import RECEIVE_BYTES
from .event_loop import call_when_readable


class AsyncSocket:
    """See the module. What the socket does not take at once waits for ``write``, a task of its own.

    Args:
        sock: connected; it is this object's from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._pid = os.getpid()
        self._outgoing: deque[memoryview] = deque()
        self._has_outgoing = anyio.Event()

    def put(self, data: bytes) -> None:
        """Send, now or when there is room.

        Raises nothing: what the daemon sent before it went is still to be read, and who reads learns the rest.
        """
        if not data or self._pid != os.getpid():  # in a forked child, the connection is its parent's
            return
        sent = 0
        if not self._outgoing:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                return
        if sent < len(data):
            self._outgoing.append(memoryview(data)[sent:])
            self._has_outgoing.set()

    async def write(self) -> None:
        """Send what waits, until the connection is lost; see ``put``."""
        try:
            while True:
                while self._outgoing:
                    await anyio.wait_writable(self._socket)
                    data = self._outgoing[0]
                    sent = self._socket.send(data)
                    if sent < len(data):
                        self._outgoing[0] = data[sent:]
                    else:
                        self._outgoing.popleft()
                self._has_outgoing = anyio.Event()
                await self._has_outgoing.wait()
        except OSError:
            pass

    async def readable(self) -> None:
        """Wait until there is something to ``receive``."""
        await anyio.wait_readable(self._socket)

    async def when_readable(self, function: Callable[[], None]) -> None:
        """Call ``function``, which raises nothing, whenever there is something to ``receive``, until cancelled."""
        await call_when_readable(self._socket, function)

    def receive(self) -> bytes:
        """What is there; b"" for nothing.

        Raises:
            OSError, EOFError: the connection is lost.
        """
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise EOFError("it was closed before the answer was complete")
        return data

    def close(self) -> None:
        """Close it; nobody waits for it any more."""
        self._socket.close()
