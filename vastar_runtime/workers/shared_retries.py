"""The supervisor's retry budget: how many retries may be under way with an origin, of all workers together."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import trio

from vastar_runtime.config.policy import RetryPolicy
from vastar_runtime.policies.retry_budget import MAX_LISTED_ORIGINS, OriginRetries, RetryStatistics, allowed_retries

from .messages import AskRetry, Granted


class SharedRetries:
    """Grants retries, which it counts; the requests among which they are the workers count.

    Args:
        count_active: asks the workers how many requests they have under way with an origin.
    """

    def __init__(self, count_active: Callable[[str], Awaitable[int]]) -> None:
        self._count_active = count_active
        self._retrying: Counter[str] = Counter()
        self._rounds: dict[str, _Round] = {}
        self._retried = self._denied = 0

    def listed_origins(self) -> tuple[str, ...]:
        """Those that the statistics list: the ones with most retries under way."""
        return tuple(heapq.nlargest(MAX_LISTED_ORIGINS, self._retrying, key=self._retrying.__getitem__))

    def statistics(self, active: int, with_origins: Mapping[str, int]) -> RetryStatistics:
        """What is under way now.

        Args:
            active: requests, of all workers.
            with_origins: of those, with each of the listed origins.
        """
        retrying = self._retrying
        return RetryStatistics(
            active=active,
            retrying=retrying.total(),
            retried=self._retried,
            denied=self._denied,
            origins=tuple(
                OriginRetries(origin, with_origin, retrying[origin])
                for origin, with_origin in with_origins.items()
                if origin in retrying  # it may have ended while the workers were asked
            ),
        )

    # --- what WorkerRetries asks and tells ---

    def is_free(self, policy: RetryPolicy, origin: str, given_back: int) -> bool:
        """Whether there is leave for one more, once so many are given back, whatever the workers have under way."""
        return self._retrying[origin] - given_back < policy.budget_minimum

    async def active(self, origin: str) -> int:
        """Requests under way with it, of all workers; whoever wants to know meanwhile joins in the asking."""
        while (under_way := self._rounds.get(origin)) is not None:
            await under_way.has_ended.wait()
            if under_way.active is not None:  # else whoever asked was cancelled
                return under_way.active
        asking = self._rounds[origin] = _Round()
        try:
            asking.active = await self._count_active(origin)
        finally:
            del self._rounds[origin]
            asking.has_ended.set()
        return asking.active

    def take(self, policy: RetryPolicy, origin: str, active: int) -> bool:
        """Leave for one more, if so many requests allow it; to be given back."""
        if self._retrying[origin] >= allowed_retries(policy, active):
            self._denied += 1
            return False
        self._retried += 1
        self._retrying[origin] += 1
        return True

    def give_back(self, origin: str) -> None:
        """One has ended."""
        self._retrying[origin] -= 1
        if not self._retrying[origin]:
            del self._retrying[origin]


class _Round:
    """The workers are asked about one origin. Where all fails at once, all of it wants to know the same."""

    __slots__ = ("active", "has_ended")

    def __init__(self) -> None:
        self.active: int | None = None
        self.has_ended = trio.Event()


class WorkerRetries:
    """The retries that one worker's requests hold, by their numbers."""

    def __init__(self, shared: SharedRetries) -> None:
        self._shared = shared
        self._origins: dict[int, str] = {}

    def ask(self, question: AskRetry) -> Granted | Coroutine[Any, Any, Granted]:
        """Whether there is leave for one more; a coroutine, where that hangs on what the workers have under way."""
        if self._shared.is_free(question.policy, question.origin, given_back=question.number in self._origins):
            return self._decide(question, active=0)
        return self._ask_workers(question)

    def ended(self, number: int) -> None:
        """It holds none any more, if it did."""
        if (origin := self._origins.pop(number, None)) is not None:
            self._shared.give_back(origin)

    def close(self) -> None:
        """The worker has gone."""
        for number in list(self._origins):
            self.ended(number)

    async def _ask_workers(self, question: AskRetry) -> Granted:
        return self._decide(question, await self._shared.active(question.origin))

    def _decide(self, question: AskRetry, active: int) -> Granted:
        # What the request held before is given back here, and not before the workers are asked: meanwhile somebody
        # else would take it, and a second retry would compete with the many that wait for their first.
        self.ended(question.number)
        is_granted = self._shared.take(question.policy, question.origin, active)
        if is_granted:
            self._origins[question.number] = question.origin
        return Granted(is_granted)
