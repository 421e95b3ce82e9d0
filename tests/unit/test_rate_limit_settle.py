"""A reload's new limits: what is used up stays used up, in tokens, and the time before is counted at the old rate."""

from __future__ import annotations

import pytest
import trio
from clocks import Clock

from vastar_runtime.config import Policies, Scope, Settings
from vastar_runtime.config.policy import Policy, Rate, RateLimitPolicy
from vastar_runtime.config.settings import Change
from vastar_runtime.errors import RateLimited
from vastar_runtime.policies.rate_limit import RateLimiter
from vastar_runtime.policies.token_bucket import (
    SETTLED_PER_TURN,
    Bucket,
    LimitKey,
    LocalBackend,
    Refused,
    Taken,
)

A, B = "https://a.example", "https://b.example"


def of_tenants(rate: Rate | None, burst: int | None = None) -> RateLimitPolicy:
    return RateLimitPolicy(per_tenant=rate, per_tenant_burst=burst)


def policies(policy: RateLimitPolicy, *scopes: Scope) -> Policies:
    return Policies(Settings(policy=Policy(rate_limit=policy), scopes=scopes))


async def admitted(limiter: RateLimiter, policy: RateLimitPolicy, tenant: str = "t", origin: str = A) -> int:
    """How many requests are admitted at once, now."""
    for count in range(10_000):
        try:
            await limiter.take(policy, tenant, origin)
        except RateLimited:
            return count
    raise AssertionError("no end")


async def test_what_was_used_up_a_moment_ago_is_not_free_again_because_the_limit_was_tightened(
    limiter: RateLimiter, clock: Clock
) -> None:
    wide, tight = of_tenants(Rate(5, 1)), of_tenants(Rate(5, 3600))
    assert await admitted(limiter, wide) == 5
    await limiter.settle(policies(tight))
    clock.now += 3
    assert await admitted(limiter, tight) == 0, "at the old rate 15 would have come"
    clock.now += 720 - 3
    assert await admitted(limiter, tight) == 1


async def test_the_time_before_the_reload_counts_at_the_old_rate(limiter: RateLimiter, clock: Clock) -> None:
    wide, tight = of_tenants(Rate(5, 1)), of_tenants(Rate(5, 3600))
    assert await admitted(limiter, wide) == 5
    clock.now += 0.6  # three tokens
    await limiter.settle(policies(tight))
    clock.now += 3
    assert await admitted(limiter, tight) == 3


async def test_who_owed_most_of_an_hour_is_let_in_at_once_at_a_thousand_a_second(
    limiter: RateLimiter, clock: Clock
) -> None:
    tight, wide = of_tenants(Rate(5, 3600)), of_tenants(Rate(1000, 1))
    assert await admitted(limiter, tight) == 5
    await limiter.settle(policies(wide))
    assert await admitted(limiter, wide) == 995


async def test_a_raised_burst_is_there_at_once_but_for_what_was_taken(limiter: RateLimiter) -> None:
    before, after = of_tenants(Rate(5, 3600)), of_tenants(Rate(5, 3600), 100)
    assert await admitted(limiter, before) == 5
    await limiter.settle(policies(after))
    assert await admitted(limiter, after) == 95


async def test_a_limit_that_is_lifted_is_forgotten_and_is_full_when_it_is_put_back(limiter: RateLimiter) -> None:
    limited = of_tenants(Rate(5, 3600))
    assert await admitted(limiter, limited) == 5
    assert [shown.tenant_id for shown in limiter.statistics().refusing] == ["t"]
    await limiter.settle(policies(of_tenants(None)))
    statistics = limiter.statistics()
    assert (statistics.refusing, statistics.buckets, statistics.refused) == ((), 0, 1)
    assert await limiter.take(of_tenants(None), "t", A) is None
    await limiter.settle(policies(limited))
    assert limiter.statistics().refusing == ()
    assert await admitted(limiter, limited) == 5
    assert [shown.refused for shown in limiter.statistics().refusing] == [1], "the refusals of then are forgotten, too"


async def test_the_status_shows_the_new_rate_of_what_refuses_still(limiter: RateLimiter) -> None:
    assert await admitted(limiter, of_tenants(Rate(5, 1))) == 5
    await limiter.settle(policies(of_tenants(Rate(60, 3600), 4)))
    (shown,) = limiter.statistics().refusing
    assert (shown.rate, shown.burst, shown.refused, shown.next_in_ms) == (Rate(60, 3600), 4, 1, 60_000)
    await limiter.settle(policies(of_tenants(Rate(5, 1), 6)))
    assert limiter.statistics().refusing == (), "of the four that it owed, it could take two more"


async def test_each_limit_follows_the_setting_of_its_own_scope(limiter: RateLimiter, clock: Clock) -> None:
    before = RateLimitPolicy(per_tenant=Rate(9, 1), per_origin=Rate(9, 1), per_tenant_and_origin=Rate(9, 1))
    for tenant, origin in (("t", A), ("u", B)):
        await limiter.take(before, tenant, origin)
    after = policies(
        before,
        Scope(tenant="t", changes=(Change("rate_limit", "per_tenant", Rate(2, 3600)),)),
        Scope(origin=B, changes=(Change("rate_limit", "per_origin", Rate(3, 3600)),)),
        Scope(tenant="u", origin=B, changes=(Change("rate_limit", "per_tenant_and_origin", Rate(4, 3600)),)),
    )
    await limiter.settle(after)
    clock.now += 60  # at 9/s all of it would be there again
    assert await admitted(limiter, of_tenants(Rate(2, 3600)), "t") == 1
    assert await admitted(limiter, of_tenants(Rate(9, 1)), "u") == 9
    assert await admitted(limiter, RateLimitPolicy(per_origin=Rate(3, 3600)), "x", B) == 2
    assert await admitted(limiter, RateLimitPolicy(per_origin=Rate(9, 1)), "x", A) == 9
    assert await admitted(limiter, RateLimitPolicy(per_tenant_and_origin=Rate(4, 3600)), "u", B) == 3
    assert await admitted(limiter, RateLimitPolicy(per_tenant_and_origin=Rate(9, 1)), "t", A) == 9


