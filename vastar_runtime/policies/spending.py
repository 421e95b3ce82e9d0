"""Token limits and budgets: what a request may use is reserved before it is sent, and what it used is recorded."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, cast

import msgspec

from vastar_runtime.config import Budget, Policies, Settings
from vastar_runtime.config.origins import glob
from vastar_runtime.config.policy import Rate, TokenLimitPolicy
from vastar_runtime.errors import Denied, RateLimited, RequestError

from .allowance import (
    MAX_AMOUNT,
    Allowance,
    AllowanceBackend,
    AllowanceKey,
    AllowanceRefused,
    Amount,
    Calendar,
    Reserved,
    Sliding,
    Standing,
    refusal_message,
)

# Of tenants that came lately, and their origins and policies; each is a few small structs.
MAX_REMEMBERED = 4096
MAX_LISTED = 100

NOTHING = Amount(0, 0)
_NANO = 10**9
# Of an allowance that counts by tenant alone.
_ANYWHERE = "https://origin.invalid"


class RefusingAllowance(msgspec.Struct, frozen=True, kw_only=True):
    """An allowance that has refused a request, for which there is no room yet.

    Attributes:
        name: "token_limit.per_tenant" and its like, or a budget's name.
        tenant_id, origin: None: not by this.
        unit: what ``limit``, ``used`` and ``reserved`` are counted in: "tokens", or "cost": 10**-9 of the currency.
        used, reserved, asked: when it refused last.
        refused: requests, one after the other without a time in between in which there was room.
        next_in_ms: until there may be.
    """

    name: str
    tenant_id: str | None
    origin: str | None
    unit: str
    limit: int
    used: int
    reserved: int
    asked: int
    refused: int
    next_in_ms: int


class SpendingStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot.

    Attributes:
        admitted, refused: requests with a token limit or a budget, since the start.
        allowances: counted in this process.
        currency: of costs.
        refusing: allowances without room, the latest first, at most MAX_LISTED.
        standings: of those that were asked for last, at most MAX_LISTED.
    """

    admitted: int
    refused: int
    allowances: int
    currency: str
    refusing: tuple[RefusingAllowance, ...]
    standings: tuple[Standing, ...]


class _Refusal(NamedTuple):
    last: AllowanceRefused
    refused: int
    ends_at_s: float


