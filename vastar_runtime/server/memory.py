"""How much one client's connection may make the daemon hold."""

from __future__ import annotations

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import RequestError

# 1,024 requests of 10 MiB each, with answers of as much, would be 20 GiB. This is room for two dozen of the largest
# at once, and for all of any usual size. What is counted is bytes of the wire: Python holds up to three times as much.
MAX_HELD_BYTES = 256 * 1024 * 1024
# Of all connections together; beyond it the kernel would choose whom to end.
MAX_HELD_BYTES_IN_ALL = 1024 * 1024 * 1024


class MemoryBudget:
    """Bytes of requests in flight, of bodies being collected, and of answers not yet read by the client.

    Args:
        parent: a wider budget that this one is part of.
    """

    def __init__(self, limit_bytes: int = MAX_HELD_BYTES, parent: MemoryBudget | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._parent = parent
        self.held_bytes = 0

    def add(self, size: int) -> None:
        """Account for something that is held already."""
        self.held_bytes += size
        if self._parent is not None:
            self._parent.add(size)

    def release(self, size: int) -> None:
        """It is held no longer."""
        self.held_bytes -= size
        if self._parent is not None:
            self._parent.release(size)

    def close(self) -> None:
        """The connection has ended: whatever it held is gone."""
        self.release(self.held_bytes)

    def hold(self, size: int) -> None:
        """Ask to hold more.

        Raises:
            RequestError: RateLimited; nothing is accounted.
        """
        if self.held_bytes + size > self._limit_bytes:
            raise RequestError(
                ErrorClass.RATE_LIMITED,
                f"requests in flight and unread answers of this connection exceed {self._limit_bytes} bytes; "
                "read the answers, or open another connection",
            )
        if self._parent is not None:
            if self._parent.is_full(size):
                raise RequestError(
                    ErrorClass.RATE_LIMITED,
                    "requests in flight and unread answers of all connections fill the runtime's memory; "
                    "try again later",
                )
            self._parent.add(size)
        self.held_bytes += size

    def is_full(self, size: int) -> bool:
        """Whether ``size`` more would be too much."""
        return self.held_bytes + size > self._limit_bytes

    @property
    def is_exhausted(self) -> bool:
        """Whether this budget, or a wider one, has nothing left."""
        return self.is_full(1) or (self._parent is not None and self._parent.is_exhausted)


class Holding:
    """One request's part of a budget; given back as a whole."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._held_bytes = 0

    def hold(self, size: int) -> None:
        """As MemoryBudget.hold."""
        self._budget.hold(size)
        self._held_bytes += size

    def release(self) -> None:
        """Give everything back."""
        self._budget.release(self._held_bytes)
        self._held_bytes = 0
