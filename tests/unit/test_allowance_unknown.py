"""Budgets whose use before the start cannot be had at once: they go on with what is known, and ask again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio
from allowance_settings import daily, denied, got, monthly, tokens
from clocks import Clock
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from vastar_runtime.policies.allowance import AllowanceKey, AllowanceRefused, Amount
from vastar_runtime.policies.earlier_use import (
    AGAIN_WAIT_S,
    ASK_AGAIN_S,
    RECORDED_AFTER_S,
    USED_BEFORE_TIMEOUT_S,
)
from vastar_runtime.policies.local_allowances import LocalAllowances

NOON = datetime(2026, 2, 10, 12, tzinfo=UTC).timestamp()
DAY_S = 86_400


class Ledger:
    """Knows what was used, and at times does not say.

    Attributes:
        is_late: seconds until it answers.
    """

    def __init__(self, used: int = 0) -> None:
        self.used = used
        self.how = "answers"
        self.is_late = 0.0
        self.asked_at_s: list[float] = []

    async def __call__(self, key: AllowanceKey, since_unix_s: int) -> Amount:
        self.asked_at_s.append(trio.current_time())
        if self.how == "fails":
            raise OSError("disk 'secret' is gone")
        if self.how == "hangs":
            await trio.sleep_forever()
        await trio.sleep(self.is_late)
        return tokens(self.used)


@pytest.fixture
def unix_clock() -> Clock:
    clock = Clock()
    clock.now = NOON
    return clock


async def use(allowances: LocalAllowances, count: int, ledger: Ledger | None = None, tenant: str = "batch") -> bool:
    """Whether there was room; what is used is recorded at once, if there is a ledger to do it."""
    decision = await allowances.reserve([daily(150, tenant)], tokens(count))
    if isinstance(decision, AllowanceRefused):
        return False
    if ledger is not None:
        ledger.used += count
    allowances.settle(decision, tokens(count))
    return True


async def used(allowances: LocalAllowances) -> int:
    return denied(await allowances.reserve([daily(0)], tokens(1))).used


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_a_ledger_that_does_not_answer_for_a_while_costs_no_more_than_what_was_used_in_that_time(
    unix_clock: Clock, autojump_clock: MockClock, how: str
) -> None:
    ledger = Ledger(126)
    ledger.how = how
    allowances = LocalAllowances(trio.current_time, unix_clock, ledger)
    with capture_logs() as lines:
        assert await use(allowances, 60, ledger)
        assert trio.current_time() == pytest.approx(0 if how == "fails" else USED_BEFORE_TIMEOUT_S)
        ledger.how = "answers"
        await trio.sleep(ASK_AGAIN_S)
        assert not await use(allowances, 60, ledger)
        assert await used(allowances) == 186
    assert lines == [
        {
            "event": "a budget begins with what is known here, until what was used before can be had",
            "log_level": "warning",
            "budget": "batch-daily",
            "tenant": "batch",
            "error": "OSError: disk … is gone" if how == "fails" else "no answer within 1 s",
        }
    ]


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_requests_hardly_wait_for_a_ledger_that_does_not_answer_and_it_is_asked_once_a_second_at_most(
    unix_clock: Clock, autojump_clock: MockClock, how: str
) -> None:
    ledger = Ledger()
    ledger.how = how
    allowances = LocalAllowances(trio.current_time, unix_clock, ledger)
    got(await allowances.reserve([daily(10**6)], tokens(1)))
    longest_s = 0.0
    with capture_logs() as lines:
        while trio.current_time() < 20:
            began_at_s = trio.current_time()
            got(await allowances.reserve([daily(10**6)], tokens(1)))
            longest_s = max(longest_s, trio.current_time() - began_at_s)
            await trio.sleep(0.01)
    assert longest_s == pytest.approx(0 if how == "fails" else AGAIN_WAIT_S)
    pauses_s = [later - earlier for earlier, later in zip(ledger.asked_at_s, ledger.asked_at_s[1:], strict=False)]
    assert min(pauses_s) >= ASK_AGAIN_S
    assert len(pauses_s) >= 9
    assert lines == []


async def test_tenants_without_an_answer_are_said_once(unix_clock: Clock) -> None:
    ledger = Ledger()
    ledger.how = "fails"
    allowances = LocalAllowances(trio.current_time, unix_clock, ledger)
    with capture_logs() as lines:
        for tenant in ("a", "b\n", "c"):
            assert await use(allowances, 150, tenant=tenant)
            assert not await use(allowances, 1, tenant=tenant)
    assert [line["tenant"] for line in lines] == ["a"]


async def test_an_answer_that_comes_when_nobody_waits_counts_what_is_used_after_it(
    unix_clock: Clock, autojump_clock: MockClock
) -> None:
    ledger = Ledger(50)
    ledger.how = "fails"
    allowances = LocalAllowances(trio.current_time, unix_clock, ledger)
    assert await use(allowances, 10, ledger)
    ledger.how, ledger.is_late = "answers", 0.5
    await trio.sleep(ASK_AGAIN_S)
    assert await use(allowances, 20, ledger)
    held = got(await allowances.reserve([daily(150)], tokens(30)))
    await trio.sleep(0.5)
    allowances.settle(held, tokens(30))
    assert await used(allowances) == 110


async def test_what_other_processes_record_late_is_counted_when_they_have(
    unix_clock: Clock, autojump_clock: MockClock
) -> None:
    ledger = Ledger(100)
    ledger.how = "fails"
    allowances = LocalAllowances(trio.current_time, unix_clock, ledger)
    assert await use(allowances, 40)  # another process records it, and cannot yet
    ledger.how = "answers"
    await trio.sleep(ASK_AGAIN_S)
    assert await used(allowances) == 100
    ledger.used += 40
    await trio.sleep(ASK_AGAIN_S)
    await used(allowances)
    await wait_all_tasks_blocked()
    assert await used(allowances) == 140
    await trio.sleep(RECORDED_AFTER_S)
    await used(allowances)
    asked = len(ledger.asked_at_s)
    await trio.sleep(RECORDED_AFTER_S)
    assert await used(allowances) == 140
    assert len(ledger.asked_at_s) == asked


async def test_an_answer_about_a_day_that_is_over_is_not_counted_in_the_next(
    unix_clock: Clock, autojump_clock: MockClock
) -> None:
    ledger = Ledger(149)
    ledger.is_late = 0.5
    allowances = LocalAllowances(trio.current_time, unix_clock, ledger)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, allowances, 1)
        await trio.sleep(0.25)
        unix_clock.now += DAY_S
        ledger.used = 3
    await trio.sleep(ASK_AGAIN_S)
    assert await used(allowances) == 3


async def test_while_nothing_is_known_a_counter_that_has_counted_is_not_forgotten(
    unix_clock: Clock, autojump_clock: MockClock
) -> None:
    ledger = Ledger(0)
    ledger.how = "fails"
    allowances = LocalAllowances(trio.current_time, unix_clock, ledger, max_keys=1)
    assert await use(allowances, 150)
    for number in range(20):
        await use(allowances, 1, tenant=f"other {number}")
    assert not await use(allowances, 1)


@pytest.mark.parametrize("has_ledger", [True, False])
async def test_a_clock_that_was_ahead_for_a_while_empties_no_budget(
    unix_clock: Clock, autojump_clock: MockClock, has_ledger: bool
) -> None:
    ledger = Ledger(20)
    allowances = LocalAllowances(trio.current_time, unix_clock, ledger if has_ledger else None)
    before = 20 if has_ledger else 0
    assert await use(allowances, 90, ledger)
    for ahead_days in (1, 40):
        unix_clock.now += ahead_days * DAY_S
        assert await used(allowances) == 0
        assert await use(allowances, 5, ledger)
        unix_clock.now -= ahead_days * DAY_S
        before += 5
        assert await used(allowances) == before + 90
    assert len(ledger.asked_at_s) == (3 if has_ledger else 0)
    unix_clock.now += DAY_S
    assert await used(allowances) == 0


async def test_a_clock_that_was_ahead_does_not_have_the_shared_counter_ask_anybody(
    unix_clock: Clock, autojump_clock: MockClock
) -> None:
    ledger = Ledger()
    allowances = LocalAllowances(trio.current_time, unix_clock, ledger, max_keys=1)
    for tenant in ("own", "shared"):
        got(await allowances.reserve([monthly(10, tenant)], Amount(0, 1)))
    unix_clock.now += 40 * DAY_S
    for _ in range(2):
        got(await allowances.reserve([monthly(10, "shared")], Amount(0, 1)))
        unix_clock.now -= 40 * DAY_S
    assert len(ledger.asked_at_s) == 1
