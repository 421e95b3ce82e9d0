"""Which token limits and budgets apply to a request, and what a refused one is told."""

from __future__ import annotations

import pytest
from clocks import Clock

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import Budget, Policies, Scope, Settings
from vastar_runtime.config.policy import Policy, Rate, TokenLimitPolicy
from vastar_runtime.config.settings import Change
from vastar_runtime.errors import RateLimited, RequestError
from vastar_runtime.policies.allowance import Amount
from vastar_runtime.policies.local_allowances import LocalAllowances
from vastar_runtime.policies.spending import Spending

OPENAI, OTHER = "https://api.openai.com", "https://other.example"
CENT = 10**7  # in 10**-9 of the currency
UNIX_S = 1_800_000_000.0  # 2027-01-15 08:00 UTC
DAY_LEFT_MS = 16 * 3600 * 1000


class World:
    def __init__(self, clock: Clock, settings: Settings) -> None:
        self.clock = clock
        self.settings = settings
        self.stage = Spending(settings, LocalAllowances(clock, lambda: UNIX_S - Clock.now + clock()), clock)

    def policy(self, tenant: str, origin: str) -> TokenLimitPolicy:
        return Policies(self.settings).policy_for(tenant, origin).token_limit

    async def spend(self, tokens: int, cost_nano: int = 0, *, tenant: str = "a", origin: str = OPENAI) -> None:
        amount = Amount(tokens, cost_nano)
        reserved = await self.stage.reserve(self.policy(tenant, origin), tenant, origin, amount)
        assert reserved is not None
        self.stage.settle(reserved, amount)

    async def refused(
        self, tokens: int, cost_nano: int = 0, *, tenant: str = "a", origin: str = OPENAI
    ) -> RequestError:
        with pytest.raises(RequestError) as refused:
            await self.spend(tokens, cost_nano, tenant=tenant, origin=origin)
        return refused.value


def limits(**rates: Rate) -> Settings:
    return Settings(policy=Policy(token_limit=TokenLimitPolicy(**rates)))


async def test_where_nothing_is_limited_nothing_is_reserved(clock: Clock) -> None:
    world = World(clock, Settings(budgets=(Budget(name="b", tenant="other-*", tokens=1),)))
    policy = world.policy("a", OPENAI)
    assert not world.stage.applies(policy, "a")
    assert world.stage.applies(policy, "other-1")
    assert await world.stage.reserve(policy, "a", OPENAI, Amount(10**9, 0)) is None


async def test_each_limit_counts_what_its_name_says(clock: Clock) -> None:
    tenant = World(clock, limits(per_tenant=Rate(100, 60)))
    await tenant.spend(60)
    await tenant.spend(40, origin=OTHER)
    assert "token_limit.per_tenant)" in (await tenant.refused(1)).message
    await tenant.spend(100, tenant="b")

    origin = World(clock, limits(per_origin=Rate(100, 60)))
    await origin.spend(60)
    await origin.spend(40, tenant="b")
    assert "token_limit.per_origin)" in (await origin.refused(1)).message
    await origin.spend(100, origin=OTHER)

    both = World(clock, limits(per_tenant_and_origin=Rate(100, 60)))
    await both.spend(100)
    assert "token_limit.per_tenant_and_origin)" in (await both.refused(1)).message
    await both.spend(100, origin=OTHER)
    await both.spend(100, tenant="b")


async def test_a_refused_request_is_told_the_limit_and_when_to_try_again(clock: Clock) -> None:
    world = World(clock, limits(per_tenant=Rate(100, 60)))
    await world.spend(90)
    refused = await world.refused(20)
    assert isinstance(refused, RateLimited)
    assert refused.message == (
        "token limit of 100/min of tenant 'a' is used up: 90 of 100, the request needs about 20; "
        f"try again in {refused.retry_after_ms} ms (token_limit.per_tenant)"
    )
    clock.now += refused.retry_after_ms / 1000
    await world.spend(20)


async def test_what_never_fits_is_no_reason_to_try_again(clock: Clock) -> None:
    world = World(clock, limits(per_tenant=Rate(100, 60)))
    refused = await world.refused(101)
    assert (refused.error_class, refused.retry_after_ms) == (ErrorClass.PERMANENT, 0)
    assert "can never hold the request: it needs about 101 of 100" in refused.message
    assert world.stage.statistics().refusing == ()


async def test_budgets_of_tokens_and_of_money_hold_side_by_side_until_the_day_or_month_is_over(clock: Clock) -> None:
    budgets = (
        Budget(name="daily", tenant="a", per="day", tokens=1000),
        Budget(name="monthly", per="month", cost=0.5),
    )
    world = World(clock, Settings(budgets=budgets))
    await world.spend(1000, 10 * CENT)
    refused = await world.refused(1)
    assert refused.message == (
        "budget 'daily' of tenant 'a' is used up: 1000 of 1000 tokens today, the request needs about 1; "
        f"try again in {DAY_LEFT_MS} ms (16.0 h)"
    )
    assert refused.retry_after_ms == DAY_LEFT_MS
    clock.now += DAY_LEFT_MS / 1000
    await world.spend(500, 40 * CENT)
    refused = await world.refused(1, CENT)
    assert refused.message.startswith("budget 'monthly' of tenant 'a' is used up: 0.50 of 0.50 USD this month")
    assert refused.error_class is ErrorClass.RATE_LIMITED
    # Of another tenant it is another one.
    await world.spend(10**6, 50 * CENT, tenant="b")


async def test_the_status_names_what_refuses_as_long_as_it_does(clock: Clock) -> None:
    world = World(clock, limits(per_tenant=Rate(100, 60)))
    await world.spend(100)
    await world.refused(5)
    await world.refused(7)
    (refusing,) = world.stage.statistics().refusing
    assert (refusing.name, refusing.tenant_id, refusing.used, refusing.asked, refusing.refused) == (
        "token_limit.per_tenant",
        "a",
        100,
        7,
        2,
    )
    clock.now += refusing.next_in_ms / 1000
    assert world.stage.statistics().refusing == ()
    assert (world.stage.statistics().admitted, world.stage.statistics().refused) == (1, 2)


async def test_a_reload_changes_limits_and_keeps_what_is_used(clock: Clock) -> None:
    world = World(clock, limits(per_tenant=Rate(100, 60)))
    await world.spend(90)
    await world.refused(20)

    async def reload(settings: Settings) -> None:
        world.settings = settings
        await world.stage.configure(settings, Policies(settings))

    await reload(limits(per_tenant=Rate(120, 60)))
    await world.spend(20)
    await world.refused(20)
    scope = Scope(tenant="a", changes=(Change("token_limit", "per_tenant", None),))
    await reload(Settings(policy=Policy(token_limit=TokenLimitPolicy(per_tenant=Rate(120, 60))), scopes=(scope,)))
    assert world.stage.statistics().refusing == ()
    assert not world.stage.applies(world.policy("a", OPENAI), "a")
    assert world.stage.applies(world.policy("b", OPENAI), "b")
