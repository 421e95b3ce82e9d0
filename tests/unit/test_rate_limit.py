"""How often requests may go upstream, on a clock that the tests move."""

import msgspec
import pytest
from clocks import Clock

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import Rate, RateLimitPolicy
from vastar_runtime.errors import MAX_RETRY_AFTER_MS, RateLimited
from vastar_runtime.policies.rate_limit import MAX_REFUSING, RateLimiter, RefusingLimit
from vastar_runtime.policies.token_bucket import Taken

A, B = "https://a.example", "https://b.example"


async def refusal(limiter: RateLimiter, policy: RateLimitPolicy, tenant: str = "t", origin: str = A) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        await limiter.take(policy, tenant, origin)
    assert caught.value.error_class is ErrorClass.RATE_LIMITED
    return caught.value


async def admitted(limiter: RateLimiter, policy: RateLimitPolicy, tenant: str = "t", origin: str = A) -> int:
    """How many requests are admitted at once, now."""
    for count in range(10_000):
        try:
            await limiter.take(policy, tenant, origin)
        except RateLimited:
            return count
    raise AssertionError("no end")


async def test_where_no_limit_is_configured_nothing_is_kept(limiter: RateLimiter) -> None:
    assert await limiter.take(RateLimitPolicy(), "t", A) is None
    await limiter.give_back(None)
    statistics = limiter.statistics()
    assert (statistics.admitted, statistics.refused, statistics.buckets, statistics.refusing) == (0, 0, 0, ())


@pytest.mark.parametrize(
    ("rate", "burst", "at_once", "ms_between"),
    [
        (Rate(10, 1), None, 10, 100),
        (Rate(60, 60), None, 60, 1000),
        (Rate(1000, 3600), None, 1000, 3600),
        (Rate(1, 3600), None, 1, 3_600_000),
        (Rate(10, 1), 3, 3, 100),
        (Rate(60, 60), 1, 1, 1000),
        (Rate(60, 60), 100, 100, 1000),
    ],
)
async def test_a_burst_comes_at_once_and_then_one_each_period_over_count(
    limiter: RateLimiter, clock: Clock, rate: Rate, burst: int | None, at_once: int, ms_between: int
) -> None:
    policy = RateLimitPolicy(per_tenant=rate, per_tenant_burst=burst)
    assert await admitted(limiter, policy) == at_once
    for _ in range(20):
        assert (await refusal(limiter, policy)).retry_after_ms == ms_between
        clock.now += ms_between / 1000
        assert await admitted(limiter, policy) == 1
    clock.now += at_once * ms_between / 1000 + 1000
    assert await admitted(limiter, policy) == at_once


@pytest.mark.unmeasured
async def test_a_rate_that_no_clock_divides_loses_nothing_in_a_day(limiter: RateLimiter, clock: Clock) -> None:
    policy = RateLimitPolicy(per_tenant=Rate(7, 60), per_tenant_burst=1)
    began, count = clock.now, 0
    while clock.now - began < 86_400:
        count += await admitted(limiter, policy)
        clock.now += (await refusal(limiter, policy)).retry_after_ms / 1000
    # Each wait is rounded up to a millisecond: up to 1 in 8,572.
    assert 7 * 60 * 24 * 8571 / 8572 - 1 <= count <= 7 * 60 * 24 + 1


async def test_a_rate_of_ten_to_the_twelve_refuses_only_what_is_beyond_it(limiter: RateLimiter, clock: Clock) -> None:
    huge = RateLimitPolicy(per_tenant=Rate(10**12, 1))
    assert await limiter.take(huge, "t", A)
    policy = RateLimitPolicy(per_tenant=Rate(10**12, 1), per_tenant_burst=2)
    assert await admitted(limiter, policy, "other") == 2
    assert (await refusal(limiter, policy, "other")).retry_after_ms == 1
    clock.now += 0.001
    assert await admitted(limiter, policy, "other") == 2


async def test_a_burst_of_ten_to_the_twelve_does_not_lead_to_a_wait_of_more_than_one_token(
    limiter: RateLimiter, clock: Clock
) -> None:
    vast = RateLimitPolicy(per_tenant=Rate(1, 3600), per_tenant_burst=10**12)
    for _ in range(1000):
        await limiter.take(vast, "t", A)
    error = await refusal(limiter, RateLimitPolicy(per_tenant=Rate(1, 3600)))
    assert error.retry_after_ms == 3_600_000 <= MAX_RETRY_AFTER_MS


