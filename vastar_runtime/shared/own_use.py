"""What one process uses of an allowance that it shares with others: all that Redis has to know of it.

Redis learns it whole with every new connection, and what is new while that lasts. What the process says of itself is
the truth: it replaces what stood there, so that nothing is lost with a Redis that forgets, and nothing counts twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import trio

from vastar_runtime.policies.allowance import MAX_AMOUNT, Allowance, AllowanceKey, Sliding, Unit
from vastar_runtime.policies.bounded import BoundedTable
from vastar_runtime.policies.earlier_use import Question
from vastar_runtime.policies.use_windows import SLOTS, US_PER_S, CalendarUse, Now, SlidingUse, UseWindow, use_window

from .redis_names import name_in_redis


class OwnUse:
    """Of one key, or of one that many share.

    Attributes:
        allowance: as it was asked for last; a shared one's key has a name alone.
        use: what Redis was told, in its time.
        untold: what was used since.
        in_flight: requests that hold something.
        reserved: by all of them, whether Redis knows them or not.
        asking: what requests ask for at the moment; nobody knows yet whether they get it.
        told: how often Redis was told.
        awaited_by: requests that will look at it.
        before: what was used before this process counted, until Redis knows that, too; what is used meanwhile is
            added, as it was not in that.
        is_answered: ``before`` is what the ledger says, and not 0 for want of an answer.
        has_begun: Redis was told what was used before, or that nobody says.
        question: what was used before is asked for.
        learning: is set when the request that tells Redis what was used before has done so, or has given up.
        known_used, known_reserved: by all processes, as Redis said last.
    """

    __slots__ = (
        "allowance",
        "asking",
        "awaited_by",
        "before",
        "has_begun",
        "in_flight",
        "is_answered",
        "is_shared",
        "known_reserved",
        "known_used",
        "learning",
        "question",
        "reserved",
        "told",
        "untold",
        "use",
    )

    def __init__(self, allowance: Allowance, use: UseWindow, *, is_shared: bool = False) -> None:
        self.allowance = allowance
        self.use = use
        self.is_shared = is_shared
        self.untold = self.in_flight = self.reserved = self.asking = self.told = self.awaited_by = 0
        self.known_used = self.known_reserved = 0
        self.before: int | None = None
        self.is_answered = self.has_begun = False
        self.question: Question | None = None
        self.learning: trio.Event | None = None

    @property
    def is_known(self) -> bool:
        """What was used before is counted in, if it has to be."""
        return not isinstance(self.use, CalendarUse) or self.use.is_known

    def has_to_ask(self, now: Now) -> bool:
        """What was used before has to be counted in, and may not be."""
        self.use.used(now)  # a clock that was set back is seen by that
        if self.question is not None and self.question.is_done:
            self.question = None
        return not self.is_known or self.question is not None or self.before is not None

    def is_idle(self, now: Now) -> bool:
        """It may be forgotten; one that has to learn what was used before learns it again, if it can be had."""
        if self.in_flight or self.asking or self.untold or self.awaited_by or self.before is not None:
            return False
        return (not self.is_known and self.question is None) or not self.use.used(now)

    def window(self) -> list[str | int]:
        """Its name in Redis, and its window there."""
        window = self.allowance.window
        kind = "sliding" if isinstance(window, Sliding) else window.period
        period_us = window.period_s * US_PER_S if isinstance(window, Sliding) else 0
        shared = (str(self.allowance.limit), "shared") if self.is_shared else ()
        name = name_in_redis((kind, self.allowance.unit, *self.allowance.key, *shared))
        return [name, kind, period_us, -(-period_us // SLOTS)]

    def tell(self, now: Now, *, is_all: bool) -> tuple[list[object], int]:
        """What Redis is told, and how much of that is use that it was not told before.

        Args:
            is_all: it knows nothing of what it was told before.
        """
        use, self.untold = self.untold, 0
        self.told += 1
        slots = self.use.slots(now) if is_all else []
        before = -1 if self.before is None else self.before
        return [*self.window(), min(self.reserved + self.asking, MAX_AMOUNT), use, int(is_all), slots, before], use

    def add_used(self, amount: int) -> None:
        """So much more was used, just now."""
        self.add_untold(amount)
        if self.before is not None and self.is_answered:
            self.before = min(self.before + amount, MAX_AMOUNT)

    def add_untold(self, amount: int) -> None:
        """So much more was used, or Redis may not have heard of it."""
        self.untold = min(self.untold + amount, MAX_AMOUNT)

    def begin(self, used: int, now: Now, *, is_answered: bool) -> None:
        """Redis was told what was used before, and counts so much by now.

        Args:
            is_answered: as it was when Redis was told.
        """
        assert isinstance(self.use, CalendarUse)
        self.use.learn(used, now)
        self.use.is_known = is_answered
        self.has_begun = True
        if is_answered or not self.is_answered:
            self.before = None


class OwnUses:
    """Of many keys: as many as there is room for; the others share, as those of LocalAllowances do.

    Args:
        now: Redis' time, as far as is known.
        is_known: what was used before this process counted does not matter.
    """

    def __init__(self, max_keys: int, now: Callable[[], Now], *, is_known: bool) -> None:
        self._now = now
        self._is_known = is_known
        self._table: BoundedTable[tuple[AllowanceKey, Unit, str], OwnUse] = BoundedTable(
            max_keys, lambda own, _: own.is_idle(self._now())
        )
        self._shared: dict[Allowance, OwnUse] = {}

    def find(self, allowances: tuple[Allowance, ...]) -> list[OwnUse]:
        """Those of one request; they stay as long as they are awaited or hold anything."""
        now = self._now()
        found: list[OwnUse] = []
        missing = sum(_place(allowance) not in self._table for allowance in allowances)
        room = self._table.make_room(missing, 0)
        for allowance in allowances:
            own = self._table.get(_place(allowance))
            if own is None:
                own, room = self._new(allowance, now, room, found)
            elif own.allowance is not allowance:
                if own.allowance.window != allowance.window:  # another period
                    assert isinstance(own.use, SlidingUse)
                    own.use = use_window(allowance.window, now, own.use, is_known=True)
                own.allowance = allowance
            found.append(own)
        return found

    def __iter__(self) -> Iterator[OwnUse]:
        """All; the one that was asked for last first."""
        for _, own in self._table.latest():
            yield own
        yield from self._shared.values()

    def __len__(self) -> int:
        return len(self._table) + len(self._shared)

    def _new(self, allowance: Allowance, now: Now, room: int, found: list[OwnUse]) -> tuple[OwnUse, int]:
        shared = self._shared.get(_shared(allowance)) if self._shared else None
        # Who may have used something where all share, stays there until that has gone: this process alone knows of it.
        if room and (shared is None or (shared.is_idle(now) and shared not in found)):
            own = OwnUse(allowance, use_window(allowance.window, now, None, is_known=self._is_known))
            self._table.put(_place(allowance), own)
            return own, room - 1
        if shared is None:
            for idle in [setting for setting, own in self._shared.items() if own.is_idle(now) and own not in found]:
                del self._shared[idle]  # settings come and go with reloads
            use = use_window(allowance.window, now, None, is_known=True)
            shared = self._shared[_shared(allowance)] = OwnUse(_shared(allowance), use, is_shared=True)
        return shared, 0


def _place(allowance: Allowance) -> tuple[AllowanceKey, Unit, str]:
    """Where it is counted: tokens and money apart, and days and months; sliding windows of any period together."""
    window = allowance.window
    return allowance.key, allowance.unit, "sliding" if isinstance(window, Sliding) else window.period


def _shared(allowance: Allowance) -> Allowance:
    return msgspec.structs.replace(allowance, key=AllowanceKey(allowance.key.name, None, None))