class Spending:
    """The stage.

    Args:
        backend: counts.
        clock: seconds, monotonic.
    """

    def __init__(self, settings: Settings, backend: AllowanceBackend, clock: Callable[[], float]) -> None:
        self.backend = backend
        self._clock = clock
        self._admitted = self._refused = 0
        self._refusals: OrderedDict[AllowanceKey, _Refusal] = OrderedDict()
        self._use(settings)

    def applies(self, policy: TokenLimitPolicy, tenant_id: str) -> bool:
        """Whether anything is limited for requests of this tenant that use tokens."""
        return policy.limits_anything or (bool(self._budgets) and bool(self._budgets_for(tenant_id)))

    async def reserve(self, policy: TokenLimitPolicy, tenant_id: str, origin: str, amount: Amount) -> Reserved | None:
        """Reserve this of every limit and budget that applies; None: none does.

        Raises:
            RateLimited: one of them has too little left; nothing was reserved.
            Denied: one of them never has so much.
        """
        allowances = self._allowances_for(policy, tenant_id, origin)
        if not allowances:
            return None
        decision = await self.decide(allowances, amount)
        if isinstance(decision, Reserved):
            return decision
        raise self._refusal(decision)

    async def decide(self, allowances: Sequence[Allowance], amount: Amount) -> Reserved | AllowanceRefused:
        """See AllowanceBackend.reserve; for another process that has found out which apply."""
        decision = await self.backend.reserve(allowances, amount)
        if isinstance(decision, Reserved):
            self._admitted += 1
        else:
            self._refused += 1
            self._remember(decision)
        return decision

    def settle(self, reserved: Reserved, used: Amount) -> None:
        """This was used, whatever was reserved: once for each reservation."""
        self.backend.settle(reserved, used)

    async def configure(self, settings: Settings, policies: Policies) -> None:
        """Other limits and budgets from now on; what is used stays used."""
        self._use(settings)

        def is_set(key: AllowanceKey) -> bool:
            if not key.name.startswith("token_limit."):
                return any(budget.name == key.name for budget in self._budgets_for(key.tenant_id or ""))
            # A limit of tenants is set in no scope with an origin, nor one of origins in one with a tenant.
            policy = policies.policy_for(key.tenant_id or "", key.origin or _ANYWHERE).token_limit
            return getattr(policy, key.name.removeprefix("token_limit.")) is not None

        self._refusals.clear()  # with other limits there may be room
        await self.backend.settle_policies(is_set)

    def statistics(self) -> SpendingStatistics:
        """What was decided so far, and how much of which allowance is used."""
        return SpendingStatistics(
            admitted=self._admitted,
            refused=self._refused,
            allowances=len(self.backend),
            currency=self._currency,
            refusing=tuple(self._refusing()),
            standings=self.backend.standings(MAX_LISTED),
        )

    # --- inside ---

    def _use(self, settings: Settings) -> None:
        self._currency = settings.usage.currency
        self._budgets = settings.budgets
        self._budgets_for = lru_cache(MAX_REMEMBERED)(self._find_budgets)
        self._allowances_for = lru_cache(MAX_REMEMBERED)(self._find_allowances)

    def _find_budgets(self, tenant_id: str) -> tuple[Budget, ...]:
        return tuple(budget for budget in self._budgets if glob(budget.tenant, tenant_id))

    def _find_allowances(self, policy: TokenLimitPolicy, tenant_id: str, origin: str) -> Sequence[Allowance]:
        found: list[Allowance] = []
        if (rate := policy.per_tenant) is not None:
            found.append(_token_limit("per_tenant", tenant_id, None, rate))
        if (rate := policy.per_origin) is not None:
            found.append(_token_limit("per_origin", None, origin, rate))
        if (rate := policy.per_tenant_and_origin) is not None:
            found.append(_token_limit("per_tenant_and_origin", tenant_id, origin, rate))
        for budget in self._budgets_for(tenant_id):
            found.append(_budget(budget, tenant_id))
        return tuple(found)

    def _remember(self, refused: AllowanceRefused) -> None:
        if refused.never_fits:  # it says nothing about others
            return
        key, now_s = refused.allowance.key, self._clock()
        before = self._refusals.pop(key, None)
        count = before.refused if before is not None and now_s < before.ends_at_s else 0
        self._refusals[key] = _Refusal(refused, count + 1, now_s + refused.retry_after_ms / 1000)
        if len(self._refusals) > MAX_LISTED:
            self._refusals.popitem(last=False)

    def _refusing(self) -> Iterator[RefusingAllowance]:
        now_s = self._clock()
        for key, (last, refused, ends_at_s) in reversed(self._refusals.items()):
            if ends_at_s > now_s:
                yield RefusingAllowance(
                    name=key.name,
                    tenant_id=key.tenant_id,
                    origin=key.origin,
                    unit=last.allowance.unit,
                    limit=last.allowance.limit,
                    used=last.used,
                    reserved=last.reserved,
                    asked=last.asked,
                    refused=refused,
                    next_in_ms=math.ceil((ends_at_s - now_s) * 1000),
                )

    def _refusal(self, refused: AllowanceRefused) -> RequestError:
        message = refusal_message(refused, self._currency)
        if refused.never_fits:
            return Denied(message)
        return RateLimited(message, retry_after_ms=refused.retry_after_ms)


def _token_limit(kind: str, tenant_id: str | None, origin: str | None, rate: Rate) -> Allowance:
    return Allowance(
        AllowanceKey(f"token_limit.{kind}", tenant_id, origin), rate.count, "tokens", Sliding(rate.period_s)
    )


def _budget(budget: Budget, tenant_id: str) -> Allowance:
    period = cast(Literal["day", "month"], budget.per)
    key = AllowanceKey(budget.name, tenant_id, None)
    if budget.tokens is not None:
        return Allowance(key, min(budget.tokens, MAX_AMOUNT), "tokens", Calendar(period))
    assert budget.cost is not None
    return Allowance(key, min(round(budget.cost * _NANO), MAX_AMOUNT), "cost", Calendar(period))