async def test_each_limit_counts_its_own(limiter: RateLimiter) -> None:
    tenants = RateLimitPolicy(per_tenant=Rate(2, 60))
    assert await admitted(limiter, tenants, "t", A) == 2
    await refusal(limiter, tenants, "t", B)
    assert await admitted(limiter, tenants, "u", A) == 2

    origins = RateLimitPolicy(per_origin=Rate(3, 60))
    assert await admitted(limiter, origins, "t", A) == 3
    await refusal(limiter, origins, "u", A)
    assert await admitted(limiter, origins, "u", B) == 3

    both = RateLimitPolicy(per_tenant_and_origin=Rate(4, 60))
    assert await admitted(limiter, both, "t", A) == 4
    assert await admitted(limiter, both, "t", B) == 4
    assert await admitted(limiter, both, "u", A) == 4
    await refusal(limiter, both, "t", B)


async def test_names_that_look_like_other_keys_are_limited_apart(limiter: RateLimiter) -> None:
    policy = RateLimitPolicy(per_tenant=Rate(1, 60), per_origin=Rate(100, 60))
    for tenant in ("", A, "None", "per_origin", "t\0", "t"):
        assert await admitted(limiter, policy, tenant, A) == 1


@pytest.mark.parametrize("empty", ["per_tenant", "per_origin", "per_tenant_and_origin"])
async def test_what_one_limit_refuses_costs_the_others_nothing(limiter: RateLimiter, clock: Clock, empty: str) -> None:
    wide = RateLimitPolicy(per_tenant=Rate(5, 60), per_origin=Rate(5, 60), per_tenant_and_origin=Rate(5, 60))
    tight = msgspec.structs.replace(wide, **{empty: Rate(2, 60)})
    assert await admitted(limiter, tight) == 2
    for _ in range(50):
        assert f"(rate_limit.{empty})" in (await refusal(limiter, tight)).message
    without = msgspec.structs.replace(wide, **{empty: None})
    assert await admitted(limiter, without) == 3


async def test_of_several_empty_limits_the_longest_wait_is_named(limiter: RateLimiter, clock: Clock) -> None:
    policy = RateLimitPolicy(per_tenant=Rate(1, 60), per_origin=Rate(1, 3600), per_tenant_and_origin=Rate(1, 1))
    await limiter.take(policy, "t", A)
    error = await refusal(limiter, policy)
    assert error.retry_after_ms == 3_600_000
    assert error.message == (
        "rate limit of 1/h (burst 1) of https://a.example is used up; next in 3600000 ms (rate_limit.per_origin)"
    )
    clock.now += 3600
    await limiter.take(policy, "t", A)


async def test_the_refusal_names_the_limit_and_whose_it_is(limiter: RateLimiter) -> None:
    tenants = RateLimitPolicy(per_tenant=Rate(60, 60), per_tenant_burst=1)
    await limiter.take(tenants, "x", A)
    error = await refusal(limiter, tenants, "x")
    assert error.message == (
        "rate limit of 60/min (burst 1) of tenant 'x' is used up; next in 1000 ms (rate_limit.per_tenant)"
    )
    assert error.retry_after_ms == 1000
    both = RateLimitPolicy(per_tenant_and_origin=Rate(1, 1))
    await limiter.take(both, "x", A)
    assert (await refusal(limiter, both, "x")).message == (
        "rate limit of 1/s (burst 1) of tenant 'x' with https://a.example is used up; next in 1000 ms "
        "(rate_limit.per_tenant_and_origin)"
    )


async def test_a_hostile_tenant_name_is_quoted_and_cut(limiter: RateLimiter) -> None:
    policy = RateLimitPolicy(per_tenant=Rate(1, 60))
    name = "\r\n\0\x1b[31m../../etc/passwd" + "\U0001f600" * 1_000_000
    await limiter.take(policy, name, A)
    message = (await refusal(limiter, policy, name)).message
    assert message.isprintable()
    assert "\\r\\n\\x00\\x1b[31m../../etc/passwd" in message
    assert len(message) < 300
    assert await limiter.take(policy, name[:-1], A), "another name, though the same in the message"