async def test_a_request_between_the_reload_and_its_settling_is_counted_once(
    limiter: RateLimiter, clock: Clock
) -> None:
    """Tables of many thousand keys are settled while requests go on; some of these go by the new setting already,
    others still by the one that they began with."""
    wide, tight = of_tenants(Rate(10, 1)), of_tenants(Rate(10, 3600))
    for _ in range(3):
        await limiter.take(wide, "t", A)
    await limiter.take(tight, "t", A)
    await limiter.take(wide, "t", A)
    await limiter.settle(policies(tight))
    await limiter.settle(policies(tight))
    clock.now += 3
    assert await admitted(limiter, tight) == 5


async def test_a_token_taken_before_the_reload_is_one_token_when_it_is_given_back_after_it(
    limiter: RateLimiter,
) -> None:
    wide, tight = of_tenants(Rate(5, 1)), of_tenants(Rate(5, 3600))
    taken = [await limiter.take(wide, "t", A) for _ in range(5)]
    await limiter.settle(policies(tight))
    await limiter.give_back(taken[0])
    assert await admitted(limiter, tight) == 1


# --- many buckets ---


def tenant_bucket(number: int, rate: Rate) -> Bucket:
    return Bucket(LimitKey("per_tenant", f"tenant {number}", None), rate, 1)


@pytest.mark.unmeasured
async def test_twenty_thousand_buckets_are_settled_while_others_have_their_turns(clock: Clock) -> None:
    backend = LocalBackend(clock)
    count = 20_000
    for number in range(count):
        assert isinstance(await backend.take([tenant_bucket(number, Rate(1, 60))]), Taken)
    settled, most_at_a_time, turns = 0, 0, 0

    def setting(key: LimitKey) -> Bucket:
        nonlocal settled
        settled += 1
        return Bucket(key, Rate(1, 3600), 1)

    async def other() -> None:
        nonlocal most_at_a_time, turns
        before = 0
        while settled < count:
            most_at_a_time, before = max(most_at_a_time, settled - before), settled
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        nursery.start_soon(backend.settle, setting)
    assert settled == count
    assert most_at_a_time <= 2 * SETTLED_PER_TURN
    assert turns >= count / (2 * SETTLED_PER_TURN)
    clock.now += 60
    refusals = [await backend.take([tenant_bucket(number, Rate(1, 3600))]) for number in (0, count // 2, count - 1)]
    assert [refused.retry_after_ms for refused in refusals if isinstance(refused, Refused)] == [3_540_000] * 3


async def test_settling_leaves_the_order_in_which_buckets_were_used(clock: Clock) -> None:
    backend = LocalBackend(clock, max_keys=100)
    for number in range(100):
        await backend.take([tenant_bucket(number, Rate(1, 60))])
    await backend.take([tenant_bucket(0, Rate(1, 60))])  # refused, but used
    await backend.settle(lambda key: Bucket(key, Rate(1, 120), 1))
    clock.now += 120  # all are full, so the least recently used one makes room
    await backend.take([tenant_bucket(1000, Rate(1, 120))])
    assert [key.tenant_id for key, _ in backend._table.latest()] == [
        "tenant 1000",
        "tenant 0",
        *(f"tenant {number}" for number in range(99, 1, -1)),
    ]


async def test_buckets_that_come_and_go_during_the_settling_do_it_no_harm(clock: Clock) -> None:
    backend = LocalBackend(clock, max_keys=300)
    for number in range(300):
        await backend.take([tenant_bucket(number, Rate(1, 1))])
    clock.now += 2

    came = []

    async def newcomers() -> None:
        for number in range(1000, 1300):
            newcomer = tenant_bucket(number, Rate(1, 3600))
            if await backend.take([newcomer]) == Taken((newcomer,)):  # else it found no room, and shared a bucket
                came.append(newcomer)
            if number % 50 == 0:
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(newcomers)
        nursery.start_soon(backend.settle, lambda key: Bucket(key, Rate(1, 3600), 1))
    assert len(came) > 100
    assert len(backend) <= 300 + 1
    for newcomer in came:
        assert isinstance(await backend.take([newcomer]), Refused)


async def test_a_settling_that_is_cancelled_leaves_buckets_that_still_know_what_was_taken(clock: Clock) -> None:
    backend = LocalBackend(clock)
    for number in range(10 * SETTLED_PER_TURN):
        await backend.take([tenant_bucket(number, Rate(1, 60))])
    with trio.CancelScope() as scope:
        scope.cancel()
        await backend.settle(lambda key: Bucket(key, Rate(1, 3600), 1))
    assert scope.cancelled_caught
    for number in range(10 * SETTLED_PER_TURN):
        assert isinstance(await backend.take([tenant_bucket(number, Rate(1, 3600))]), Refused)
