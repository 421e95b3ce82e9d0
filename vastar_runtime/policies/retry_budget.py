"""How many retries may be under way with an origin: a share of its requests, so that retries cannot bury it."""

from __future__ import annotations

import heapq
import math
from types import TracebackType

import msgspec

from vastar_runtime.config.policy import RetryPolicy

MAX_LISTED_ORIGINS = 100
# 0.29 * 100 is a little less than 29 in floating point, and must not become 28.
_ROUNDING = 1e-9


class OriginRetries(msgspec.Struct, frozen=True):
    """One origin with retries under way: its requests, and how many of them are retrying."""

    origin: str
    active: int
    retrying: int


class RetryStatistics(msgspec.Struct, frozen=True):
    """A snapshot.

    Attributes:
        active, retrying: requests, now; those that are retrying are among the active ones.
        retried, denied: retries, since the start.
        origins: those with retries under way, most retrying first; at most 100.
    """

    active: int
    retrying: int
    retried: int
    denied: int
    origins: tuple[OriginRetries, ...]


class _Origin:
    """Kept only while it has requests under way."""

    __slots__ = ("active", "retrying")

    def __init__(self) -> None:
        self.active = 0
        self.retrying = 0


def allowed_retries(policy: RetryPolicy, active: int) -> int:
    """How many may be under way with an origin that has so many requests."""
    return max(policy.budget_minimum, math.floor(policy.budget_ratio * active + _ROUNDING))


class RetryBudget:
    """Use: ``with budget.request(origin) as retries: ... if retries.try_retry(policy): ...``"""

    def __init__(self) -> None:
        self._origins: dict[str, _Origin] = {}
        self._retried = 0
        self._denied = 0

    def request(self, origin: str) -> RequestRetries:
        """One request to this origin; it counts inside the ``with`` block."""
        return RequestRetries(self, origin)

    def statistics(self) -> RetryStatistics:
        """What is under way now."""
        origins = self._origins
        retrying = ((origin.retrying, name) for name, origin in origins.items() if origin.retrying)
        return RetryStatistics(
            active=sum(origin.active for origin in origins.values()),
            retrying=sum(origin.retrying for origin in origins.values()),
            retried=self._retried,
            denied=self._denied,
            origins=tuple(
                OriginRetries(name, origins[name].active, count)
                for count, name in heapq.nlargest(MAX_LISTED_ORIGINS, retrying)
            ),
        )

    def _begin(self, name: str) -> _Origin:
        origin = self._origins.get(name)
        if origin is None:
            origin = self._origins[name] = _Origin()
        origin.active += 1
        return origin

    def _end(self, name: str, origin: _Origin) -> None:
        origin.active -= 1
        if not origin.active:
            del self._origins[name]

    def _try_retry(self, policy: RetryPolicy, origin: _Origin) -> bool:
        if origin.retrying >= allowed_retries(policy, origin.active):
            self._denied += 1
            return False
        self._retried += 1
        origin.retrying += 1
        return True


class RequestRetries:
    """One request's part of its origin's budget; it holds at most one retry, and nothing after its ``with`` block."""

    __slots__ = ("_budget", "_is_retrying", "_name", "_origin")

    def __init__(self, budget: RetryBudget, name: str) -> None:
        self._budget = budget
        self._name = name
        self._origin: _Origin | None = None
        self._is_retrying = False

    def __enter__(self) -> RequestRetries:
        self._origin = self._budget._begin(self._name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """What the end of the ``with`` block does."""
        self.retry_ended()
        assert self._origin is not None
        self._budget._end(self._name, self._origin)

    def try_retry(self, policy: RetryPolicy) -> bool:
        """Take leave for one more attempt, its backoff included; False: the budget is spent, deliver what came.

        A retry that this request made before has ended by now, and is given back first: in the same step, so that a
        request's second retry does not compete with the many that wait for their first.
        """
        assert self._origin is not None
        self.retry_ended()
        self._is_retrying = self._budget._try_retry(policy, self._origin)
        return self._is_retrying

    def retry_ended(self) -> None:
        """The retry has brought a head to deliver: however long its body takes, it is a request like any other."""
        if self._is_retrying:
            assert self._origin is not None
            self._is_retrying = False
            self._origin.retrying -= 1
