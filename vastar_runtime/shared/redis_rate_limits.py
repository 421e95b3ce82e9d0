"""Rate limits in Redis: the token buckets of all daemons with the same prefix.

Redis keeps a bucket in whole numbers, so that it is as exact as one of this process. Each process remembers what the
buckets owed that it took from, and says so when Redis has started anew: who took last knows all of it, so nothing is
forgotten unless that process is gone, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import trio

from vastar_runtime.policies.bounded import MAX_KEYS, BoundedTable
from vastar_runtime.policies.token_bucket import Bucket, LimitKey, RateLimitBackend, Refused, Taken

from .redis_link import RedisLink
from .redis_names import name_in_redis
from .redis_scripts import GIVE_BACK, OWE, TAKE
from .redis_session import Session
from .unavailable import Fail, LimitsUnavailable, Unavailable

# Buckets that one script is told of: a millisecond of Redis' time.
TOLD_AT_ONCE = 128

_US_PER_S = 10**6
_US_PER_MS = 1000
_NS_PER_US = 1000


class RedisRateLimits:
    """See RateLimitBackend.

    Args:
        fail: what holds while Redis does not answer.
        local: has the buckets of this process, for that time.
    """

    def __init__(self, link: RedisLink, *, fail: Fail, local: RateLimitBackend, max_keys: int = MAX_KEYS) -> None:
        self._link = link
        self._fail = fail
        self._local = local
        self._known: BoundedTable[LimitKey, _Known] = BoundedTable(max_keys, _is_full)

    async def take(self, buckets: Sequence[Bucket]) -> Taken | Refused:
        """As the protocol says; waits for the link's time limit at most.

        Raises:
            LimitsUnavailable: there is no answer, and nothing is to be let through then.
        """
        try:
            now_us, is_taken, debts = await self._link.ask(TAKE, {"buckets": [_setting(bucket) for bucket in buckets]})
        except Unavailable as error:
            return await self._without_redis(buckets, error)
        refused: Refused | None = None
        for bucket, (tokens, parts, wait_ms) in zip(buckets, debts, strict=True):
            self._remember(bucket, tokens, parts, now_us)
            if wait_ms > (refused.retry_after_ms if refused else 0):
                refused = Refused(bucket, wait_ms)
        if not is_taken:
            assert refused is not None
            return refused
        return Taken(tuple(buckets))

    async def give_back(self, buckets: Sequence[Bucket]) -> None:
        """As the protocol says; while Redis does not answer the tokens stay taken."""
        if not buckets:
            return
        try:
            now_us, debts = await self._link.ask(GIVE_BACK, {"buckets": [_setting(bucket) for bucket in buckets]})
        except Unavailable:
            return
        for bucket, (tokens, parts) in zip(buckets, debts, strict=True):
            self._remember(bucket, tokens, parts, now_us)

    def next_in_ms(self, bucket: Bucket) -> int:
        """As the protocol says; others may have taken since this process knew."""
        if not self._link.is_available:
            return self._local.next_in_ms(bucket) if self._fail == "local" else 0
        known = self._known.get(bucket.key)
        if known is None:
            return 0
        now_us = self._link.now().us
        known = known.changed(bucket, now_us)
        missing = known.debt(now_us) + known.period_us - bucket.burst * known.period_us
        return max(-(-missing // (bucket.rate.count * _US_PER_MS)), 0)

    async def settle(self, setting: Callable[[LimitKey], Bucket | None]) -> None:
        """As the protocol says; a bucket that only others took from changes when it is taken from next."""
        await self._local.settle(setting)
        now_us = self._link.now().us
        changed = []
        for key, known in list(self._known.latest())[::-1]:
            bucket = setting(key)
            if bucket is None:
                self._known.remove(key)
                continue
            self._known.put(key, known.changed(bucket, now_us))
            changed.append(bucket)
            if len(changed) == TOLD_AT_ONCE:
                await self._change(changed)
                changed = []
        await self._change(changed)

    def __len__(self) -> int:
        return len(self._known) + len(self._local)

    # --- for the link ---

    async def contribute(self, session: Session) -> None:
        """See Contributor."""
        all_known = [known.told() for _, known in self._known.latest()]
        for first in range(0, len(all_known), TOLD_AT_ONCE):
            await session.ask(OWE, {"buckets": all_known[first : first + TOLD_AT_ONCE]})

    async def serve(self, session: Session) -> None:
        """See Contributor; all that is new Redis knows already."""

    # --- inside ---

    async def _change(self, buckets: Sequence[Bucket]) -> None:
        if not buckets:
            return
        try:
            await self._link.ask(OWE, {"buckets": [[*_setting(bucket), 0, 0, 0] for bucket in buckets]})
        except Unavailable:
            await trio.lowlevel.checkpoint()  # they change when they are taken from next

    async def _without_redis(self, buckets: Sequence[Bucket], error: Unavailable) -> Taken | Refused:
        if self._fail == "closed":
            raise LimitsUnavailable(self._link.address, error.reason) from None
        if self._fail == "local" and isinstance(refused := await self._local.take(buckets), Refused):
            return refused
        # Nothing to give back: nobody could tell later where it was taken.
        return Taken(())

    def _remember(self, bucket: Bucket, tokens: int, parts: int, now_us: int) -> None:
        if bucket.key in self._known or self._known.make_room(1, now_us * _NS_PER_US):
            self._known.put(bucket.key, _Known(bucket, tokens, parts, now_us))


class _Known(msgspec.Struct, frozen=True, gc=False):
    """What a bucket owed at a time of Redis, in tokens and parts, of which a token has as many as its period µs."""

    bucket: Bucket
    tokens: int
    parts: int
    at_us: int

    @property
    def period_us(self) -> int:
        return self.bucket.rate.period_s * _US_PER_S

    def debt(self, now_us: int) -> int:
        """In parts."""
        paid = max(now_us - self.at_us, 0) * self.bucket.rate.count
        return max(self.tokens * self.period_us + self.parts - paid, 0)

    def changed(self, bucket: Bucket, now_us: int) -> _Known:
        """As many tokens, rounded up to a part, of one that is set to this from now on."""
        period_us = bucket.rate.period_s * _US_PER_S
        debt = min(-(-self.debt(now_us) * period_us // self.period_us), bucket.burst * period_us)
        return _Known(bucket, *divmod(debt, period_us), now_us)

    def told(self) -> list[object]:
        """As Redis is told."""
        return [*_setting(self.bucket), self.tokens, self.parts, self.at_us]


def _is_full(known: _Known, now_ns: int) -> bool:
    return not known.debt(now_ns // _NS_PER_US)


def _setting(bucket: Bucket) -> list[object]:
    return [name_in_redis(bucket.key), bucket.rate.count, bucket.rate.period_s * _US_PER_S, bucket.burst]
