"""Allowances, short to write."""

from __future__ import annotations

from vastar_runtime.policies.allowance import (
    Allowance,
    AllowanceKey,
    AllowanceRefused,
    Amount,
    Calendar,
    Reserved,
    Sliding,
)

USD = 10**9
NOTHING = Amount(0, 0)


def per_tenant(limit: int, tenant: str = "batch", period_s: int = 60) -> Allowance:
    """A limit of tokens."""
    return Allowance(AllowanceKey("token_limit.per_tenant", tenant, None), limit, "tokens", Sliding(period_s))


def monthly(limit: int, tenant: str | None = "batch", name: str = "batch-monthly") -> Allowance:
    """A budget, in 10**-9 of the currency."""
    return Allowance(AllowanceKey(name, tenant, None), limit, "cost", Calendar("month"))


def daily(limit: int, tenant: str | None = "batch", name: str = "batch-daily") -> Allowance:
    """A budget of tokens."""
    return Allowance(AllowanceKey(name, tenant, None), limit, "tokens", Calendar("day"))


def tokens(count: int) -> Amount:
    return Amount(count, 0)


def cost(nano: int) -> Amount:
    return Amount(0, nano)


def got(decision: Reserved | AllowanceRefused) -> Reserved:
    assert isinstance(decision, Reserved), decision
    return decision


def denied(decision: Reserved | AllowanceRefused) -> AllowanceRefused:
    assert isinstance(decision, AllowanceRefused), decision
    return decision
