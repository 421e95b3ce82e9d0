"""An upstream that fails for a minute under 200 requests a second, with no circuit breaker to help: the retry budget
alone keeps what it sees below 1.25 times what was offered."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from random import Random

import pytest

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import RetryPolicy
from vastar_runtime.errors import Failure, UpstreamError
from vastar_runtime.policies.retry import retry_delay_s
from vastar_runtime.policies.retry_budget import RequestRetries, RetryBudget

pytestmark = pytest.mark.unmeasured

OFFERED_PER_S = 200
DURATION_S = 60
POLICY = RetryPolicy()
WITHOUT_BUDGET = RetryPolicy(budget_minimum=10**9)
REFUSED = UpstreamError("connection refused", ErrorClass.TRANSIENT, failure=Failure.UNSENT)


class Storm:
    """Every attempt fails after the same time; the clock is a heap of what happens next.

    Attributes:
        attempted_at_s: when each attempt was made.
        worst: the most attempts made by any moment after the first second, as a multiple of what was offered by then.
    """

    def __init__(self, attempt_s: float, policy: RetryPolicy, seed: int) -> None:
        self.attempted_at_s: list[float] = []
        self.worst = 0.0
        self._attempt_s = attempt_s
        self._policy = policy
        self._random = Random(seed).random
        self.budget = RetryBudget()
        self._offered = 0
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        for number in range(OFFERED_PER_S * DURATION_S):
            self._at(number / OFFERED_PER_S, self._offer)
        while self._due:
            at_s, _, happen = heapq.heappop(self._due)
            happen(at_s)

    @property
    def ratio(self) -> float:
        return len(self.attempted_at_s) / self._offered

    def _at(self, at_s: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (at_s, next(self._numbers), happen))

    def _offer(self, now_s: float) -> None:
        self._offered += 1
        self._attempt(now_s, self.budget.request("origin").__enter__(), 0)

    def _attempt(self, now_s: float, retries: RequestRetries, retries_done: int) -> None:
        self.attempted_at_s.append(now_s)
        if now_s >= 1:
            self.worst = max(self.worst, self.ratio)
        self._at(now_s + self._attempt_s, lambda at_s: self._fail(at_s, retries, retries_done))

    def _fail(self, now_s: float, retries: RequestRetries, retries_done: int) -> None:
        delay_s = retry_delay_s(
            self._policy,
            retries_done=retries_done,
            outcome=REFUSED,
            may_repeat=False,
            remaining_s=math.inf,
            random=self._random,
            unix_now_s=0.0,
        )
        if delay_s is None or not retries.try_retry(self._policy):
            retries.__exit__(None, None, None)
        else:
            self._at(now_s + delay_s, lambda at_s: self._attempt(at_s, retries, retries_done + 1))


@pytest.mark.parametrize(
    ("attempt_s", "expected"),
    [(0.001, 1.20), (0.05, 1.12), (1.0, 1.23), (10.0, 1.24)],
    ids=["1 ms", "50 ms", "1 s", "10 s"],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_retries_add_less_than_a_quarter_however_long_an_attempt_takes(
    attempt_s: float, expected: float, seed: int
) -> None:
    storm = Storm(attempt_s, POLICY, seed)
    assert storm.ratio == pytest.approx(expected, abs=0.015)
    assert storm.worst <= 1.25
    found = storm.budget.statistics()
    assert (found.active, found.retrying, found.origins) == (0, 0, ())
    assert found.retried == len(storm.attempted_at_s) - OFFERED_PER_S * DURATION_S


def test_without_the_budget_it_would_be_three_times_as_many() -> None:
    assert Storm(0.05, WITHOUT_BUDGET, 1).ratio == 3.0
