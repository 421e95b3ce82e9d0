"""Allowances: so many tokens, or so much money, in a sliding window or since the day or month began.

What a request will use is known afterwards: it reserves what it is thought to need, and the reservation counts in full
until what was really used is recorded instead. So a limit is not overrun by what is in flight, and is overrun only by
as much as a request uses beyond what was reserved for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from vastar_runtime.config.policy import PERIODS_S

# Amounts and limits are at most this, so that two of them add up exactly in a double, which is all that Redis counts
# in: 4.5 * 10**15 tokens, or 4.5 million of a currency.
MAX_AMOUNT = 2**52 - 1
# When only what others have reserved is in the way: nobody knows how long they take.
RESERVED_RETRY_MS = 1000

_NANO = 10**9
_US_PER_MS = 1000
_SHOWN_TENANT_CHARACTERS = 64
_RATE_UNITS = {period_s: unit for unit, period_s in PERIODS_S.items()}

Unit = Literal["tokens", "cost"]


class Amount(NamedTuple):
    """What a request uses, or is thought to use.

    Attributes:
        cost_nano: in 10**-9 of the currency.
    """

    tokens: int
    cost_nano: int

    def of(self, unit: Unit) -> int:
        """That part of it, from 0 to MAX_AMOUNT, whatever an upstream may have claimed."""
        return min(max(self.tokens if unit == "tokens" else self.cost_nano, 0), MAX_AMOUNT)


class AllowanceKey(NamedTuple):
    """What is counted together.

    Attributes:
        name: "token_limit.per_tenant" and its like, or a budget's name.
        tenant_id, origin: None: not by this.
    """

    name: str
    tenant_id: str | None
    origin: str | None


class Sliding(msgspec.Struct, frozen=True, tag="sliding"):
    """Any interval of this length.

    Attributes:
        period_s: at least 1.
    """

    period_s: int


class Calendar(msgspec.Struct, frozen=True, tag="calendar"):
    """The current day or month, in UTC."""

    period: Literal["day", "month"]


Window = Sliding | Calendar


class Allowance(msgspec.Struct, frozen=True):
    """How much may be used; what is counted goes by the key alone, and stays when the rest is set otherwise.

    Attributes:
        limit: of the unit (cost: in 10**-9 of the currency), from 0 to MAX_AMOUNT.
    """

    key: AllowanceKey
    limit: int
    unit: Unit
    window: Window


class Reservation(msgspec.Struct, frozen=True):
    """So much of one allowance."""

    allowance: Allowance
    amount: int


class Reserved(msgspec.Struct, frozen=True):
    """What ``settle`` takes.

    Attributes:
        id: the backend's own; no other reservation has it.
    """

    id: int
    reservations: tuple[Reservation, ...]

    @property
    def in_full(self) -> Amount:
        """All of it."""
        amounts = {reservation.allowance.unit: reservation.amount for reservation in self.reservations}
        return Amount(amounts.get("tokens", 0), amounts.get("cost", 0))


class AllowanceRefused(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing was reserved.

    Attributes:
        allowance: of those without room, one that never has it; else the one that takes longest.
        retry_after_ms: when there may be room, rounded up, at least 1; 0: there never will be.
        used: in the window.
        reserved: by requests in flight.
        asked: by this one.
        is_shared: it counts all together for whom the table of allowances had no room.
    """

    allowance: Allowance
    retry_after_ms: int
    used: int
    reserved: int
    asked: int
    is_shared: bool = False

    @property
    def never_fits(self) -> bool:
        """The request needs more than there ever is."""
        return self.asked > self.allowance.limit


class Standing(msgspec.Struct, frozen=True):
    """How much of an allowance is used in the window, and reserved by requests in flight."""

    allowance: Allowance
    used: int
    reserved: int


# Of a key, since that Unix second.
UsedBefore = Callable[[AllowanceKey, int], Awaitable[Amount]]


class AllowanceBackend(Protocol):
    """Where use is counted: in this process, or where several daemons share it."""

    async def reserve(self, allowances: Sequence[Allowance], amount: Amount) -> Reserved | AllowanceRefused:
        """Reserve this of every allowance, or of none; no two allowances have the same key.

        Raises:
            RequestError: where others share the count: they cannot be asked, and the configuration says to refuse.
        """

    def settle(self, reserved: Reserved, used: Amount) -> None:
        """Record what was used instead of what was reserved: once for each reservation; never waits."""

    async def settle_policies(self, is_set: Callable[[AllowanceKey], bool]) -> None:
        """Other settings hold from now on. What was used stays used, but of what is limited no longer.

        Args:
            is_set: whether there is still an allowance for this key.
        """

    def standings(self, at_most: int) -> tuple[Standing, ...]:
        """Of the allowances, as far as is known here; the one that was asked for last first."""

    def __len__(self) -> int:
        """Counters kept in this process."""


