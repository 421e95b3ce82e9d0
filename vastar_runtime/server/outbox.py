"""The one writer of a connection: a frame is written whole or not at all, whoever is cancelled meanwhile."""

from __future__ import annotations

from collections import deque

import trio

from .memory import MemoryBudget

# Refusals are answered at once, so that a client which sends without reading would pile them up.
# One read may hold thousands of five-byte frames, all answered before the writer gets its turn.
MAX_PENDING_FRAMES = 16_384
# One write takes this much, so that a client's answers of any size leave in few system calls.
WRITE_BYTES = 256 * 1024


class ClientDoesNotRead(Exception):
    """More than MAX_PENDING_FRAMES frames wait for a client."""


class Outbox:
    """Frames waiting to be written to a client."""

    def __init__(self, stream: trio.abc.SendStream, memory: MemoryBudget) -> None:
        self._stream = stream
        self._memory = memory
        self._frames: deque[bytes] = deque()
        self._wake = trio.Event()
        self._is_finishing = False
        self._drained = trio.Event()
        self._drained.set()

    def put(self, frame: bytes) -> None:
        """Queue a frame.

        Raises:
            ClientDoesNotRead: the connection must be dropped.
        """
        if len(self._frames) >= MAX_PENDING_FRAMES:
            raise ClientDoesNotRead(f"{MAX_PENDING_FRAMES} frames wait to be read")
        self._frames.append(frame)
        self._memory.add(len(frame))
        self._wake.set()
        if self._drained.is_set():
            self._drained = trio.Event()

    async def run(self) -> None:
        """Write frames until cancelled, or, after ``finish``, until all are written.

        Raises:
            trio.BrokenResourceError: the client is gone.
        """
        while True:
            await self._wake.wait()
            if not self._frames:
                return  # woken by finish, not by a frame
            batch, size = self._next_batch()
            await self._stream.send_all(batch)
            self._memory.release(size)
            if not self._frames:
                self._drained.set()
                if not self._is_finishing:
                    self._wake = trio.Event()

    def finish(self) -> None:
        """Let ``run`` end once everything is written."""
        self._is_finishing = True
        self._wake.set()

    async def drained(self) -> None:
        """Wait until every frame has been handed to the kernel."""
        await self._drained.wait()

    def _next_batch(self) -> tuple[bytes, int]:
        batch = [self._frames.popleft()]
        size = len(batch[0])
        while self._frames and size + len(self._frames[0]) <= WRITE_BYTES:
            batch.append(self._frames.popleft())
            size += len(batch[-1])
        return (batch[0] if len(batch) == 1 else b"".join(batch)), size
