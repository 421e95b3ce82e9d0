"""Allowances in Redis: tokens and money of all daemons with the same prefix.

What holds, when estimates are not below what is used:

- While Redis answers, no window holds more than its limit, whatever processes do: one that ends, hangs or is cut off
  for LEASE_S has used what it had reserved.
- When Redis restarts, with all of its data, some of it or none, every process says again what it has reserved and
  used, and until RECOVERY_S have passed ``fail`` holds. Then the limits hold on as if nothing had happened, but for
  processes that ended before they could say so and whose use Redis has lost, and for one that is cut off from Redis
  for longer than that, until it is back.
- While ``fail`` is "open" or "local", more is used than the limits allow; it is told when Redis is back, so that it
  counts from then on.
- Redis must not evict (maxmemory-policy noeviction): one key less is not noticed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import trio

from vastar_runtime.policies.allowance import (
    Allowance,
    AllowanceBackend,
    AllowanceKey,
    AllowanceRefused,
    Amount,
    Reservation,
    Reserved,
    Standing,
    UsedBefore,
    refusal,
    worse,
)
from vastar_runtime.policies.bounded import MAX_KEYS
from vastar_runtime.policies.earlier_use import EarlierUse, Question
from vastar_runtime.policies.use_windows import CalendarUse, Now

from .own_use import OwnUse, OwnUses
from .redis_link import RedisLink
from .redis_scripts import RESERVE, SYNC
from .redis_session import BACKGROUND_TIMEOUT_S, Session
from .unavailable import Fail, LimitsUnavailable, Unavailable

# Allowances that one script is told of: a millisecond or two of Redis' time.
TOLD_AT_ONCE = 64
# Redis keeps what is reserved for an hour; it is told of it again before that.
RETELL_S = 600.0


class _Open(msgspec.Struct, frozen=True):
    """A reservation: of whom, how much, and where else it is counted."""

    charges: tuple[tuple[OwnUse, int], ...]
    local: Reserved | None


class RedisAllowances:
    """See AllowanceBackend.

    Args:
        fail: what holds while Redis does not answer.
        local: counts for this process alone, for that time.
        used_before: see LocalAllowances; what this daemon has used.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        fail: Fail,
        local: AllowanceBackend,
        used_before: UsedBefore | None = None,
        max_keys: int = MAX_KEYS,
    ) -> None:
        self._link = link
        self._fail = fail
        self._local = local
        self._earlier_use = EarlierUse(used_before)
        self._uses = OwnUses(max_keys, link.now, is_known=self._earlier_use.is_none)
        self._ids = itertools.count(1)
        self._open: dict[int, _Open] = {}
        # What Redis does not know yet: no more of them than there are.
        self._news: dict[OwnUse, None] = {}
        self._has_news = trio.Event()
        self._telling = 0
        self._all_told = trio.Event()

    async def reserve(self, allowances: Sequence[Allowance], amount: Amount) -> Reserved | AllowanceRefused:
        """As the protocol says; waits for the link's time limit at most, and before that for what was used before.

        Raises:
            LimitsUnavailable: there is no answer, and nothing is to be let through then.
        """
        owns = self._uses.find(tuple(allowances))
        for own in owns:
            own.awaited_by += 1
        try:
            return await self._reserve(allowances, owns, amount)
        except Unavailable as error:
            return await self._without_redis(allowances, owns, amount, error)
        finally:
            for own in owns:
                own.awaited_by -= 1

    def settle(self, reserved: Reserved, used: Amount) -> None:
        """As the protocol says; Redis is told soon, or when it is back."""
        opened = self._open.pop(reserved.id)
        for own, asked in opened.charges:
            own.in_flight -= 1
            own.reserved -= asked
            own.add_used(used.of(own.allowance.unit))
            self._is_news(own)
        if opened.local is not None:
            self._local.settle(opened.local, used)

    async def all_told(self) -> None:
        """Wait until Redis knows all that was settled; for ever, while it does not answer."""
        while self._news or self._telling:
            self._all_told = trio.Event()
            await self._all_told.wait()

    async def settle_policies(self, is_set: Callable[[AllowanceKey], bool]) -> None:
        """As the protocol says."""
        await self._local.settle_policies(is_set)
        if not self._earlier_use.is_none:
            for own in list(self._uses):
                if isinstance(own.use, CalendarUse) and not own.is_shared and not is_set(own.allowance.key):
                    own.use.is_known = False
                    own.question = own.before = None

    def standings(self, at_most: int) -> tuple[Standing, ...]:
        """As the protocol says; what Redis said last of those that this process has asked for."""
        return tuple(
            Standing(own.allowance, own.known_used, own.known_reserved)
            for own in itertools.islice(self._uses, at_most)
            if not own.is_shared
        )

    def __len__(self) -> int:
        return len(self._uses) + len(self._local)

    # --- for the link ---

    async def contribute(self, session: Session) -> None:
        """See Contributor."""
        owns = [own for own in self._uses if own in self._news or not own.is_idle(session.now())]
        for first in range(0, len(owns), TOLD_AT_ONCE):
            await self._tell(session, owns[first : first + TOLD_AT_ONCE], is_all=True)

    async def serve(self, session: Session) -> None:
        """See Contributor."""
        retold_at_s = trio.current_time()
        while True:
            while self._news:
                await self._tell(session, list(itertools.islice(self._news, TOLD_AT_ONCE)), is_all=False)
            self._has_news = trio.Event()
            with trio.move_on_at(retold_at_s + RETELL_S):
                await self._has_news.wait()
            if trio.current_time() >= retold_at_s + RETELL_S:
                retold_at_s = trio.current_time()
                self._news.update((own, None) for own in self._uses if own.in_flight)

    # --- inside ---

    async def _reserve(
        self, allowances: Sequence[Allowance], owns: Sequence[OwnUse], amount: Amount
    ) -> Reserved | AllowanceRefused:
        self._link.session()  # or nothing else is worth asking
        for own in owns:
            await self._learn_used_before(own)
        asked = [amount.of(allowance.unit) for allowance in allowances]
        items = [
            [*own.window(), allowance.limit, each] for allowance, own, each in zip(allowances, owns, asked, strict=True)
        ]
        told = [own.told for own in owns]
        for own, each in zip(owns, asked, strict=True):
            own.asking += each
        is_answered = False
        try:
            _, is_reserved, answer = await self._link.ask(RESERVE, {"items": items})
            is_answered = True
            if is_reserved:
                for own, standing in zip(owns, answer, strict=True):
                    own.known_used, own.known_reserved = standing
                return self._hold(allowances, owns, asked, None)
        finally:
            for own, each, before in zip(owns, asked, told, strict=True):
                own.asking -= each
                if not is_answered or own.told != before:
                    self._is_news(own)  # Redis may believe that it is still asked for, or that it is reserved
        refused: AllowanceRefused | None = None
        for position, used, reserved, first_us, second_us in answer:
            allowance, own = allowances[position], owns[position]
            own.known_used, own.known_reserved = used, reserved
            waits = {
                used + asked[position] - allowance.limit: first_us,
                used + reserved + asked[position] - allowance.limit: second_us,
            }
            refused = worse(
                refused,
                refusal(
                    allowance,
                    used=used,
                    reserved=reserved,
                    asked=asked[position],
                    leaves_in_us=waits.__getitem__,
                    is_shared=own.is_shared,
                ),
            )
        assert refused is not None
        return refused

    async def _without_redis(
        self, allowances: Sequence[Allowance], owns: Sequence[OwnUse], amount: Amount, error: Unavailable
    ) -> Reserved | AllowanceRefused:
        if self._fail == "closed":
            raise LimitsUnavailable(self._link.address, error.reason) from None
        local: Reserved | None = None
        if self._fail == "local":
            decision = await self._local.reserve(allowances, amount)
            if isinstance(decision, AllowanceRefused):
                return decision
            local = decision
        for own in owns:
            self._is_news(own)
        return self._hold(allowances, owns, [amount.of(allowance.unit) for allowance in allowances], local)

    def _hold(
        self, allowances: Sequence[Allowance], owns: Sequence[OwnUse], asked: Sequence[int], local: Reserved | None
    ) -> Reserved:
        for own, each in zip(owns, asked, strict=True):
            own.in_flight += 1
            own.reserved += each
        reservations = tuple(Reservation(allowance, each) for allowance, each in zip(allowances, asked, strict=True))
        reserved = Reserved(next(self._ids), reservations)
        self._open[reserved.id] = _Open(tuple(zip(owns, asked, strict=True)), local)
        return reserved

    def _is_news(self, own: OwnUse) -> None:
        self._news[own] = None
        self._has_news.set()

    async def _learn_used_before(self, own: OwnUse) -> None:
        now, use = self._link.now(), own.use
        if not isinstance(use, CalendarUse) or not own.has_to_ask(now):
            return
        self._link.session()  # or nothing else is worth asking
        question, since_s = own.question or Question(self._earlier_use), use.since_unix_s(now)
        own.question = question
        await question.ask(own.allowance, since_s, partial(self._learned, own, since_s))
        while own.before is not None or not (own.is_known or own.has_begun):
            if own.learning is not None:
                await own.learning.wait()
                continue
            if own.before is None:
                own.before, own.is_answered = 0, False
            own.learning = trio.Event()
            try:
                session = self._link.session()
                # Who asks may be gone by now, but not what was told, or it would be told twice.
                with trio.CancelScope(shield=True):
                    await self._tell(session, [own], is_all=False, timeout_s=self._link.timeout_s)
            finally:  # who fails leaves it to the next
                own.learning.set()
                own.learning = None

    def _learned(self, own: OwnUse, since_s: int, used: int) -> None:
        assert isinstance(own.use, CalendarUse)
        if own.use.since_unix_s(self._link.now()) == since_s:  # else that period is over
            own.before, own.is_answered = used, True
            self._is_news(own)

    async def _tell(
        self, session: Session, owns: Sequence[OwnUse], *, is_all: bool, timeout_s: float = BACKGROUND_TIMEOUT_S
    ) -> None:
        items, uses, answered = [], [], []
        for own in owns:
            self._news.pop(own, None)
            answered.append(own.before is not None and own.is_answered)
            item, use = own.tell(session.now(), is_all=is_all)
            items.append(item)
            uses.append(use)
        self._telling += 1
        try:
            now_us, begun = await session.ask(SYNC, {"items": items}, timeout_s)
        except BaseException:
            # The next connection begins with all of it: should Redis have heard, that takes the place of what it knows.
            for own, use in zip(owns, uses, strict=True):
                own.add_untold(use)
                self._is_news(own)
            raise
        finally:
            self._telling -= 1
            if not self._telling and not self._news:
                self._all_told.set()
        now = Now(now_us, now_us)
        for own, use in zip(owns, uses, strict=True):
            own.use.record(use, now)
        for position, used in begun:
            owns[position].begin(used, now, is_answered=answered[position])
