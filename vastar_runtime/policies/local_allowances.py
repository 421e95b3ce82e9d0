"""Allowances that are counted in this process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import trio

from .allowance import (
    Allowance,
    AllowanceKey,
    AllowanceRefused,
    Amount,
    Reservation,
    Reserved,
    Standing,
    Unit,
    UsedBefore,
    refusal,
    worse,
)
from .bounded import MAX_KEYS, BoundedTable
from .earlier_use import EarlierUse, Question
from .use_windows import US_PER_S, CalendarUse, Now, UseWindow, use_window

SETTLED_PER_TURN = 64


class LocalAllowances:
    """Exact for budgets; a sliding window is up to one of its 60 slots too long.

    A counter without use and reservations is as good as none, so it may be forgotten. While the table is full and holds
    none such, a new key shares a counter with all others that find no room and have the same limit. A key gets its own
    when there is room and nothing is reserved with the shared one; it begins with what is used there, which may be its
    own.

    Args:
        clock: seconds, monotonic.
        unix_clock: Unix seconds.
        used_before: what was used of a day's or month's allowance before this process counted it; None: nothing.
        max_keys: counters kept, besides the shared ones: one for each setting of the configuration at most.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        unix_clock: Callable[[], float],
        used_before: UsedBefore | None = None,
        max_keys: int = MAX_KEYS,
    ) -> None:
        self._clock = clock
        self._unix_clock = unix_clock
        self._earlier_use = EarlierUse(used_before)
        self._table: BoundedTable[tuple[AllowanceKey, Unit], _Counter] = BoundedTable(
            max_keys, lambda counter, _: counter.is_idle(self._now())
        )
        self._shared: dict[Allowance, _Counter] = {}
        self._ids = itertools.count(1)
        self._open: dict[int, tuple[tuple[_Counter, int], ...]] = {}

    async def reserve(self, allowances: Sequence[Allowance], amount: Amount) -> Reserved | AllowanceRefused:
        """As the protocol says; waits for nothing but what was used before, and a second for that at most."""
        now = self._now()
        counters = self._counters(allowances, now)
        asking = [counter for counter in counters if counter.has_to_ask(now)]
        if asking:
            for counter in counters:
                counter.awaited_by += 1
            try:
                for counter in asking:
                    await self._learn_used_before(counter)
            finally:
                for counter in counters:
                    counter.awaited_by -= 1
        return self._decide(allowances, counters, amount)

    def settle(self, reserved: Reserved, used: Amount) -> None:
        """As the protocol says."""
        now = self._now()
        for counter, amount in self._open.pop(reserved.id):
            counter.in_flight -= 1
            counter.reserved -= amount
            counter.use.record(used.of(counter.allowance.unit), now)

    async def settle_policies(self, is_set: Callable[[AllowanceKey], bool]) -> None:
        """As the protocol says; gives others their turn now and then."""
        for number, (place, counter) in enumerate(list(self._table.latest())[::-1], 1):
            if number % SETTLED_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
            if is_set(counter.allowance.key) or self._table.get(place) is not counter:
                continue
            if isinstance(counter.use, CalendarUse):
                # What is used until there is such a budget again is not counted here, but may be known.
                counter.use.is_known = self._earlier_use.is_none
                counter.question = None
            elif not counter.in_flight and not counter.awaited_by:
                self._table.remove(place)

    def standings(self, at_most: int) -> tuple[Standing, ...]:
        """As the protocol says; all of this process."""
        now = self._now()
        latest = itertools.islice(self._table.latest(), at_most)
        return tuple(Standing(counter.allowance, counter.use.used(now), counter.reserved) for _, counter in latest)

    def __len__(self) -> int:
        return len(self._table) + len(self._shared)

    # --- inside ---

    def _now(self) -> Now:
        return Now(int(self._clock() * US_PER_S), int(self._unix_clock() * US_PER_S))

    def _counters(self, allowances: Sequence[Allowance], now: Now) -> list[_Counter]:
        counters: list[_Counter] = []
        # Room first: what follows must not forget a counter that it has found.
        room = self._table.make_room(sum(_place(allowance) not in self._table for allowance in allowances), 0)
        for allowance in allowances:
            counter = self._table.get(_place(allowance))
            if counter is None:
                shared = self._shared.get(_shared(allowance)) if self._shared else None
                if room and not (shared and (shared.in_flight or shared.awaited_by)):
                    room -= 1
                    use = use_window(allowance.window, now, None, is_known=self._earlier_use.is_none)
                    counter = _Counter(allowance, use)
                    if shared:
                        counter.use.record(shared.use.used(now), now)
                    self._table.put(_place(allowance), counter)
                else:
                    counter = shared or self._share(allowance, now, counters)
            elif counter.allowance is not allowance:
                if counter.allowance.window != allowance.window:
                    is_known = self._earlier_use.is_none
                    counter.use = use_window(allowance.window, now, counter.use, is_known=is_known)
                    counter.question = None
                counter.allowance = allowance
            counters.append(counter)
        return counters

    def _share(self, allowance: Allowance, now: Now, found: Sequence[_Counter]) -> _Counter:
        # Settings come and go with reloads.
        shared = self._shared.items()
        for idle in [setting for setting, counter in shared if counter.is_idle(now) and counter not in found]:
            del self._shared[idle]
        # Of whom it counts nobody knows what they used before.
        counter = _Counter(_shared(allowance), use_window(allowance.window, now, None, is_known=True), is_shared=True)
        self._shared[_shared(allowance)] = counter
        return counter

    async def _learn_used_before(self, counter: _Counter) -> None:
        while isinstance(use := counter.use, CalendarUse):
            question = counter.question or Question(self._earlier_use)
            counter.question = question
            since_s = use.since_unix_s(self._now())
            await question.ask(counter.allowance, since_s, partial(self._learned, use, since_s))
            if counter.use is use:
                return
            # It is another window by now.

    def _learned(self, use: CalendarUse, since_s: int, used: int) -> None:
        now = self._now()
        if use.since_unix_s(now) == since_s:  # else that period is over
            use.learn(used, now)

    def _decide(
        self, allowances: Sequence[Allowance], counters: Sequence[_Counter], amount: Amount
    ) -> Reserved | AllowanceRefused:
        now = self._now()
        refused: AllowanceRefused | None = None
        for allowance, counter in zip(allowances, counters, strict=True):
            refused = worse(refused, counter.refusal(allowance, amount.of(allowance.unit), now))
        if refused is not None:
            return refused
        charges = []
        for allowance, counter in zip(allowances, counters, strict=True):
            asked = amount.of(allowance.unit)
            counter.reserved += asked
            counter.in_flight += 1
            charges.append((counter, asked))
        reservations = tuple(Reservation(allowance, amount.of(allowance.unit)) for allowance in allowances)
        reserved = Reserved(next(self._ids), reservations)
        self._open[reserved.id] = tuple(charges)
        return reserved


