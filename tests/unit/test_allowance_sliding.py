"""Limits of tokens in a sliding window, on a clock that the tests move."""

import msgspec
import pytest
from allowance_settings import NOTHING, USD, cost, denied, got, monthly, per_tenant, tokens
from clocks import Clock, result_of

from vastar_runtime.policies.allowance import (
    MAX_AMOUNT,
    RESERVED_RETRY_MS,
    Allowance,
    AllowanceKey,
    Amount,
    Reserved,
    Sliding,
)
from vastar_runtime.policies.local_allowances import LocalAllowances


@pytest.fixture
def allowances(clock: Clock) -> LocalAllowances:
    clock.now = 12_000.0  # where a slot of a minute's window begins
    return LocalAllowances(clock, lambda: 1_800_000_000.0)


def use(allowances: LocalAllowances, allowance: Allowance, count: int) -> None:
    """Reserved and used at once."""
    allowances.settle(got(result_of(allowances.reserve([allowance], tokens(count)))), tokens(count))


def is_admitted(allowances: LocalAllowances, allowance: Allowance, count: int) -> bool:
    """Whether there is room now; nothing is used of it."""
    decision = result_of(allowances.reserve([allowance], tokens(count)))
    if isinstance(decision, Reserved):
        allowances.settle(decision, NOTHING)
    return isinstance(decision, Reserved)


def test_what_is_reserved_counts_in_full_until_it_is_settled(allowances: LocalAllowances, clock: Clock) -> None:
    limit = per_tenant(100)
    first = got(result_of(allowances.reserve([limit], tokens(90))))
    refused = denied(result_of(allowances.reserve([limit], tokens(11))))
    assert (refused.used, refused.reserved, refused.asked) == (0, 90, 11)
    assert refused.retry_after_ms == RESERVED_RETRY_MS
    clock.now += 3600
    assert not is_admitted(allowances, limit, 11), "however long it takes"
    assert is_admitted(allowances, limit, 10)
    allowances.settle(first, tokens(20))
    assert is_admitted(allowances, limit, 80)
    assert not is_admitted(allowances, limit, 81)


def test_use_counts_from_when_it_is_settled_for_a_period_and_up_to_a_slot_more(
    allowances: LocalAllowances, clock: Clock
) -> None:
    limit = per_tenant(100)
    reserved = got(result_of(allowances.reserve([limit], tokens(100))))
    clock.now += 500.25
    allowances.settle(reserved, tokens(100))
    refused = denied(result_of(allowances.reserve([limit], tokens(1))))
    assert (refused.used, refused.reserved, refused.retry_after_ms) == (100, 0, 60_750)
    clock.now += 60.749
    assert denied(result_of(allowances.reserve([limit], tokens(1)))).retry_after_ms == 1
    clock.now += 0.001
    assert is_admitted(allowances, limit, 100)


def test_use_leaves_the_window_as_it_came(allowances: LocalAllowances, clock: Clock) -> None:
    limit = per_tenant(100)
    for _ in range(10):
        use(allowances, limit, 10)
        clock.now += 3
    assert denied(result_of(allowances.reserve([limit], tokens(10)))).retry_after_ms == 31_000
    assert denied(result_of(allowances.reserve([limit], tokens(11)))).retry_after_ms == 34_000
    assert denied(result_of(allowances.reserve([limit], tokens(100)))).retry_after_ms == 58_000
    clock.now += 31
    assert is_admitted(allowances, limit, 10)
    assert not is_admitted(allowances, limit, 11)


def test_use_beyond_what_was_reserved_is_recorded_in_full_and_nothing_is_admitted_until_it_has_gone(
    allowances: LocalAllowances, clock: Clock
) -> None:
    limit = per_tenant(100)
    allowances.settle(got(result_of(allowances.reserve([limit], tokens(10)))), tokens(350))
    assert denied(result_of(allowances.reserve([limit], tokens(0)))).used == 350
    clock.now += 60.999
    assert not is_admitted(allowances, limit, 0)
    clock.now += 0.001
    assert is_admitted(allowances, limit, 100)


