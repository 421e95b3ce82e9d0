"""Schedules at random: no window ever holds more than the limit, and nobody is refused who would fit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction

import pytest
from allowance_settings import per_tenant, tokens
from clocks import Clock, Schedule, result_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vastar_runtime.policies.allowance import AllowanceRefused, Reserved
from vastar_runtime.policies.local_allowances import LocalAllowances
from vastar_runtime.policies.use_windows import SLOTS

pytestmark = pytest.mark.unmeasured

LIMIT = 100
PERIOD_S = 60


def most_in_a_window(recorded: list[tuple[float, int]], period_s: float) -> int:
    """The most that was used in any interval of this length, its ends included."""
    most = total = first = 0
    for at_s, used in recorded:
        total += used
        while recorded[first][0] < at_s - period_s:
            total -= recorded[first][1]
            first += 1
        most = max(most, total)
    return most


class SlidingWindow(RuleBasedStateMachine):
    """One limit; time passes in milliseconds, exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.clock = Clock()
        self.allowances = LocalAllowances(self.clock, lambda: 0.0)
        self.running: list[tuple[Reserved, int]] = []
        self.recorded: list[tuple[int, int]] = []
        self.refused: tuple[int, int] | None = None
        self.passes(0)

    @rule(ms=st.one_of(st.integers(0, 3_000), st.sampled_from([999, 1000, 1001, 59_999, 60_000, 60_001, 61_000])))
    def passes(self, ms: int) -> None:
        self.now_ms += ms
        self.clock.now = float(Fraction(self.now_ms, 1000) + Fraction(1, 4_000_000))
        self.refused = None

    @rule(estimate=st.integers(0, LIMIT))
    def comes(self, estimate: int) -> None:
        decision = result_of(self.allowances.reserve([per_tenant(LIMIT)], tokens(estimate)))
        if isinstance(decision, Reserved):
            self.running.append((decision, estimate))
            return
        assert self.used_in_the_last(PERIOD_S * 1000 * (SLOTS + 1) // SLOTS) + self.reserved + estimate > LIMIT
        assert decision.retry_after_ms >= 1
        self.refused = (decision.retry_after_ms, estimate)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 10**6), share=st.integers(0, 10))
    def ends(self, which: int, share: int) -> None:
        reserved, estimate = self.running.pop(which % len(self.running))
        used = estimate * share // 10
        self.allowances.settle(reserved, tokens(used))
        self.recorded.append((self.now_ms, used))
        self.refused = None

    @precondition(lambda self: self.refused)
    @rule()
    def is_admitted_when_it_was_told(self) -> None:
        assert self.refused
        retry_after_ms, estimate = self.refused
        reserved_before = self.reserved
        self.passes(retry_after_ms)
        decision = result_of(self.allowances.reserve([per_tenant(LIMIT)], tokens(estimate)))
        if isinstance(decision, AllowanceRefused):
            assert reserved_before > 0, "nothing but use was in the way"
        else:
            self.running.append((decision, estimate))

    @invariant()
    def no_window_holds_more_than_the_limit(self) -> None:
        assert most_in_a_window([(float(at_ms), used) for at_ms, used in self.recorded], PERIOD_S * 1000) <= LIMIT
        assert self.used_in_the_last(PERIOD_S * 1000) + self.reserved <= LIMIT

    @property
    def reserved(self) -> int:
        return sum(estimate for _, estimate in self.running)

    def used_in_the_last(self, ms: int) -> int:
        return sum(used for at_ms, used in self.recorded if at_ms >= self.now_ms - ms)


SlidingWindow.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestSlidingWindow = SlidingWindow.TestCase


@pytest.mark.parametrize("seed", range(5))
def test_fifty_callers_never_use_more_than_a_hundred_tokens_in_any_minute_and_all_of_them_come_to_an_end(
    seed: int,
) -> None:
    dice = random.Random(seed)
    schedule = Schedule(dice)
    allowances = LocalAllowances(schedule, lambda: 1_800_000_000.0)
    limit = per_tenant(LIMIT)
    recorded: list[tuple[float, int]] = []

    def caller() -> Iterator[float]:
        for _ in range(4):
            estimate = dice.randrange(1, 26)
            while True:
                decision = result_of(allowances.reserve([limit], tokens(estimate)))
                if isinstance(decision, Reserved):
                    break
                assert decision.retry_after_ms >= 1
                yield decision.retry_after_ms / 1000 * dice.uniform(1, 1.5)
            used = dice.choice([0, estimate, estimate, dice.randint(0, estimate)])  # some are broken off
            yield dice.choice([0, 0.01, 1, 5, 59.999, 60, 150]) * dice.choice([1, dice.random()])
            allowances.settle(decision, tokens(used))
            recorded.append((schedule.now, used))

    schedule.run(*(caller() for _ in range(50)))
    assert len(recorded) == 200
    assert most_in_a_window(recorded, PERIOD_S) <= LIMIT
    assert most_in_a_window(recorded, PERIOD_S) > LIMIT * 0.7, "the limit is hardly used"
    assert schedule.now < 200 * 25 * PERIOD_S * 3 / LIMIT


@pytest.mark.parametrize("seed", range(3))
def test_short_requests_use_nearly_all_of_the_limit(seed: int) -> None:
    dice = random.Random(seed)
    schedule = Schedule(dice)
    allowances = LocalAllowances(schedule, lambda: 1_800_000_000.0)
    limit = per_tenant(LIMIT)
    recorded: list[tuple[float, int]] = []

    def caller() -> Iterator[float]:
        while schedule.now < 1800:
            decision = result_of(allowances.reserve([limit], tokens(5)))
            if isinstance(decision, Reserved):
                yield dice.uniform(0, 0.2)
                allowances.settle(decision, tokens(5))
                recorded.append((schedule.now, 5))
            else:
                yield decision.retry_after_ms / 1000

    schedule.run(*(caller() for _ in range(20)))
    assert most_in_a_window(recorded, PERIOD_S) == LIMIT
    assert sum(used for _, used in recorded) > 0.9 * LIMIT * 1800 / (PERIOD_S * (SLOTS + 1) / SLOTS)
