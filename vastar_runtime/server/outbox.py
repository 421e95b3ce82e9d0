"""The one writer of a connection: a frame is written whole or not at all, whoever is cancelled meanwhile.

Each stream has a queue of its own, and they take turns frame by frame: a stream that fills its window does not keep
the others waiting. Where nothing waits, a frame goes straight to the kernel: for a token of a chat the way through
the writer's task would be a third of its whole delay. Whole answers leave at the end of a turn of the loop: the first
write wakes the process that reads them, and the others find it awake.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

import trio

from .memory import MemoryBudget
from .turns import next_turn

# Refusals are answered at once, so that a client which sends without reading would pile them up.
# Far more than the answers to all requests that a connection may have in flight.
MAX_PENDING_FRAMES = 16_384
# Chunks of one stream that wait to be written. Whatever its window, a client that does not read has the daemon hold
# no more than this; what arrives meanwhile waits in the upstream's socket, and is one larger chunk then.
MAX_WAITING_CHUNKS = 4
# One write takes this much, so that a client's answers of any size leave in few system calls.
WRITE_BYTES = 256 * 1024
# Whole answers leave together in one write where nothing waits: so many, each of no more than this.
MAX_DUE_FRAMES = 8
MAX_DUE_BYTES = 65_536


class ClientDoesNotRead(Exception):
    """More than MAX_PENDING_FRAMES frames wait for a client."""


class Outbox:
    """Frames waiting to be written to a client.

    Args:
        on_first_wait: called once, when ``run`` is needed: a client that reads in time needs no writer.
    """

    def __init__(
        self, stream: trio.abc.SendStream, memory: MemoryBudget, on_first_wait: Callable[[], None] | None = None
    ) -> None:
        self._stream = stream
        self._memory = memory
        self._queues: dict[int, deque[bytes]] = {}
        self._turns: deque[int] = deque()
        self._room: dict[int, trio.Event] = {}
        self._pending = 0
        self._is_writing = False
        self._due: list[tuple[int, bytes]] = []  # frames of the next turn that nothing stands before
        self._is_due = False  # what waits is to be written in the next turn
        self._rest = b""  # of what the kernel took in part
        self._on_first_wait = on_first_wait
        self._wake = trio.Event()
        self._is_finishing = False
        self._drained = trio.Event()
        self._drained.set()

    def put(self, frame: bytes, request_id: int = 0, *, may_wait: bool = False) -> None:
        """Queue a frame behind those of the same request.

        Args:
            may_wait: for the next turn of the loop.

        Raises:
            ClientDoesNotRead: the connection must be dropped.
        """
        if not self._pending and not self._is_writing:
            if may_wait and len(frame) <= MAX_DUE_BYTES:
                self._due.append((request_id, frame))
                if len(self._due) == 1:
                    next_turn(self._flush)
                elif len(self._due) == MAX_DUE_FRAMES:
                    self._flush()
                return
            if not may_wait and not self._due:
                # The rest of a frame is first in turn, so that nothing comes between its parts.
                frame = frame[self._write_now(frame) :]
                if not frame:
                    return
        self._queue_due()
        self._queue(frame, request_id)
        if not may_wait or self._is_writing:
            if not self._is_due:
                self._wake_writer()
        elif not self._is_due:
            self._is_due = True
            next_turn(self._flush)

    def _queue_due(self) -> None:
        """What is due is due still, but something comes behind it."""
        due, self._due = self._due, []
        for request_id, frame in due:
            self._queue(frame, request_id)
            self._is_due = True

    def _queue(self, frame: bytes, request_id: int) -> None:
        if self._pending >= MAX_PENDING_FRAMES:
            raise ClientDoesNotRead(f"{MAX_PENDING_FRAMES} frames wait to be read")
        queue = self._queues.get(request_id)
        if queue is None:
            queue = self._queues[request_id] = deque()
            self._turns.append(request_id)
        queue.append(frame)
        self._pending += 1
        self._memory.add(len(frame))
        if self._drained.is_set():
            self._drained = trio.Event()

    def full(self, request_id: int) -> trio.Event | None:
        """None while a stream may put another chunk; else what it must wait for. One waits for each request."""
        waiting = len(self._queues.get(request_id, ()))
        # When memory is short, one chunk keeps a stream going, and brings the event that lets it go on.
        if waiting < MAX_WAITING_CHUNKS and not (waiting and self._memory.is_exhausted):
            return None
        return self._room.setdefault(request_id, trio.Event())

    async def run(self) -> None:
        """Write frames until cancelled, or, after ``finish``, until all are written.

        Raises:
            trio.BrokenResourceError: the client is gone.
        """
        while True:
            await self._wake.wait()
            data, self._rest = self._rest or self._next_batch(), b""
            if data:
                self._is_writing = True
                await self._stream.send_all(data)
                self._is_writing = False
                self._memory.release(len(data))
            elif self._is_finishing:
                return
            if not self._pending:
                self._drained.set()
                if not self._is_finishing:
                    self._wake = trio.Event()

    def finish(self) -> None:
        """Let ``run`` end once everything is written."""
        self._is_finishing = True
        self._queue_due()
        self._wake_writer()

    async def drained(self) -> None:
        """Wait until every frame has been handed to the kernel."""
        self._queue_due()
        await self._drained.wait()

    def _wake_writer(self) -> None:
        on_first_wait, self._on_first_wait = self._on_first_wait, None
        if on_first_wait is not None:
            on_first_wait()
        self._wake.set()

    def _write_now(self, frame: bytes) -> int:
        """How many bytes of a frame the kernel takes at once."""
        if not isinstance(self._stream, trio.SocketStream):
            return 0
        try:
            return os.write(self._stream.socket.fileno(), frame)
        except OSError:
            return 0  # it is full, or the client is gone: the writer waits, or says so

    def _flush(self) -> None:
        """Write what waits, as far as the kernel takes it now; the rest is the writer's."""
        self._is_due = False
        if self._due:
            due, self._due = self._due, []
            data = due[0][1] if len(due) == 1 else b"".join([frame for _, frame in due])
            self._rest = data[self._write_now(data) :]
            if not self._rest:
                return
            self._memory.add(len(self._rest))
            self._drained = trio.Event()
        elif self._is_writing or not self._pending:
            return
        else:
            data = self._next_batch()
            written = self._write_now(data)
            self._memory.release(written)
            self._rest = data[written:]
        if self._rest or self._pending:
            self._is_writing = bool(self._rest)
            self._wake_writer()
        else:
            self._drained.set()

    def _next_batch(self) -> bytes:
        batch: list[bytes] = []
        size = 0
        while self._turns and size < WRITE_BYTES:
            request_id = self._turns.popleft()
            queue = self._queues[request_id]
            frame = queue.popleft()
            if (room := self._room.pop(request_id, None)) is not None:
                room.set()
            if queue:
                self._turns.append(request_id)
            else:
                del self._queues[request_id]
            batch.append(frame)
            size += len(frame)
        self._pending -= len(batch)
        return batch[0] if len(batch) == 1 else b"".join(batch)
