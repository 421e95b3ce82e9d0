"""Rate limits in Redis decide as those of one process do, for all processes together."""

from __future__ import annotations

import random

import pytest
import trio
from redis_clock import RedisClock
from redis_server import available, limits_of, redis_server

from vastar_runtime.config.policy import Rate
from vastar_runtime.policies.token_bucket import Bucket, Kind, LimitKey, LocalBackend, Refused, Taken
from vastar_runtime.shared.redis_limits import RedisLimits
from vastar_runtime.shared.redis_rate_limits import TOLD_AT_ONCE, RedisRateLimits

A = "https://a.example"
HOURLY = Rate(3, 3600)


def bucket(rate: Rate = HOURLY, burst: int = 3, tenant: str = "t", kind: Kind = "per_tenant") -> Bucket:
    return Bucket(LimitKey(kind, tenant, A if kind == "per_tenant_and_origin" else None), rate, burst)


async def taken(limits: RedisLimits, asked: Bucket) -> int:
    """How many tokens are there now."""
    for count in range(1000):
        if not isinstance(await limits.rate_limits.take([asked]), Taken):
            return count
    raise AssertionError("no end")


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(4))
async def test_a_random_hour_is_decided_as_in_one_process(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    dice = random.Random(seed)
    rates = [Rate(7, 60), Rate(100, 1), Rate(1000, 3600), Rate(1_000_000, 1), Rate(1, 3600), Rate(999_983, 3600)]
    settings = {
        bucket(kind=kind, tenant=tenant).key: bucket(
            dice.choice(rates), dice.choice([1, 2, 5, 50, 1_000_000]), tenant, kind
        )
        for tenant in ("a", "b", "c:\n", "ü" * 300)
        for kind in ("per_tenant", "per_tenant_and_origin")
    }
    decisions = {True: 0, False: 0}
    with redis_server() as server:
        clock = RedisClock(monkeypatch)
        async with limits_of(server) as limits:
            await clock.set(limits, clock.us)
            local = LocalBackend(clock)
            held: list[Taken] = []
            for _ in range(600):
                us = dice.choice([0, 1, 999, 10_000, 143_000, 1_000_000, 59_000_001]) * dice.choice([0, 1])
                await clock.set(limits, clock.us + us)
                what = dice.random()
                if what < 0.85:
                    asked = dice.sample(list(settings.values()), dice.choice([1, 1, 2, 3]))
                    wanted = await local.take(asked)
                    found = await limits.rate_limits.take(asked)
                    assert found == wanted
                    decisions[isinstance(found, Taken)] += 1
                    if isinstance(found, Taken):
                        held.append(found)
                elif what < 0.95 and held:
                    given = held.pop(dice.randrange(len(held))).buckets
                    await local.give_back(given)
                    await limits.rate_limits.give_back(given)
                else:
                    key = dice.choice(list(settings))
                    settings[key] = settings[key]._replace(rate=dice.choice(rates), burst=dice.choice([1, 3, 40]))
                    held.clear()  # a token of another setting is not given back exactly
                    await local.settle(settings.get)
                    await limits.rate_limits.settle(settings.get)
    assert min(decisions.values()) > 50


async def test_a_rate_and_burst_of_ten_to_the_twelve_is_counted_to_the_last_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with redis_server() as server:
        clock = RedisClock(monkeypatch)
        async with limits_of(server) as limits:
            local = LocalBackend(clock)
            for rate in (Rate(10**12, 1), Rate(10**12 - 11, 3600), Rate(1, 3600)):
                vast = bucket(rate, 10**12, str(rate))
                two = vast._replace(burst=2)
                for us in (0, 0, 0, 1, 2, 999_999, 3_600_000_000, 1):
                    await clock.set(limits, clock.us + us)
                    for asked in (vast, two, vast):
                        assert await limits.rate_limits.take([asked]) == await local.take([asked])


async def test_processes_share_their_buckets_and_nothing_is_taken_from_one_alone() -> None:
    with redis_server() as server:
        async with limits_of(server) as one, limits_of(server, daemon="b") as other:
            assert await taken(one, bucket(tenant="only here")) == 3
            assert [await taken(each, bucket()) for each in (one, other)] == [3, 0]
            both = [bucket(), bucket(tenant="full")]
            refused = await other.rate_limits.take(both)
            assert isinstance(refused, Refused)
            assert refused.bucket == bucket()
            assert 1_190_000 < refused.retry_after_ms <= 1_200_000
            assert await taken(one, bucket(tenant="full")) == 3
            await other.rate_limits.give_back([bucket()])
            assert await taken(one, bucket()) == 1


async def test_a_process_knows_when_the_next_token_comes_as_of_its_last_request() -> None:
    with redis_server() as server:
        async with limits_of(server) as limits:
            assert limits.rate_limits.next_in_ms(bucket()) == 0
            assert await taken(limits, bucket()) == 3
            assert 1_190_000 < limits.rate_limits.next_in_ms(bucket()) <= 1_200_000
            assert 3_590_000 < limits.rate_limits.next_in_ms(bucket(Rate(1, 3600))) <= 3_600_000
            assert len(limits.rate_limits) == 1


async def test_a_bucket_is_as_empty_as_it_was_after_a_restart_that_lost_everything() -> None:
    with redis_server() as server:
        async with limits_of(server) as one, limits_of(server, daemon="b") as other:
            assert await taken(one, bucket(tenant="one")) == 3
            assert isinstance(await one.rate_limits.take([bucket(tenant="both")]), Taken)
            assert isinstance(await other.rate_limits.take([bucket(tenant="both")]), Taken)
            many = [bucket(tenant=f"many {number}") for number in range(2 * TOLD_AT_ONCE + 1)]
            for each in many:
                assert await taken(one, each) == 3
            server.kill()
            await available(one, False)
            server.start()
            await available(one)
            await available(other)
            assert await taken(other, bucket(tenant="one")) == 0
            assert await taken(other, bucket(tenant="both")) == 1
            assert [await taken(other, each) for each in many] == [0] * len(many)


async def test_a_redis_that_was_emptied_is_told_again_what_was_taken() -> None:
    with redis_server() as server:
        async with limits_of(server, fail="open") as limits:
            assert await taken(limits, bucket()) == 3
            server.command("FLUSHALL")
            assert await limits.rate_limits.take([bucket()]) == Taken(()), "it notices, and counts nothing meanwhile"
            await available(limits)
            assert await taken(limits, bucket()) == 0


async def test_scripts_that_were_flushed_are_sent_again_with_the_next_request() -> None:
    with redis_server() as server:
        async with limits_of(server) as limits:
            assert isinstance(await limits.rate_limits.take([bucket()]), Taken)
            server.command("SCRIPT", "FLUSH")
            assert await taken(limits, bucket()) == 2


async def test_nothing_stays_in_redis_for_ever() -> None:
    with redis_server() as server:
        async with limits_of(server) as limits:
            for rate, burst in ((Rate(1, 1), 1), (HOURLY, 3), (Rate(1, 3600), 10**12)):
                await limits.rate_limits.take([bucket(rate, burst, str(rate))])
            keys = server.command("KEYS", "*").splitlines()
            assert len(keys) == 5
            assert all(key.startswith("vastar:test:") for key in keys)
            assert all(0 < int(server.command("TTL", key)) <= 40 * 86_400 for key in keys)
            await limits.rate_limits.give_back([bucket(HOURLY, 3, str(HOURLY))])
            assert len(server.command("KEYS", "*").splitlines()) == 4


async def test_the_table_of_what_was_taken_keeps_to_its_limit() -> None:
    with redis_server() as server:
        async with limits_of(server) as limits:
            backend = RedisRateLimits(limits._link, fail="closed", local=LocalBackend(trio.current_time), max_keys=4)
            for number in range(20):
                assert isinstance(await backend.take([bucket(tenant=str(number))]), Taken)
            assert len(backend) == 4
            assert isinstance(await backend.take([bucket(tenant="19")]), Taken)


async def test_two_prefixes_count_apart() -> None:
    with redis_server() as server:
        async with limits_of(server) as one, limits_of(server, prefix="other") as other:
            assert [await taken(each, bucket()) for each in (one, other)] == [3, 3]