def test_who_asks_again_when_told_is_admitted_though_others_hold_reservations(
    allowances: LocalAllowances, clock: Clock
) -> None:
    limit = per_tenant(100)
    use(allowances, limit, 60)
    clock.now += 60.9
    got(result_of(allowances.reserve([limit], tokens(30))))
    refused = denied(result_of(allowances.reserve([limit], tokens(20))))
    assert refused.retry_after_ms == 100, "by then the use is gone; the reservation may stay"
    clock.now += 0.1
    assert is_admitted(allowances, limit, 20)


def test_use_that_alone_leaves_no_room_is_waited_for_whatever_is_reserved(
    allowances: LocalAllowances, clock: Clock
) -> None:
    limit = per_tenant(100)
    held = got(result_of(allowances.reserve([limit], tokens(50))))
    use(allowances, limit, 45)
    refused = denied(result_of(allowances.reserve([limit], tokens(60))))
    assert (refused.used, refused.reserved, refused.retry_after_ms) == (45, 50, 61_000)
    allowances.settle(held, NOTHING)
    assert is_admitted(allowances, limit, 55)


def test_a_request_that_needs_more_than_there_ever_is_is_told_so(allowances: LocalAllowances) -> None:
    never = denied(result_of(allowances.reserve([per_tenant(100)], tokens(101))))
    assert never.never_fits
    assert never.retry_after_ms == 0
    use(allowances, per_tenant(100), 1)
    later = denied(result_of(allowances.reserve([per_tenant(100)], tokens(100))))
    assert not later.never_fits


def test_all_allowances_are_reserved_or_none(allowances: LocalAllowances) -> None:
    wide, tight, money = per_tenant(100, "wide"), per_tenant(10, "tight"), monthly(2 * USD)
    for _ in range(5):
        refused = denied(result_of(allowances.reserve([wide, tight, money], Amount(11, USD))))
        assert (refused.allowance, refused.never_fits) == (tight, True)
    reserved = got(result_of(allowances.reserve([wide, tight, money], Amount(10, USD))))
    assert [reservation.amount for reservation in reserved.reservations] == [10, 10, USD]
    allowances.settle(reserved, Amount(10, 2 * USD))
    assert is_admitted(allowances, wide, 90)
    refused = denied(result_of(allowances.reserve([wide, tight, money], Amount(1, 1))))
    assert refused.allowance == money, "the one that takes longest"
    assert is_admitted(allowances, wide, 90)


def test_keys_are_counted_apart(allowances: LocalAllowances) -> None:
    for key in (
        AllowanceKey("token_limit.per_tenant", "t", None),
        AllowanceKey("token_limit.per_origin", None, "t"),
        AllowanceKey("token_limit.per_tenant_and_origin", "t", "https://a.example"),
        AllowanceKey("token_limit.per_tenant_and_origin", "t", "https://b.example"),
        AllowanceKey("token_limit.per_tenant", "None", None),
        AllowanceKey("token_limit.per_tenant", "", None),
        AllowanceKey("all", None, None),
    ):
        use(allowances, Allowance(key, 10, "tokens", Sliding(60)), 10)
    assert len(allowances) == 7


def test_what_was_used_stays_used_when_a_limit_changes(allowances: LocalAllowances, clock: Clock) -> None:
    held = got(result_of(allowances.reserve([per_tenant(100)], tokens(30))))
    use(allowances, per_tenant(100), 50)
    refused = denied(result_of(allowances.reserve([per_tenant(60)], tokens(1))))
    assert (refused.used, refused.reserved) == (50, 30)
    assert is_admitted(allowances, per_tenant(1000), 920)
    assert not is_admitted(allowances, per_tenant(1000), 921)
    allowances.settle(held, tokens(30))
    clock.now += 61
    assert is_admitted(allowances, per_tenant(60), 60)


