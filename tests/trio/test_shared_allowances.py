"""Allowances in Redis decide as those of one process do, for all processes together."""

from __future__ import annotations

import random

import msgspec
import pytest
import trio
from redis_clock import RedisClock
from redis_server import available, denied, got, limits_of, monthly, per_tenant, redis_server, tokens, told
from shared_uses import use, used_and_reserved

from vastar_runtime.policies.allowance import (
    MAX_AMOUNT,
    RESERVED_RETRY_MS,
    Allowance,
    AllowanceKey,
    Amount,
    Calendar,
    Reserved,
    Sliding,
)
from vastar_runtime.policies.local_allowances import LocalAllowances
from vastar_runtime.shared.redis_allowances import RedisAllowances
from vastar_runtime.shared.redis_limits import RedisLimits

NOTHING = tokens(0)
HOUR_US = 3_600_000_000


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(4))
async def test_a_random_day_is_decided_as_in_one_process(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """What is refused, too, is refused in the same words."""
    dice = random.Random(seed)
    keys = [AllowanceKey(name, tenant, None) for name in ("a", "b") for tenant in ("t", "ü" * 300, None)]
    windows = [Sliding(1), Sliding(60), Sliding(3600), Calendar("day"), Calendar("month")]
    settings = {
        key: Allowance(key, dice.choice([50, 100, 300]), dice.choice(["tokens", "cost"]), dice.choice(windows))
        for key in keys
    }
    outcomes = {True: 0, False: 0}
    with redis_server() as server:
        clock = RedisClock(monkeypatch)
        async with limits_of(server) as limits:
            local = LocalAllowances(clock.unix, clock.unix)
            open_both: list[tuple[Reserved, Reserved]] = []
            for _ in range(700):
                await clock.set(limits, clock.us + dice.choice([0, 0, 1, 16_667, 1_000_000, 30_000_000, 4 * HOUR_US]))
                amount = Amount(dice.randrange(120), dice.randrange(120))
                if dice.random() < 0.6:
                    key = dice.choice(keys)
                    settings[key] = msgspec.structs.replace(settings[key], limit=dice.choice([50, 100, 300]))
                    asked = dice.sample(list(settings.values()), dice.choice([1, 1, 2, 3]))
                    wanted = await local.reserve(asked, amount)
                    found = await limits.allowances.reserve(asked, amount)
                    outcomes[isinstance(found, Reserved)] += 1
                    if isinstance(found, Reserved) and isinstance(wanted, Reserved):
                        assert found.reservations == wanted.reservations
                        open_both.append((found, wanted))
                    else:
                        assert found == wanted
                elif open_both:
                    shared_one, local_one = open_both.pop(dice.randrange(len(open_both)))
                    limits.allowances.settle(shared_one, amount)
                    local.settle(local_one, amount)
                    await told(limits)
    assert min(outcomes.values()) > 50


async def test_months_and_days_end_in_redis_as_they_do_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server() as server:
        clock = RedisClock(monkeypatch)
        async with limits_of(server) as limits:
            local = LocalAllowances(clock.unix, clock.unix)
            for day in range(0, 1600, 19):
                await clock.set(limits, clock.began_us + day * 24 * HOUR_US)
                for window in (Calendar("day"), Calendar("month")):
                    asked = [Allowance(AllowanceKey(window.period, str(day), None), 10, "tokens", window)]
                    for each in (limits.allowances, local):
                        each.settle(got(await each.reserve(asked, tokens(10))), tokens(10))
                    await told(limits)
                    assert await limits.allowances.reserve(asked, tokens(1)) == await local.reserve(asked, tokens(1))


async def test_processes_share_what_is_used_and_reserved() -> None:
    with redis_server() as server:
        async with limits_of(server) as one, limits_of(server, daemon="b") as other:
            held = got(await one.allowances.reserve([per_tenant(100), monthly(1000)], tokens(60)))
            refused = denied(await other.allowances.reserve([per_tenant(100), monthly(1000)], tokens(41)))
            assert (refused.used, refused.reserved, refused.asked) == (0, 60, 41)
            assert refused.retry_after_ms == RESERVED_RETRY_MS
            assert refused.allowance == per_tenant(100)
            one.allowances.settle(held, tokens(50))
            await told(one)
            got(await other.allowances.reserve([per_tenant(100), monthly(1000)], tokens(50)))
            refused = denied(await one.allowances.reserve([per_tenant(100)], tokens(1)))
            assert (refused.used, refused.reserved) == (50, 50)
            assert refused.retry_after_ms == RESERVED_RETRY_MS
            assert await used_and_reserved(one, monthly(1)) == (50, 50)
            never = denied(await one.allowances.reserve([per_tenant(100), monthly(10)], tokens(101)))
            assert never.never_fits


async def test_a_process_that_is_gone_has_used_what_it_had_reserved() -> None:
    with redis_server() as server:
        async with limits_of(server) as stays:
            async with limits_of(server, daemon="b") as ends:
                got(await ends.allowances.reserve([per_tenant(100)], tokens(60)))
                await use(ends, per_tenant(100), 5)
            assert await used_and_reserved(stays, per_tenant(1)) == (5, 60)
            for process in server.command("KEYS", "vastar:test:process:*").splitlines():
                if is_of(process, ends):
                    server.command("DEL", process)  # its lease has run out
            assert await used_and_reserved(stays, per_tenant(1)) == (65, 0)


def is_of(key: str, limits: RedisLimits) -> bool:
    return key.endswith(str(limits._link._head["process"]))


async def test_a_process_that_was_taken_for_gone_says_what_is_true() -> None:
    with redis_server() as server:
        async with limits_of(server) as one, limits_of(server, fail="open", daemon="b") as suspended:
            held = got(await suspended.allowances.reserve([per_tenant(100)], tokens(60)))
            for process in server.command("KEYS", "vastar:test:process:*").splitlines():
                if is_of(process, suspended):
                    server.command("DEL", process)
            assert await used_and_reserved(one, per_tenant(1)) == (60, 0)
            got(await suspended.allowances.reserve([per_tenant(100)], tokens(1)))  # is not asked: it is not known
            await available(suspended)
            await told(suspended)
            assert await used_and_reserved(one, per_tenant(1)) == (0, 61)
            suspended.allowances.settle(held, tokens(7))
            await told(suspended)
            assert await used_and_reserved(one, per_tenant(1)) == (7, 1)


async def test_a_request_that_is_cancelled_while_it_asks_leaves_nothing_reserved() -> None:
    with redis_server() as server:
        async with limits_of(server) as limits:
            for _ in range(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(limits.allowances.reserve, [per_tenant(100)], tokens(5))
                    await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
            await told(limits)
            assert await used_and_reserved(limits, per_tenant(1)) == (0, 0)


async def test_many_at_once_are_told_all_together_and_nothing_is_lost() -> None:
    with redis_server() as server:
        async with limits_of(server) as limits:

            async def one(number: int) -> None:
                reserved = got(await limits.allowances.reserve([per_tenant(10_000, f"t{number % 150}")], tokens(3)))
                limits.allowances.settle(reserved, tokens(2))

            async with trio.open_nursery() as nursery:
                for number in range(600):
                    nursery.start_soon(one, number)
            await told(limits)
            for number in (0, 1, 149):
                assert await used_and_reserved(limits, per_tenant(1, f"t{number}")) == (8, 0)


async def test_standings_are_those_of_all_processes_as_of_the_last_request() -> None:
    with redis_server() as server:
        async with limits_of(server) as one, limits_of(server, daemon="b") as other:
            await use(one, per_tenant(100), 40)
            got(await other.allowances.reserve([per_tenant(100)], tokens(5)))
            (standing,) = other.allowances.standings(10)
            assert (standing.allowance, standing.used, standing.reserved) == (per_tenant(100), 40, 5)


async def test_amounts_at_the_limit_of_what_is_exact_are_exact() -> None:
    with redis_server() as server:
        async with limits_of(server) as limits:
            held = got(await limits.allowances.reserve([per_tenant(MAX_AMOUNT)], tokens(MAX_AMOUNT - 1)))
            got(await limits.allowances.reserve([per_tenant(MAX_AMOUNT)], tokens(1)))
            denied(await limits.allowances.reserve([per_tenant(MAX_AMOUNT)], tokens(1)))
            limits.allowances.settle(held, tokens(10**30))
            await told(limits)
            assert await used_and_reserved(limits, per_tenant(1)) == (MAX_AMOUNT, 1)


async def test_the_table_keeps_to_its_limit_and_those_without_room_share() -> None:
    with redis_server() as server:
        async with limits_of(server) as limits:
            local = LocalAllowances(trio.current_time, lambda: 0.0)
            small = RedisAllowances(limits._link, fail="closed", local=local, max_keys=2)
            assert isinstance(await small.reserve([per_tenant(10, "a")], tokens(10)), Reserved)
            assert isinstance(await small.reserve([per_tenant(10, "b")], tokens(10)), Reserved)
            assert isinstance(await small.reserve([per_tenant(10, "c")], tokens(6)), Reserved)
            refused = denied(await small.reserve([per_tenant(10, "d")], tokens(5)))
            assert (refused.is_shared, refused.reserved) == (True, 6)
            assert isinstance(await small.reserve([per_tenant(20, "d")], tokens(20)), Reserved)
            assert len(small) == 4


async def test_nothing_of_an_allowance_stays_in_redis_for_ever() -> None:
    with redis_server() as server:
        async with limits_of(server) as limits:
            await use(limits, per_tenant(100), 5)
            await use(limits, monthly(100), 5)
            got(await limits.allowances.reserve([per_tenant(100, "reserved")], tokens(5)))
            keys = server.command("KEYS", "*").splitlines()
            assert len(keys) == 5
            assert all(0 < int(server.command("TTL", key)) <= 40 * 86_400 for key in keys)
            limits.allowances.settle(
                got(await limits.allowances.reserve([per_tenant(100, "none")], tokens(5))), NOTHING
            )
            await told(limits)
            assert len(server.command("KEYS", "*").splitlines()) == 5
