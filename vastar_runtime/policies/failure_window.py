"""How many of the latest requests failed: a sliding window."""

from __future__ import annotations

# The window moves by a part at a time: it looks back nine tenths of its length at least, and all of it at most.
PARTS = 10


class FailureWindow:
    """Counts of requests and failures. Its length may change at any count: what it holds counts as of now then."""

    __slots__ = ("_failures", "_latest", "_part_ns", "_requests")

    def __init__(self) -> None:
        self._requests = [0] * PARTS
        self._failures = [0] * PARTS
        self._latest = 0
        self._part_ns = 0

    @property
    def requests(self) -> int:
        """In the window, as of the last count."""
        return sum(self._requests)

    @property
    def failures(self) -> int:
        """Of those."""
        return sum(self._failures)

    def count(self, now_ns: int, window_ns: int, *, failed: bool) -> None:
        """Count one request.

        Args:
            now_ns: of a monotonic clock; should it go back, nothing is forgotten for that.
            window_ns: the window's length, at least PARTS.
        """
        part_ns = window_ns // PARTS
        part = now_ns // part_ns
        if part_ns != self._part_ns:
            self._gather(part)
            self._part_ns = part_ns
        for passed in range(self._latest + 1, min(part, self._latest + PARTS) + 1):
            self._requests[passed % PARTS] = self._failures[passed % PARTS] = 0
        self._latest = part
        self._requests[part % PARTS] += 1
        self._failures[part % PARTS] += failed

    def _gather(self, part: int) -> None:
        requests, failures = self.requests, self.failures
        self._requests = [0] * PARTS
        self._failures = [0] * PARTS
        self._requests[part % PARTS], self._failures[part % PARTS] = requests, failures
        self._latest = part
