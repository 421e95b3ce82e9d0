"""Counters of all workers in memory that they share: whoever has few connections takes the next one, and any worker
answers a HealthCheck for all.

Eight bytes each, written by one worker only, read by all; a word is read and written as a whole, and nobody waits.
"""

from __future__ import annotations

import mmap
import os

from vastar_runtime.server.memory import MAX_HELD_BYTES_IN_ALL, MemoryBudget

# A worker's counters have a cache line of their own, so that writing them costs the others nothing.
_WORDS = 8
_ACCEPTS, _CONNECTIONS, _REQUESTS, _HELD_BYTES = range(4)


class Board:
    """All workers' counters.

    Args:
        fd: of its memory, which ``create`` makes and workers inherit.
        slots: how many workers there may be at once.
    """

    def __init__(self, fd: int, slots: int) -> None:
        self.fd = fd
        self.slots = slots
        words = memoryview(mmap.mmap(fd, slots * _WORDS * 8)).cast("q")
        self._accepts, self._connections, self._requests, self._held_bytes = (
            words[field::_WORDS] for field in (_ACCEPTS, _CONNECTIONS, _REQUESTS, _HELD_BYTES)
        )

    @classmethod
    def create(cls, slots: int) -> Board:
        """An empty one; its memory goes with the last process that has it."""
        fd = os.memfd_create("vastar-board", os.MFD_CLOEXEC)
        os.ftruncate(fd, slots * _WORDS * 8)
        return cls(fd, slots)

    @property
    def active_requests(self) -> int:
        """Requests in flight, of all workers."""
        return sum(self._requests)

    @property
    def held_bytes(self) -> int:
        """What all workers hold for their clients."""
        return sum(self._held_bytes)

    def fewest_connections(self) -> int:
        """Of the workers that accept connections; 0: there is none."""
        counts = (count for count, accepts in zip(self._connections, self._accepts, strict=True) if accepts)
        return min(counts, default=0)

    def connections_of(self, slot: int) -> int:
        """Clients' connections of one worker."""
        return self._connections[slot]

    def requests_of(self, slot: int) -> int:
        """Requests in flight of one worker."""
        return self._requests[slot]

    def clear(self, slot: int) -> None:
        """Its worker has ended, and another one may have the slot."""
        for counter in (self._accepts, self._connections, self._requests, self._held_bytes):
            counter[slot] = 0


class Slot:
    """One worker's part of the board, for that worker to write."""

    def __init__(self, board: Board, number: int) -> None:
        self._board = board
        self._number = number

    def accepts(self, accepts: bool) -> None:
        """Whether it takes new connections."""
        self._board._accepts[self._number] = accepts

    def connections(self, count: int) -> None:
        """How many it has."""
        self._board._connections[self._number] = count

    def requests(self, more: int) -> None:
        """So many requests have begun, or, below zero, ended."""
        self._board._requests[self._number] += more

    def holds(self, size_bytes: int) -> None:
        """What it holds for its clients."""
        self._board._held_bytes[self._number] = size_bytes

    def is_ahead_by(self, taken: int) -> int:
        """How many connections it has more than the one that has fewest, beyond a sixteenth of its own.

        Args:
            taken: just now, and not counted yet.
        """
        own = self._board._connections[self._number] + taken
        return own - own // 16 - self._board.fewest_connections()


class SharedMemoryBudget(MemoryBudget):
    """What the sessions of all workers together may hold: this worker's part of that.

    Workers do not wait for each other: when several ask at once, each may get a last piece.
    """

    def __init__(self, board: Board, slot: Slot, limit_bytes: int = MAX_HELD_BYTES_IN_ALL) -> None:
        super().__init__(limit_bytes)
        self._board = board
        self._slot = slot

    def add(self, size: int) -> None:
        super().add(size)
        self._slot.holds(self.held_bytes)

    def release(self, size: int) -> None:
        super().release(size)
        self._slot.holds(self.held_bytes)

    def is_full(self, size: int) -> bool:
        return self._board.held_bytes + size > self._limit_bytes
