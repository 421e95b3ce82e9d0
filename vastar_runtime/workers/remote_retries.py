"""A worker's retry budget: it counts its own requests, and asks the supervisor before each retry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import TracebackType

from vastar_runtime.config.policy import RetryPolicy

from .channel import Channel
from .messages import AskRetry, RetryEnded


class RemoteRetryBudget:
    """The stage.

    Args:
        numbers: of what this worker holds.

    Attributes:
        active: requests under way with each origin.
    """

    def __init__(self, channel: Channel, numbers: Iterator[int]) -> None:
        self._channel = channel
        self._numbers = numbers
        self.active: Counter[str] = Counter()

    def request(self, origin: str) -> _Retries:
        """See RetryBudget."""
        return _Retries(self._channel, self._numbers, self.active, origin)


class _Retries:
    """See RequestRetries."""

    __slots__ = ("_active", "_channel", "_is_retrying", "_number", "_numbers", "_origin")

    def __init__(self, channel: Channel, numbers: Iterator[int], active: Counter[str], origin: str) -> None:
        self._channel = channel
        self._numbers = numbers
        self._active = active
        self._origin = origin
        self._number = 0
        self._is_retrying = False

    def __enter__(self) -> _Retries:
        self._active[self._origin] += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """See RequestRetries."""
        self.retry_ended()
        self._active[self._origin] -= 1
        if not self._active[self._origin]:
            del self._active[self._origin]

    async def try_retry(self, policy: RetryPolicy) -> bool:
        """See RequestRetries; the supervisor gives back the retry that this request made before."""
        self._number = self._number or next(self._numbers)
        granted = await self._channel.ask(AskRetry(self._number, policy, self._origin), lambda _: self._tell_ended())
        self._is_retrying = granted.is_granted
        return self._is_retrying

    def retry_ended(self) -> None:
        """See RequestRetries."""
        if self._is_retrying:
            self._is_retrying = False
            self._tell_ended()

    def _tell_ended(self) -> None:
        self._channel.tell(RetryEnded(self._number))