def refusal(
    allowance: Allowance,
    *,
    used: int,
    reserved: int,
    asked: int,
    leaves_in_us: Callable[[int], int],
    is_shared: bool = False,
) -> AllowanceRefused | None:
    """None: there is room for what is asked.

    Args:
        leaves_in_us: how long until so much of what was used, at least 1 and at most all, has left the window.
    """
    limit = allowance.limit
    if used + reserved + asked <= limit:
        return None
    retry_after_ms = 0
    if asked <= limit:
        # At the soonest when enough use has left, should others use nothing of what they have reserved; but that is
        # not known for a while. At the latest when enough has left beside what is reserved.
        too_much_used = used + asked - limit
        soonest_us = leaves_in_us(too_much_used) if too_much_used > 0 else 0
        wait_us = max(soonest_us, RESERVED_RETRY_MS * _US_PER_MS)
        if reserved + asked <= limit:
            wait_us = min(wait_us, leaves_in_us(too_much_used + reserved))
        retry_after_ms = max(-(-wait_us // _US_PER_MS), 1)
    return AllowanceRefused(
        allowance=allowance,
        retry_after_ms=retry_after_ms,
        used=used,
        reserved=reserved,
        asked=asked,
        is_shared=is_shared,
    )


def worse(one: AllowanceRefused | None, other: AllowanceRefused | None) -> AllowanceRefused | None:
    """The one that never fits, else the one that takes longer; the first of two that are alike."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda refused: (refused.never_fits, refused.retry_after_ms))


def refusal_message(refused: AllowanceRefused, currency: str) -> str:
    """One line for whoever sent the request.

    Args:
        currency: "USD"; the name of what costs are counted in.
    """
    allowance = refused.allowance
    name = allowance.key.name
    unit = "tokens" if allowance.unit == "tokens" else currency
    limit, used, reserved, asked = (
        shown_amount(amount, allowance.unit)
        for amount in (allowance.limit, refused.used, refused.reserved, refused.asked)
    )
    whom = _whom(allowance.key)
    if refused.is_shared:
        whom += " (and of all others that came when the table of allowances was full)"
    if name.startswith("token_limit."):
        what, setting, of = f"token limit of {_rate(limit, allowance.window)} of {whom}", f" ({name})", limit
    else:
        what, setting, of = f"budget {name!r} of {whom}", "", f"{limit} {unit} {_period(allowance.window)}"
    if refused.never_fits:
        hint = "; lower its max_tokens (without one, token_limit.assumed_completion_tokens are reserved)"
        return f"{what} can never hold the request: it needs about {asked} of {of}{setting}{hint}"
    standing = f"{used} used and {reserved} reserved of {of}" if refused.reserved else f"{used} of {of}"
    retry = f"try again in {refused.retry_after_ms} ms{_in_days(refused.retry_after_ms)}"
    return f"{what} is used up: {standing}, the request needs about {asked}; {retry}{setting}"


def _in_days(time_ms: int) -> str:
    hours = time_ms / 3_600_000
    return "" if hours < 1 else f" ({hours:.1f} h)" if hours < 48 else f" ({hours / 24:.1f} days)"


def _whom(key: AllowanceKey) -> str:
    tenant = None if key.tenant_id is None else f"tenant {key.tenant_id[:_SHOWN_TENANT_CHARACTERS]!r}"
    return " with ".join(part for part in (tenant, key.origin) if part is not None) or "all requests"


def _rate(limit: str, window: Window) -> str:
    if isinstance(window, Calendar):
        return f"{limit}/{window.period}"
    return f"{limit}/{_RATE_UNITS.get(window.period_s, f'{window.period_s} s')}"


def _period(window: Window) -> str:
    if isinstance(window, Sliding):
        return f"in {window.period_s} s"
    return {"day": "today", "month": "this month"}[window.period]


def shown_amount(amount: int, unit: Unit) -> str:
    """Money with two places or more: as many as are not zero, but of a whole unit and more at most four."""
    if unit == "tokens":
        return str(amount)
    if amount >= _NANO:
        amount = round(amount, -5)
    whole, part = divmod(amount, _NANO)
    return f"{whole}.{f'{part:09}'.rstrip('0'):0<2}"
