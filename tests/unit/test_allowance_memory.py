"""Counters whose keys clients choose: bounded, and nothing that is used or reserved is forgotten."""

from __future__ import annotations

import tracemalloc

from allowance_settings import NOTHING, daily, denied, got, monthly, per_tenant, tokens
from clocks import Clock, result_of

from vastar_runtime.policies.allowance import Allowance, AllowanceKey, Amount, Reserved
from vastar_runtime.policies.local_allowances import LocalAllowances
from vastar_runtime.policies.use_windows import SLOTS, Now, SlidingUse

UNIX_S = 1_800_000_000.0


def local(clock: Clock, max_keys: int) -> LocalAllowances:
    return LocalAllowances(clock, lambda: UNIX_S, max_keys=max_keys)


def use(allowances: LocalAllowances, allowance: Allowance, count: int) -> bool:
    decision = result_of(allowances.reserve([allowance], tokens(count)))
    if isinstance(decision, Reserved):
        allowances.settle(decision, tokens(count))
        return True
    return False


def test_tenants_who_have_used_nothing_for_a_period_make_room_for_others(clock: Clock) -> None:
    allowances = local(clock, 4)
    for number in range(500):
        assert use(allowances, per_tenant(10, f"tenant {number}", 1), 10)
        clock.now += 0.3
    assert len(allowances) == 4


def test_while_nobody_can_be_forgotten_new_tenants_share_one_counter(clock: Clock) -> None:
    allowances = local(clock, 4)
    for number in range(4):
        assert use(allowances, per_tenant(10, f"old {number}"), 10)
    assert [use(allowances, per_tenant(10, f"new {number}"), 5) for number in range(5)] == [True, True] + [False] * 3
    refused = denied(result_of(allowances.reserve([per_tenant(10, "new")], tokens(1))))
    assert refused.is_shared
    assert refused.allowance == per_tenant(10, "new")
    assert use(allowances, per_tenant(20, "another limit"), 20)
    assert len(allowances) == 6
    assert not use(allowances, per_tenant(10, "old 1"), 1)
    clock.now += 61
    assert all(use(allowances, per_tenant(10, f"new {number}"), 10) for number in range(4))
    assert len(allowances) == 6


def test_who_finds_room_again_begins_with_what_is_used_by_those_who_share(clock: Clock) -> None:
    allowances = local(clock, 1)
    assert use(allowances, per_tenant(10, "old", 1), 10)
    assert use(allowances, per_tenant(10, "new"), 6)
    clock.now += 2
    assert not use(allowances, per_tenant(10, "new"), 5), "there is room, and 6 of the minute's 10 are its own"
    assert use(allowances, per_tenant(10, "new"), 4)
    clock.now += 61
    assert use(allowances, per_tenant(10, "new"), 10)


def test_what_is_reserved_where_all_share_keeps_others_there(clock: Clock) -> None:
    allowances = local(clock, 1)
    assert use(allowances, per_tenant(10, "old", 1), 10)
    held = got(result_of(allowances.reserve([per_tenant(10, "new")], tokens(6))))
    clock.now += 2
    refused = denied(result_of(allowances.reserve([per_tenant(10, "new")], tokens(5))))
    assert (refused.is_shared, refused.reserved) == (True, 6)
    allowances.settle(held, NOTHING)
    assert use(allowances, per_tenant(10, "new"), 10)


def test_a_tenant_with_a_request_in_flight_is_not_forgotten_however_little_it_reserved(clock: Clock) -> None:
    allowances = local(clock, 1)
    held = got(result_of(allowances.reserve([per_tenant(10, "old")], NOTHING)))
    for number in range(20):
        assert use(allowances, per_tenant(100, f"new {number}"), 1)
    allowances.settle(held, tokens(10))
    assert not use(allowances, per_tenant(10, "old"), 1)


def test_a_request_with_three_allowances_and_room_for_one_is_charged_three_times_or_not_at_all(clock: Clock) -> None:
    allowances = local(clock, 1)
    asked = [per_tenant(5), daily(3), monthly(10**9)]
    for _ in range(3):
        allowances.settle(got(result_of(allowances.reserve(asked, Amount(1, 1)))), Amount(1, 1))
    for _ in range(10):
        assert denied(result_of(allowances.reserve(asked, Amount(1, 1)))).allowance == daily(3)
    assert [use(allowances, per_tenant(5), 1) for _ in range(3)] == [True, True, False]
    assert len(allowances) == 3


def test_a_budget_for_all_is_no_counter_of_those_who_share(clock: Clock) -> None:
    allowances = local(clock, 2)
    everyone = Allowance(AllowanceKey("batch-daily", None, None), 10, "tokens", daily(10).window)
    assert use(allowances, everyone, 10)
    assert use(allowances, daily(10, "full"), 1)
    assert use(allowances, daily(10, "shares"), 10)
    assert not use(allowances, daily(10, "shares, too"), 10)


def test_counters_of_settings_that_are_gone_do_not_pile_up(clock: Clock) -> None:
    allowances = local(clock, 1)
    assert use(allowances, daily(10, "old"), 10)
    for limit in range(1, 300):
        assert use(allowances, per_tenant(limit, "new", 1), limit)
        clock.now += 1.1
    assert len(allowances) <= 3


def test_a_window_is_kept_in_a_kilobyte_however_much_happens_in_it(clock: Clock) -> None:
    window = SlidingUse(per_tenant(1, period_s=3600).window)  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(50_000):
            window.record(1, Now(us=number * 1_000_003, unix_us=0))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2048
    assert window.used(Now(us=50_000 * 1_000_003, unix_us=0)) <= 3600 * (SLOTS + 1) // SLOTS + 1