async def test_what_is_given_back_can_be_taken_again_and_never_more(limiter: RateLimiter, clock: Clock) -> None:
    policy = RateLimitPolicy(per_tenant=Rate(3, 60), per_origin=Rate(3, 60), per_tenant_and_origin=Rate(3, 60))
    for _ in range(100):
        await limiter.give_back(await limiter.take(policy, "t", A))
    assert await admitted(limiter, policy) == 3
    clock.now += 3600
    taken = await limiter.take(policy, "t", A)
    clock.now += 3600
    await limiter.give_back(taken)  # the bucket is full already
    assert await admitted(limiter, policy) == 3


async def test_one_token_given_back_is_one_token(limiter: RateLimiter) -> None:
    policy = RateLimitPolicy(per_tenant=Rate(3, 60))
    taken = [await limiter.take(policy, "t", A) for _ in range(3)]
    await limiter.give_back(taken[1])
    assert await admitted(limiter, policy) == 1


async def test_a_refused_request_has_nothing_to_give_back(limiter: RateLimiter) -> None:
    policy = RateLimitPolicy(per_tenant=Rate(1, 60), per_origin=Rate(2, 60))
    taken = await limiter.take(policy, "t", A)
    await refusal(limiter, policy)
    await limiter.give_back(taken)
    assert await admitted(limiter, policy) == 1


async def test_a_backend_of_another_kind_fits_in(clock: Clock) -> None:
    class Generous:
        async def take(self, buckets: object) -> Taken:
            return Taken(())

        async def give_back(self, buckets: object) -> None:
            pass

        def next_in_ms(self, bucket: object) -> int:
            return 0

        def __len__(self) -> int:
            return 0

    limiter = RateLimiter(Generous(), clock)
    policy = RateLimitPolicy(per_tenant=Rate(1, 3600))
    for _ in range(10):
        await limiter.give_back(await limiter.take(policy, "t", A))
    assert limiter.statistics().admitted == 10


async def test_statistics_show_the_limits_that_refuse_while_they_do(limiter: RateLimiter, clock: Clock) -> None:
    policy = RateLimitPolicy(per_tenant=Rate(60, 60), per_tenant_burst=2)
    await limiter.take(policy, "t", A)
    await limiter.take(policy, "t", A)
    assert limiter.statistics().refusing == (), "empty, but nothing was refused"
    for _ in range(3):
        await refusal(limiter, policy)
    clock.now += 0.25
    snapshot = limiter.statistics()
    refusing = RefusingLimit(
        limit="rate_limit.per_tenant",
        tenant_id="t",
        origin=None,
        rate=Rate(60, 60),
        burst=2,
        refused=3,
        next_in_ms=750,
    )
    assert (snapshot.admitted, snapshot.refused, snapshot.buckets, snapshot.refusing) == (2, 3, 1, (refusing,))
    clock.now += 0.75
    assert limiter.statistics().refusing == (), "it has a token"
    await limiter.take(policy, "t", A)
    assert [limit.refused for limit in limiter.statistics().refusing] == [3], "empty again, in the same rush"
    await refusal(limiter, policy)
    assert [limit.refused for limit in limiter.statistics().refusing] == [4]
    clock.now += 2
    assert await admitted(limiter, policy) == 2
    assert [limit.refused for limit in limiter.statistics().refusing] == [1], "it was full in between"
    assert limiter.statistics().refused == 5
    assert snapshot.refusing == (refusing,), "a snapshot stays as it was"


async def test_statistics_list_the_latest_limits_and_count_all(limiter: RateLimiter) -> None:
    policy = RateLimitPolicy(per_tenant=Rate(1, 60))
    tenants = [f"tenant {number}" for number in range(MAX_REFUSING + 50)]
    for tenant in tenants:
        assert await admitted(limiter, policy, tenant) == 1
    statistics = limiter.statistics()
    assert statistics.refused == len(tenants)
    assert [limit.tenant_id for limit in statistics.refusing] == tenants[: -MAX_REFUSING - 1 : -1]
