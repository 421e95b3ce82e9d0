"""How much one client's connection may make the daemon hold."""

from __future__ import annotations

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import RequestError

# 1,024 requests of 10 MiB each, with answers of as much, would be 20 GiB. This is room for two dozen of the largest
# at once, and for all of any usual size.
MAX_HELD_BYTES = 256 * 1024 * 1024


class MemoryBudget:
    """Bytes of requests in flight, of bodies being collected, and of answers not yet read by the client."""

    def __init__(self, limit_bytes: int = MAX_HELD_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def add(self, size: int) -> None:
        """Account for something that is held already."""
        self.held_bytes += size

    def release(self, size: int) -> None:
        """It is held no longer."""
        self.held_bytes -= size

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
        self.held_bytes += size


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