def test_a_period_that_changes_keeps_what_it_can(allowances: LocalAllowances, clock: Clock) -> None:
    use(allowances, per_tenant(100, period_s=60), 100)
    clock.now += 30
    assert not is_admitted(allowances, per_tenant(100, period_s=3600), 1)
    clock.now += 3600 - 30
    assert not is_admitted(allowances, per_tenant(100, period_s=3600), 1)
    clock.now += 60
    use(allowances, per_tenant(100, period_s=3600), 100)
    assert not is_admitted(allowances, per_tenant(100, period_s=1), 1)
    clock.now += 61.1
    assert is_admitted(allowances, per_tenant(100, period_s=1), 100)


def test_a_clock_that_goes_back_gives_nothing_away(allowances: LocalAllowances, clock: Clock) -> None:
    use(allowances, per_tenant(100), 50)
    clock.now -= 1000
    use(allowances, per_tenant(100), 50)
    assert not is_admitted(allowances, per_tenant(100), 1)
    clock.now += 1061
    assert is_admitted(allowances, per_tenant(100), 100)


async def test_a_limit_that_is_lifted_is_forgotten_but_not_what_is_in_flight(allowances: LocalAllowances) -> None:
    use(allowances, per_tenant(100, "done"), 100)
    running = got(await allowances.reserve([per_tenant(100, "running")], tokens(100)))
    await allowances.settle_policies(lambda key: False)
    assert len(allowances) == 1
    assert is_admitted(allowances, per_tenant(100, "done"), 100)
    assert not is_admitted(allowances, per_tenant(100, "running"), 1)
    allowances.settle(running, tokens(100))
    await allowances.settle_policies(lambda key: True)
    assert not is_admitted(allowances, per_tenant(100, "running"), 1)


def test_what_an_upstream_claims_is_kept_within_bounds(allowances: LocalAllowances, clock: Clock) -> None:
    limit = per_tenant(MAX_AMOUNT)
    for claimed in (-5, -(10**30)):
        allowances.settle(got(result_of(allowances.reserve([limit], tokens(1)))), tokens(claimed))
    assert is_admitted(allowances, limit, MAX_AMOUNT)
    reserved = [got(result_of(allowances.reserve([limit], tokens(1)))) for _ in range(3)]
    for each in reserved:
        allowances.settle(each, tokens(10**30))
    assert not is_admitted(allowances, limit, 1)
    clock.now += 61
    assert is_admitted(allowances, limit, MAX_AMOUNT)


def test_a_reservation_of_nothing_is_settled_with_something(allowances: LocalAllowances) -> None:
    reserved = got(result_of(allowances.reserve([per_tenant(100)], NOTHING)))
    allowances.settle(reserved, tokens(100))
    assert not is_admitted(allowances, per_tenant(100), 1)


def test_where_there_is_no_allowance_everything_is_reserved(allowances: LocalAllowances) -> None:
    allowances.settle(got(result_of(allowances.reserve([], tokens(5)))), tokens(5))
    assert len(allowances) == 0


def test_a_reservation_crosses_a_process_border(allowances: LocalAllowances) -> None:
    reserved = got(result_of(allowances.reserve([per_tenant(100), monthly(USD)], Amount(3, 5))))
    passed = msgspec.msgpack.decode(msgspec.msgpack.encode(reserved), type=Reserved)
    assert passed == reserved
    allowances.settle(passed, Amount(3, 5))
    with pytest.raises(KeyError):
        allowances.settle(reserved, Amount(3, 5))


def test_standings_say_what_is_used_and_reserved_the_latest_first(allowances: LocalAllowances) -> None:
    use(allowances, per_tenant(100, "a"), 7)
    got(result_of(allowances.reserve([monthly(USD)], cost(5))))
    got(result_of(allowances.reserve([per_tenant(100, "b")], tokens(9))))
    standings = [(standing.allowance, standing.used, standing.reserved) for standing in allowances.standings(10)]
    assert standings == [(per_tenant(100, "b"), 0, 9), (monthly(USD), 0, 5), (per_tenant(100, "a"), 7, 0)]
    assert len(allowances.standings(2)) == 2
