"""Budgets by day and month, in UTC: what was used since the period began, by earlier processes, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
import trio
from allowance_settings import NOTHING, USD, cost, daily, denied, got, monthly, per_tenant, tokens
from clocks import Clock

from vastar_runtime.policies.allowance import (
    RESERVED_RETRY_MS,
    Allowance,
    AllowanceKey,
    AllowanceRefused,
    Amount,
    Calendar,
)
from vastar_runtime.policies.local_allowances import LocalAllowances
from vastar_runtime.policies.use_windows import period_ends_at_s, period_starts_at_s

UsedBefore = Callable[[AllowanceKey, int], Awaitable[Amount]]


def unix(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]


@pytest.fixture
def unix_clock() -> Clock:
    clock = Clock()
    clock.now = unix(2026, 2, 10, 12)
    return clock


@pytest.fixture
def allowances(clock: Clock, unix_clock: Clock) -> LocalAllowances:
    return LocalAllowances(clock, unix_clock)


async def use(allowances: LocalAllowances, allowance: Allowance, amount: Amount) -> None:
    allowances.settle(got(await allowances.reserve([allowance], amount)), amount)


async def refusal(allowances: LocalAllowances, allowance: Allowance, amount: Amount) -> AllowanceRefused:
    return denied(await allowances.reserve([allowance], amount))


@pytest.mark.parametrize(
    ("period", "now", "starts", "ends"),
    [
        ("day", (2026, 2, 10, 12, 30), (2026, 2, 10), (2026, 2, 11)),
        ("day", (2026, 2, 10), (2026, 2, 10), (2026, 2, 11)),
        ("day", (2026, 2, 10, 23, 59, 59), (2026, 2, 10), (2026, 2, 11)),
        ("month", (2026, 2, 1), (2026, 2, 1), (2026, 3, 1)),
        ("month", (2026, 2, 28, 23, 59, 59), (2026, 2, 1), (2026, 3, 1)),
        ("month", (2028, 2, 29, 1), (2028, 2, 1), (2028, 3, 1)),
        ("month", (2026, 12, 31), (2026, 12, 1), (2027, 1, 1)),
        ("month", (2026, 1, 31, 5), (2026, 1, 1), (2026, 2, 1)),
    ],
)
def test_days_and_months_begin_and_end_in_utc(
    period: str, now: tuple[int, ...], starts: tuple[int, ...], ends: tuple[int, ...]
) -> None:
    assert period_starts_at_s(period, unix(*now)) == unix(*starts)  # type: ignore[arg-type]
    assert period_ends_at_s(period, unix(*starts)) == unix(*ends)  # type: ignore[arg-type]


async def test_a_budget_is_there_again_when_its_month_begins(allowances: LocalAllowances, unix_clock: Clock) -> None:
    await use(allowances, monthly(50 * USD), cost(50 * USD))
    refused = await refusal(allowances, monthly(50 * USD), cost(1))
    assert (refused.used, refused.reserved) == (50 * USD, 0)
    assert refused.retry_after_ms == (unix(2026, 3, 1) - unix(2026, 2, 10, 12)) * 1000
    unix_clock.now = unix(2026, 3, 1) - 0.25
    assert (await refusal(allowances, monthly(50 * USD), cost(1))).retry_after_ms == 250
    unix_clock.now = unix(2026, 3, 1)
    got(await allowances.reserve([monthly(50 * USD)], cost(50 * USD)))


async def test_a_budget_that_others_have_reserved_is_asked_for_again_soon(
    allowances: LocalAllowances, unix_clock: Clock
) -> None:
    got(await allowances.reserve([daily(100)], tokens(100)))
    assert (await refusal(allowances, daily(100), tokens(1))).retry_after_ms == RESERVED_RETRY_MS
    unix_clock.now = unix(2026, 2, 10, 23, 59, 59)
    assert (await refusal(allowances, daily(100), tokens(1))).retry_after_ms == RESERVED_RETRY_MS


async def test_what_is_in_flight_at_the_end_of_a_day_counts_in_the_day_it_is_settled_in(
    allowances: LocalAllowances, unix_clock: Clock
) -> None:
    held = got(await allowances.reserve([daily(100)], tokens(60)))
    unix_clock.now = unix(2026, 2, 11, 0, 0, 1)
    refused = await refusal(allowances, daily(100), tokens(41))
    assert (refused.used, refused.reserved) == (0, 60)
    allowances.settle(held, tokens(60))
    refused = await refusal(allowances, daily(100), tokens(41))
    assert (refused.used, refused.reserved) == (60, 0)


async def test_a_clock_set_back_over_midnight_does_not_bring_the_day_back(
    allowances: LocalAllowances, unix_clock: Clock
) -> None:
    unix_clock.now = unix(2026, 2, 11, 0, 0, 1)
    await use(allowances, daily(100), tokens(100))
    unix_clock.now = unix(2026, 2, 10, 23, 59, 59)
    assert (await refusal(allowances, daily(100), tokens(1))).retry_after_ms == 86_401_000
    unix_clock.now = unix(2026, 2, 11, 0, 0, 1)
    assert (await refusal(allowances, daily(100), tokens(1))).used == 100


async def test_a_clock_that_was_years_ahead_does_not_lock_out_for_years(
    allowances: LocalAllowances, unix_clock: Clock
) -> None:
    unix_clock.now = unix(2099, 1, 1)
    await use(allowances, daily(100), tokens(100))
    unix_clock.now = unix(2026, 2, 10, 12)
    assert (await refusal(allowances, daily(100), tokens(1))).retry_after_ms == 12 * 3_600_000
    unix_clock.now = unix(2026, 2, 11)
    await use(allowances, daily(100), tokens(100))


async def test_a_budget_of_a_month_that_becomes_one_of_a_day_keeps_what_is_used_today(
    allowances: LocalAllowances, unix_clock: Clock
) -> None:
    month = monthly(100, name="b")
    day = Allowance(month.key, 100, "cost", Calendar("day"))
    await use(allowances, month, cost(70))
    assert (await refusal(allowances, day, cost(31))).used == 70
    unix_clock.now = unix(2026, 2, 11)
    await use(allowances, day, cost(100))


# --- what was used before ---


class Ledger:
    """Knows what was used before, as soon as it is told to answer."""

    def __init__(self, amount: Amount = NOTHING) -> None:
        self.amount = amount
        self.asked: list[tuple[AllowanceKey, int]] = []
        self.may_answer = trio.Event()

    async def __call__(self, key: AllowanceKey, since_unix_s: int) -> Amount:
        self.asked.append((key, since_unix_s))
        await self.may_answer.wait()
        return self.amount


async def test_a_budget_begins_with_what_was_used_before_and_is_asked_about_once(
    clock: Clock, unix_clock: Clock
) -> None:
    ledger = Ledger(Amount(5, 40 * USD))
    ledger.may_answer.set()
    allowances = LocalAllowances(clock, unix_clock, ledger)
    assert (await refusal(allowances, monthly(50 * USD), cost(11 * USD))).used == 40 * USD
    await use(allowances, monthly(50 * USD), cost(10 * USD))
    assert ledger.asked == [(monthly(0).key, unix(2026, 2, 1))]
    assert (await refusal(allowances, daily(10), tokens(6))).used == 5
    assert ledger.asked[1:] == [(daily(0).key, unix(2026, 2, 10))]
    unix_clock.now = unix(2026, 3, 1)
    await use(allowances, monthly(50 * USD), cost(50 * USD))
    assert len(ledger.asked) == 2, "all of this month was counted here"


async def test_requests_that_come_meanwhile_wait_for_the_same_answer(
    clock: Clock, unix_clock: Clock, autojump_clock: trio.testing.MockClock
) -> None:
    ledger = Ledger(tokens(90))
    allowances = LocalAllowances(clock, unix_clock, ledger)
    decisions: list[bool] = []

    async def one() -> None:
        decisions.append(not isinstance(await allowances.reserve([daily(100)], tokens(4)), AllowanceRefused))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        assert decisions == []
        ledger.may_answer.set()
    assert sum(decisions) == 2
    assert len(ledger.asked) == 1


async def test_who_is_cancelled_while_waiting_for_the_answer_leaves_it_under_way_for_the_others(
    clock: Clock, unix_clock: Clock, autojump_clock: trio.testing.MockClock
) -> None:
    ledger = Ledger(tokens(90))
    allowances = LocalAllowances(clock, unix_clock, ledger, max_keys=1)
    scope = trio.CancelScope()
    used: list[int] = []

    async def cancelled() -> None:
        with scope:
            await allowances.reserve([daily(100)], tokens(4))

    async def stays() -> None:
        used.append((await refusal(allowances, daily(100), tokens(11))).used)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancelled)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(stays)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        ledger.may_answer.set()
    assert used == [90]
    assert len(ledger.asked) == 1


async def test_a_sliding_window_is_nothing_to_ask_the_ledger_about(clock: Clock, unix_clock: Clock) -> None:
    allowances = LocalAllowances(clock, unix_clock, Ledger())
    await use(allowances, per_tenant(100), tokens(5))


async def test_a_budget_that_was_lifted_for_a_while_learns_what_was_used_meanwhile(
    clock: Clock, unix_clock: Clock
) -> None:
    ledger = Ledger(tokens(10))
    ledger.may_answer.set()
    allowances = LocalAllowances(clock, unix_clock, ledger)
    held = got(await allowances.reserve([daily(100)], tokens(20)))
    await allowances.settle_policies(lambda key: False)
    allowances.settle(held, tokens(20))
    ledger.amount = tokens(75)
    await allowances.settle_policies(lambda key: True)
    assert (await refusal(allowances, daily(100), tokens(26))).used == 75
    assert len(ledger.asked) == 2


async def test_without_a_ledger_a_budget_that_was_lifted_remembers_its_use(allowances: LocalAllowances) -> None:
    await use(allowances, daily(100), tokens(60))
    await allowances.settle_policies(lambda key: False)
    assert (await refusal(allowances, daily(100), tokens(41))).used == 60


async def test_a_budget_that_becomes_one_of_a_month_while_its_day_is_asked_about_is_asked_about_again(
    clock: Clock, unix_clock: Clock, autojump_clock: trio.testing.MockClock
) -> None:
    key = AllowanceKey("b", "t", None)
    used_since = {unix(2026, 2, 10): tokens(10), unix(2026, 2, 1): tokens(95)}
    may_answer = trio.Event()

    async def used_before(key: AllowanceKey, since_unix_s: int) -> Amount:
        await may_answer.wait()
        return used_since[since_unix_s]

    allowances = LocalAllowances(clock, unix_clock, used_before)
    decisions: list[bool] = []

    async def one(period: Calendar) -> None:
        decision = await allowances.reserve([Allowance(key, 100, "tokens", period)], tokens(6))
        decisions.append(isinstance(decision, AllowanceRefused))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, Calendar("day"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(one, Calendar("month"))
        await trio.testing.wait_all_tasks_blocked()
        may_answer.set()
    assert decisions == [True, True]
