"""How often requests may go upstream, by tenant, by origin, and by both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from vastar_runtime.config import Policies
from vastar_runtime.config.policy import Rate, RateLimitPolicy
from vastar_runtime.errors import RateLimited

from .token_bucket import Bucket, Kind, LimitKey, RateLimitBackend, Refused, Taken

# Of the limits that refuse, so many are remembered for the status, the latest; the totals count all.
MAX_REFUSING = 100

# Of a bucket that counts by tenant alone.
_ANYWHERE = "https://origin.invalid"


class RefusingLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit whose bucket is empty, and which has refused requests.

    Attributes:
        limit: the configuration's name: "rate_limit.per_tenant".
        tenant_id, origin: whom it limits; None: not by this; both None: all for whom the table had no room.
        refused: requests, since the bucket was last left alone for as long as it takes to fill.
        next_in_ms: until it has a token.
    """

    limit: str
    tenant_id: str | None
    origin: str | None
    rate: Rate
    burst: int
    refused: int
    next_in_ms: int


class RateLimitStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot.

    Attributes:
        admitted, refused: requests with a limit, since the start; those that were given back are among the admitted.
        buckets: kept in this process.
        refusing: the limits that refuse now, the latest first, at most MAX_REFUSING.
    """

    admitted: int
    refused: int
    buckets: int
    refusing: tuple[RefusingLimit, ...]


class _Refusals(NamedTuple):
    bucket: Bucket
    refused: int
    latest_s: float


class RateLimiter:
    """The stage.

    Args:
        backend: has the buckets.
        clock: seconds, monotonic.
    """

    def __init__(self, backend: RateLimitBackend, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._clock = clock
        self._admitted = self._refused = 0
        self._refusals: OrderedDict[LimitKey, _Refusals] = OrderedDict()

    async def take(self, policy: RateLimitPolicy, tenant_id: str, origin: str) -> Taken | None:
        """Take a token of each limit that applies; None: none does.

        Raises:
            RateLimited: one of them has none left; nothing was taken.
        """
        buckets = []
        if (rate := policy.per_tenant) is not None:
            buckets.append(_bucket("per_tenant", tenant_id, None, rate, policy.per_tenant_burst))
        if (rate := policy.per_origin) is not None:
            buckets.append(_bucket("per_origin", None, origin, rate, policy.per_origin_burst))
        if (rate := policy.per_tenant_and_origin) is not None:
            burst = policy.per_tenant_and_origin_burst
            buckets.append(_bucket("per_tenant_and_origin", tenant_id, origin, rate, burst))
        if not buckets:
            return None
        decision = await self._backend.take(buckets)
        if isinstance(decision, Taken):
            self._admitted += 1
            return decision
        self._refused += 1
        self._remember(decision.bucket)
        raise RateLimited(_message(decision, tenant_id, origin), retry_after_ms=decision.retry_after_ms)

    async def give_back(self, taken: Taken | None) -> None:
        """The request was not sent after all: what was taken for it is there again."""
        if taken is not None:
            await self._backend.give_back(taken.buckets)

    async def settle(self, policies: Policies) -> None:
        """These policies hold from now on; what is used up stays used up."""

        def setting(key: LimitKey) -> Bucket | None:
            # A limit of tenants is set in no scope with an origin, nor one of origins in one with a tenant.
            policy = policies.policy_for(key.tenant_id or "", key.origin or _ANYWHERE).rate_limit
            rate, burst = {
                "per_tenant": (policy.per_tenant, policy.per_tenant_burst),
                "per_origin": (policy.per_origin, policy.per_origin_burst),
                "per_tenant_and_origin": (policy.per_tenant_and_origin, policy.per_tenant_and_origin_burst),
            }[key.kind]
            return None if rate is None else _bucket(key.kind, key.tenant_id, key.origin, rate, burst)

        await self._backend.settle(setting)
        for key, refusals in list(self._refusals.items()):
            bucket = setting(key)
            if bucket is None:
                del self._refusals[key]
            else:
                self._refusals[key] = refusals._replace(bucket=bucket)

    def statistics(self) -> RateLimitStatistics:
        """What was decided so far, and which limits refuse now."""
        refusing = (
            RefusingLimit(
                limit=f"rate_limit.{bucket.key.kind}",
                tenant_id=bucket.key.tenant_id,
                origin=bucket.key.origin,
                rate=bucket.rate,
                burst=bucket.burst,
                refused=refused,
                next_in_ms=self._backend.next_in_ms(bucket),
            )
            for bucket, refused, _ in reversed(self._refusals.values())
        )
        return RateLimitStatistics(
            admitted=self._admitted,
            refused=self._refused,
            buckets=len(self._backend),
            refusing=tuple(limit for limit in refusing if limit.next_in_ms),
        )

    def _remember(self, bucket: Bucket) -> None:
        now_s = self._clock()
        before = self._refusals.pop(bucket.key, None)
        fills_in_s = bucket.burst * bucket.rate.period_s / bucket.rate.count
        refused = before.refused if before is not None and now_s - before.latest_s < fills_in_s else 0
        self._refusals[bucket.key] = _Refusals(bucket, refused + 1, now_s)
        if len(self._refusals) > MAX_REFUSING:
            self._refusals.popitem(last=False)


def _bucket(kind: Kind, tenant_id: str | None, origin: str | None, rate: Rate, burst: int | None) -> Bucket:
    return Bucket(LimitKey(kind, tenant_id, origin), rate, rate.count if burst is None else burst)


def _message(refused: Refused, tenant_id: str, origin: str) -> str:
    (kind, *whose), rate, burst = refused.bucket
    tenant = f"tenant {tenant_id[:64]!r}"
    whom = {"per_tenant": tenant, "per_origin": origin, "per_tenant_and_origin": f"{tenant} with {origin}"}[kind]
    if whose == [None, None]:
        whom += " (and of all others that came when the table of limits was full)"
    return (
        f"rate limit of {rate} (burst {burst}) of {whom} is used up; "
        f"next in {refused.retry_after_ms} ms (rate_limit.{kind})"
    )