class _Counter:
    """One key's, or one that many share.

    Attributes:
        allowance: as it was asked for last; a shared one's key has a name alone.
        question: what was used before is asked for.
    """

    __slots__ = ("allowance", "awaited_by", "in_flight", "is_shared", "question", "reserved", "use")

    def __init__(self, allowance: Allowance, use: UseWindow, *, is_shared: bool = False) -> None:
        self.allowance = allowance
        self.use = use
        self.is_shared = is_shared
        self.in_flight = self.reserved = 0
        self.awaited_by = 0
        self.question: Question | None = None

    def has_to_ask(self, now: Now) -> bool:
        """What was used before has to be counted in, and may not be."""
        if not isinstance(self.use, CalendarUse):
            return False
        self.use.used(now)  # a clock that was set back is seen by that
        if self.question is not None and self.question.is_done:
            self.question = None
        return not self.use.is_known or self.question is not None

    def is_idle(self, now: Now) -> bool:
        """It may be forgotten; one that has to learn what was used before learns it again, if it can be had."""
        if self.in_flight or self.awaited_by:
            return False
        may_learn = isinstance(self.use, CalendarUse) and not self.use.is_known and self.question is None
        return may_learn or not self.use.used(now)

    def refusal(self, allowance: Allowance, asked: int, now: Now) -> AllowanceRefused | None:
        """None: there is room for so much more."""
        return refusal(
            allowance,
            used=self.use.used(now),
            reserved=self.reserved,
            asked=asked,
            leaves_in_us=lambda amount: self.use.leaves_in_us(amount, now),
            is_shared=self.is_shared,
        )


def _place(allowance: Allowance) -> tuple[AllowanceKey, Unit]:
    """Where it is counted: tokens and money apart, should a budget change from one to the other."""
    return allowance.key, allowance.unit


def _shared(allowance: Allowance) -> Allowance:
    return msgspec.structs.replace(allowance, key=AllowanceKey(allowance.key.name, None, None))
