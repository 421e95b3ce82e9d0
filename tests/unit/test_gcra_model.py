"""A simulated hour of 50 tenants: never more than rate x time + burst, and never less than rate x time on demand."""

import random
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple, TypeVar

import pytest
from clocks import Clock, result_of

from vastar_runtime.config.policy import Rate
from vastar_runtime.policies.token_bucket import Bucket, LimitKey, LocalBackend, Taken

pytestmark = pytest.mark.unmeasured

HOUR_MS = 3_600_000
TENANTS = 50
T = TypeVar("T")


class Tenant(NamedTuple):
    bucket: Bucket
    arrivals_ms: list[int]


def bursts(dice: random.Random) -> Iterator[int]:
    """Arrivals of an hour: rushes of up to 200, some within a millisecond, and pauses of up to minutes."""
    at_ms = dice.randrange(60_000)
    while at_ms < HOUR_MS:
        spread_ms = dice.choice([1, 100, 5_000])
        rush = sorted(at_ms + dice.randrange(spread_ms) for _ in range(dice.randrange(1, 200)))
        yield from (arrival for arrival in rush if arrival < HOUR_MS)
        at_ms = rush[-1] + dice.choice([10, 3_000, 60_000, 400_000])


def tenants(dice: random.Random) -> list[Tenant]:
    settings = [(7, 1), (100, 1), (60, 60), (500, 60), (1000, 3600), (11, 3600)]
    made = []
    for number in range(TENANTS):
        count, period_s = settings[number % len(settings)]
        bucket = Bucket(
            LimitKey("per_tenant", f"tenant {number}", None), Rate(count, period_s), dice.choice([1, 5, count])
        )
        made.append(Tenant(bucket, list(bursts(dice))))
    return made


def simulate(everyone: list[Tenant]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """When each tenant was admitted, and when refused, in milliseconds."""
    clock = Clock()
    backend = LocalBackend(clock)
    admitted: dict[str, list[int]] = {}
    refused: dict[str, list[int]] = {}
    arrivals = sorted((at_ms, tenant.bucket) for tenant in everyone for at_ms in tenant.arrivals_ms)
    for at_ms, bucket in arrivals:
        clock.now = at_ms / 1000
        outcome = admitted if isinstance(result_of(backend.take([bucket])), Taken) else refused
        outcome.setdefault(str(bucket.key.tenant_id), []).append(at_ms)
    return admitted, refused


def most_above_rate(rate: Rate, times_ms: list[int]) -> Fraction:
    """The largest excess, over all intervals from one admission to another, of admissions over rate x time.

    With f(i) = i - rate x t(i), the interval from i to j holds f(j) - f(i) + 1 above the rate: the largest of that is
    found with the smallest f so far.
    """
    per_ms = Fraction(rate.count, rate.period_s * 1000)
    lowest: Fraction | None = None
    most = Fraction(0)
    for index, at_ms in enumerate(times_ms):
        level = index - per_ms * at_ms
        lowest = level if lowest is None else min(lowest, level)
        most = max(most, level - lowest + 1)
    return most


def plain_token_bucket(rate: Rate, burst: int, times_ms: list[int]) -> list[int]:
    """When a bucket that is kept in the obvious way, in exact fractions, admits."""
    tokens, before_ms, admitted = Fraction(burst), 0, []
    for at_ms in times_ms:
        tokens = min(Fraction(burst), tokens + Fraction(rate.count * (at_ms - before_ms), rate.period_s * 1000))
        before_ms = at_ms
        if tokens >= 1:
            tokens -= 1
            admitted.append(at_ms)
    return admitted


@pytest.mark.parametrize("seed", [1, 2])
def test_an_hour_of_bursts_never_exceeds_rate_times_time_plus_burst_in_any_interval(seed: int) -> None:
    everyone = tenants(random.Random(seed))
    admitted, refused = simulate(everyone)
    limited = reached = 0
    for tenant in everyone:
        name, rate, burst = str(tenant.bucket.key.tenant_id), tenant.bucket.rate, tenant.bucket.burst
        most = most_above_rate(rate, admitted[name])
        assert most <= burst, name
        limited += bool(refused.get(name))
        reached += most == burst
    assert limited > TENANTS / 2, "the simulation hardly meets its limits"
    assert reached > TENANTS / 2, "bursts are not used up"


@pytest.mark.parametrize("seed", [4])
def test_an_hour_of_bursts_is_admitted_as_by_a_plain_token_bucket(seed: int) -> None:
    everyone = tenants(random.Random(seed))
    admitted, _ = simulate(everyone)
    for tenant in everyone:
        name = str(tenant.bucket.key.tenant_id)
        assert admitted[name] == plain_token_bucket(tenant.bucket.rate, tenant.bucket.burst, tenant.arrivals_ms), name


@pytest.mark.parametrize(
    ("count", "period_s", "burst"),
    [(20, 1, 20), (8, 1, 1), (60, 60, 60), (60, 60, 1), (500, 60, 7), (1000, 3600, 1000), (10, 3600, 1), (1, 3600, 5)],
)
def test_who_always_asks_gets_all_of_the_rate_and_the_burst(count: int, period_s: int, burst: int) -> None:
    clock = Clock()
    backend = LocalBackend(clock)
    bucket = Bucket(LimitKey("per_origin", None, "https://a.example"), Rate(count, period_s), burst)
    at_ms = taken = refusals = 0
    while at_ms <= HOUR_MS:
        clock.now = at_ms / 1000
        decision = result_of(backend.take([bucket]))
        if isinstance(decision, Taken):
            taken += 1
        else:
            # Nobody asks in vain: all that was earned until now, and until just before the next token, is spent.
            assert taken == burst + at_ms * count // (period_s * 1000)
            at_ms += decision.retry_after_ms
            assert taken == burst + (at_ms - 1) * count // (period_s * 1000)
            refusals += 1
    assert refusals >= count * 3600 // period_s
    assert taken == burst + count * 3600 // period_s
