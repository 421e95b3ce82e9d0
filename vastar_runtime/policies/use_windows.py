"""How much was used in a window: one that slides, and a day or month of the calendar."""

from __future__ import annotations

from array import array
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, Protocol

from .allowance import MAX_AMOUNT, Calendar, Sliding, Window

# A sliding window loses what was used a slot at a time: use counts for a slot longer than its period at most, and
# never for less.
SLOTS = 60
# A clock that is set back by less than this, over the end of a day or month, does not bring that back.
MAX_SET_BACK_S = 3600

US_PER_S = 10**6


class Now(NamedTuple):
    """The time.

    Attributes:
        us: of a monotonic clock, in whole microseconds, rounded down.
        unix_us: since 1970.
    """

    us: int
    unix_us: int

    @property
    def unix_s(self) -> int:
        """In whole seconds, rounded down."""
        return self.unix_us // US_PER_S


class UseWindow(Protocol):
    """What was used in a window."""

    def used(self, now: Now) -> int:
        """In the window that ends now, or is under way."""

    def record(self, amount: int, now: Now) -> None:
        """So much was used just now."""

    def leaves_in_us(self, amount: int, now: Now) -> int:
        """How long until so much of what was used, at most all, has left the window."""

    def slots(self, now: Now) -> list[int]:
        """By turns, the end of a slot, in microseconds, and what was used in it; a day or month is one slot."""


class SlidingUse:
    """Use by slots: one counts as long as the window reaches back into any part of it.

    Args:
        earlier: what it goes on from, with another period.
    """

    __slots__ = ("_period_us", "_slot_us", "_slots", "_total")

    def __init__(self, window: Sliding, earlier: SlidingUse | None = None) -> None:
        self._period_us = window.period_s * US_PER_S
        self._slot_us = -(-self._period_us // SLOTS)
        # The end of a slot, and what was used in it, by turns; the oldest first. Tuples would take five times the room.
        self._slots = array("q")
        self._total = 0
        if earlier is not None:
            for position in range(0, len(earlier._slots), 2):
                self._add(earlier._slots[position], earlier._slots[position + 1])

    def used(self, now: Now) -> int:
        """See UseWindow."""
        left = 0
        while left < len(self._slots) and self._slots[left] + self._period_us <= now.us:
            self._total -= self._slots[left + 1]
            left += 2
        if left:
            del self._slots[:left]
        return self._total

    def record(self, amount: int, now: Now) -> None:
        """See UseWindow."""
        if amount:
            self.used(now)  # so that there are never more slots than the window is long
            self._add(now.us + 1, amount)

    def leaves_in_us(self, amount: int, now: Now) -> int:
        """See UseWindow."""
        for position in range(0, len(self._slots), 2):
            amount -= self._slots[position + 1]
            if amount <= 0:
                return self._slots[position] + self._period_us - now.us
        raise AssertionError("so much was not used")

    def slots(self, now: Now) -> list[int]:
        """See UseWindow."""
        self.used(now)
        return self._slots.tolist()

    def _add(self, until_us: int, amount: int) -> None:
        """To the slot that ends then, or contains that time, or to the last one if it is a later one."""
        end_us = -(-until_us // self._slot_us) * self._slot_us
        if self._slots and self._slots[-2] >= end_us:
            before = self._slots[-1]
            self._slots[-1] = min(before + amount, MAX_AMOUNT)
            self._total += self._slots[-1] - before
        else:
            self._slots.extend((end_us, amount))
            self._total += amount


class CalendarUse:
    """Use since the day or month began.

    Attributes:
        is_known: what was used before this process counted is in it. That ends when a clock that was ahead is set
            right: what was used before is asked for again.

    Args:
        used: so far.
        is_known: from the beginning: nobody can be asked, and it stays known.
    """

    __slots__ = ("_is_asked_for", "_left", "_period", "_since_s", "_until_s", "_used", "is_known")

    def __init__(self, window: Calendar, now: Now, *, used: int = 0, is_known: bool = True) -> None:
        self._period = window.period
        self._begin(period_starts_at_s(window.period, now.unix_s))
        self._used = used
        self._left = (self._since_s, 0)  # the period before in which something was used, and how much
        self._is_asked_for = not is_known
        self.is_known = is_known

    def since_unix_s(self, now: Now) -> int:
        """When the period began."""
        self.used(now)
        return self._since_s

    def used(self, now: Now) -> int:
        """See UseWindow."""
        if self._since_s <= now.unix_s < self._until_s:
            return self._used
        since_s = period_starts_at_s(self._period, now.unix_s)
        if since_s > self._since_s:
            # Whoever counted in the period before has counted all of this one.
            if self._used:
                self._left = (self._since_s, self._used)
            self._begin(since_s)
            self._used = 0
        elif now.unix_s < self._since_s - MAX_SET_BACK_S:
            # The clock was ahead. What was used meanwhile was used in the period that it is back in.
            left_since_s, left_used = self._left
            if left_since_s == since_s:
                self._used = min(self._used + left_used, MAX_AMOUNT)
            self._begin(since_s)
            self._left = (since_s, 0)
            if self._is_asked_for:
                self.is_known = False
        return self._used

    def record(self, amount: int, now: Now) -> None:
        """See UseWindow."""
        self._used = min(self.used(now) + amount, MAX_AMOUNT)

    def learn(self, used: int, now: Now) -> None:
        """So much was used in the period, as somebody else knows it, who has been told what was counted here or
        will be: the larger of both counts."""
        self._used = max(self.used(now), used)
        self.is_known = True

    def leaves_in_us(self, amount: int, now: Now) -> int:
        """See UseWindow; all at once, when the period ends."""
        return self._ends_at_s(now) * US_PER_S - now.unix_us

    def slots(self, now: Now) -> list[int]:
        """See UseWindow."""
        used = self.used(now)
        return [self._ends_at_s(now) * US_PER_S, used] if used else []

    def _ends_at_s(self, now: Now) -> int:
        self.used(now)
        return self._until_s

    def _begin(self, since_s: int) -> None:
        self._since_s = since_s
        self._until_s = period_ends_at_s(self._period, since_s)


def period_starts_at_s(period: Literal["day", "month"], unix_s: int) -> int:
    """When the day or month began that this Unix second is in."""
    if period == "day":
        return unix_s // 86_400 * 86_400
    date = datetime.fromtimestamp(unix_s, UTC)
    return int(datetime(date.year, date.month, 1, tzinfo=UTC).timestamp())


def period_ends_at_s(period: Literal["day", "month"], starts_at_s: int) -> int:
    """When the next one begins."""
    if period == "day":
        return starts_at_s + 86_400
    return period_starts_at_s("month", starts_at_s + int(timedelta(days=31).total_seconds()))


def use_window(window: Window, now: Now, earlier: UseWindow | None, *, is_known: bool) -> UseWindow:
    """An account of this window; one that goes on from another of the same key keeps what was used.

    Args:
        earlier: None: nothing was counted yet.
        is_known: see CalendarUse.
    """
    if isinstance(window, Sliding):
        if earlier is None or isinstance(earlier, SlidingUse):
            return SlidingUse(window, earlier)
        sliding = SlidingUse(window)
        sliding.record(earlier.used(now), now)
        return sliding
    return CalendarUse(
        window, now, used=0 if earlier is None else min(earlier.used(now), MAX_AMOUNT), is_known=is_known
    )
