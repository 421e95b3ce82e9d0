"""Token buckets, kept as GCRA does (ITU-T I.371, virtual scheduling): one number each, and exact.

The number is the theoretical arrival time (TAT): when the bucket will be full again. A request moves it on by
period / count, and is refused if it would then lie more than burst times that ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec
import trio

from vastar_runtime.config.policy import Rate

from .bounded import MAX_KEYS, BoundedTable

SETTLED_PER_TURN = 64

_NS_PER_S = 10**9
_NS_PER_MS = 10**6

Kind = Literal["per_tenant", "per_origin", "per_tenant_and_origin"]


class LimitKey(NamedTuple):
    """What a limit counts. None: not by this. Neither tenant nor origin: what all share for whom there is no room."""

    kind: Kind
    tenant_id: str | None
    origin: str | None


class Bucket(NamedTuple):
    """A token bucket, and what it is set to.

    Attributes:
        burst: tokens that it holds when full, at least 1.
    """

    key: LimitKey
    rate: Rate
    burst: int

    @property
    def token(self) -> int:
        """What a token is worth, in ns / rate.count."""
        return self.rate.period_s * _NS_PER_S

    @property
    def empty(self) -> int:
        """What an empty bucket owes, in ns / rate.count."""
        return self.burst * self.token


class Taken(msgspec.Struct, frozen=True):
    """A token of each bucket was taken; these are what ``give_back`` takes."""

    buckets: tuple[Bucket, ...]


class Refused(msgspec.Struct, frozen=True):
    """No token was taken.

    Attributes:
        bucket: the empty one; of several the one that takes longest.
        retry_after_ms: until all have a token, rounded up, at least 1.
    """

    bucket: Bucket
    retry_after_ms: int


class RateLimitBackend(Protocol):
    """Where the buckets are. The local one keeps them in this process; one that several daemons share waits for it."""

    async def take(self, buckets: Sequence[Bucket]) -> Taken | Refused:
        """Take a token of every bucket, or of none; no two buckets have the same key."""

    async def give_back(self, buckets: Sequence[Bucket]) -> None:
        """Undo a take, of the buckets that it returned."""

    def next_in_ms(self, bucket: Bucket) -> int:
        """Until the bucket has a token, as far as is known here; 0: it has one."""

    async def settle(self, setting: Callable[[LimitKey], Bucket | None]) -> None:
        """Other settings hold from now on: what a bucket owes by now, it owes in tokens of the new one.

        Args:
            setting: a key's bucket; None: there is no limit any more.
        """

    def __len__(self) -> int:
        """Buckets kept in this process."""


class LocalBackend:
    """Buckets of this process: exact, as time is counted in nanoseconds / rate.count, of which both a nanosecond and
    a token are whole numbers.

    A bucket owes as many tokens when its rate or burst changes, but no more than an empty one: neither a new setting
    nor a clock that goes back locks anyone out for longer. A full bucket is as good as none, so it may be forgotten.
    While the table holds none such, a new key shares a bucket with all others that find no room and have the same
    setting; and a key that finds room again begins with the debt of that one, which may be its own.

    Args:
        clock: seconds, monotonic.
        max_keys: buckets kept, besides the shared ones: one for each setting of the configuration at most.
    """

    def __init__(self, clock: Callable[[], float], max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._table: BoundedTable[LimitKey, _Tat] = BoundedTable(max_keys, _is_full)
        self._shared: dict[Bucket, _Tat] = {}

    async def take(self, buckets: Sequence[Bucket]) -> Taken | Refused:
        """As the protocol says; never waits."""
        now_ns = self._now_ns()
        charges: list[tuple[Bucket, int]] = []
        refused: Refused | None = None
        # Room first: what follows must not forget a bucket that it has looked at.
        room = self._table.make_room(sum(bucket.key not in self._table for bucket in buckets), now_ns)
        for bucket in buckets:
            charged = bucket
            if bucket.key not in self._table:
                charged, room = (bucket, room - 1) if room else (_shared(bucket), 0)
            debt = self._debt(charged, now_ns)
            if debt > charged.empty:  # kept even if this request is refused, or it would be as far ahead the next time
                debt = charged.empty
                self._set(charged, debt, now_ns)
            wait_ms = _wait_ms(charged, debt)
            if wait_ms > (refused.retry_after_ms if refused else 0):
                refused = Refused(charged, wait_ms)
            charges.append((charged, debt))
        if refused is not None:
            return refused
        for bucket, debt in charges:
            self._set(bucket, debt + bucket.token, now_ns)
        return Taken(tuple(bucket for bucket, _ in charges))

    async def give_back(self, buckets: Sequence[Bucket]) -> None:
        """As the protocol says; never waits."""
        now_ns = self._now_ns()
        for bucket in buckets:
            if bucket.key in self._table or bucket in self._shared:
                self._set(bucket, max(self._debt(bucket, now_ns) - bucket.token, 0), now_ns)

    def next_in_ms(self, bucket: Bucket) -> int:
        """As the protocol says; known exactly."""
        return _wait_ms(bucket, min(self._debt(bucket, self._now_ns()), bucket.empty))

    async def settle(self, setting: Callable[[LimitKey], Bucket | None]) -> None:
        """As the protocol says; gives others their turn now and then."""
        oldest_first = [key for key, _ in self._table.latest()][::-1]
        for number, key in enumerate(oldest_first, 1):
            if number % SETTLED_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
            if key not in self._table:
                continue
            bucket = setting(key)
            if bucket is None:
                self._table.remove(key)
            else:
                now_ns = self._now_ns()
                self._set(bucket, min(self._debt(bucket, now_ns), bucket.empty), now_ns)

    def __len__(self) -> int:
        return len(self._table) + len(self._shared)

    def _now_ns(self) -> int:
        return round(self._clock() * _NS_PER_S)

    def _debt(self, bucket: Bucket, now_ns: int) -> int:
        """How far the TAT lies ahead, in ns / rate.count; 0: the bucket is full."""
        tat = self._table.get(bucket.key)
        if tat is None and self._shared:
            tat = self._shared.get(_shared(bucket))
        if tat is None:
            return 0
        debt = max(tat.at - now_ns * tat.scale, 0)
        # In tokens it is the same whatever the rate; a token is worth its period, in ns / rate.count.
        return debt if tat.token == bucket.token else -(-debt * bucket.token // tat.token)

    def _set(self, bucket: Bucket, debt: int, now_ns: int) -> None:
        tat = _Tat(now_ns * bucket.rate.count + debt, bucket.rate.count, bucket.token)
        if bucket.key.tenant_id is not None or bucket.key.origin is not None:
            self._table.put(bucket.key, tat)
            return
        if bucket not in self._shared:  # settings come and go with reloads
            for full in [other for other, owed in self._shared.items() if _is_full(owed, now_ns)]:
                del self._shared[full]
        self._shared[bucket] = tat


class _Tat(NamedTuple):
    """A bucket's theoretical arrival time, in ns / scale; and what a token was worth, in the same."""

    at: int
    scale: int
    token: int


def _is_full(tat: _Tat, now_ns: int) -> bool:
    return tat.at <= now_ns * tat.scale


def _shared(bucket: Bucket) -> Bucket:
    return bucket._replace(key=LimitKey(bucket.key.kind, None, None))


def _wait_ms(bucket: Bucket, debt: int) -> int:
    """Until a bucket with this debt has a token; rounded up, 0: it has one."""
    missing = debt + bucket.token - bucket.empty
    return max(-(-missing // (bucket.rate.count * _NS_PER_MS)), 0)
