"""How many requests may run at once, of one tenant and in all; who waits, who is let in next, who is refused."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from types import TracebackType

import trio

from vastar_runtime.config.policy import ConcurrencyPolicy
from vastar_runtime.errors import RateLimited

from .admission_statistics import MAX_LISTED_TENANTS, MAX_NAME_CHARACTERS, AdmissionStatistics, TenantAdmission
from .fair_queue import FairQueue

# An average says nothing before it has seen so many requests; from then on a new one weighs one part in so many.
AVERAGED_REQUESTS = 16
# What a refusal says when there is no average yet.
UNKNOWN_RETRY_AFTER_MS = 1000


class _Average:
    """Of how long requests held their places: a mean at first, then one that forgets."""

    __slots__ = ("_samples", "_value_s")

    def __init__(self) -> None:
        self._samples = 0
        self._value_s = 0.0

    def add(self, sample_s: float) -> None:
        if self._samples < AVERAGED_REQUESTS:
            self._samples += 1
        self._value_s += (sample_s - self._value_s) / self._samples

    @property
    def value_s(self) -> float | None:
        return self._value_s if self._samples == AVERAGED_REQUESTS else None


class _Tenant:
    """Kept only while something of the tenant runs or waits."""

    __slots__ = ("hold", "limit", "running", "tenant_id")

    def __init__(self, tenant_id: str, limit: float) -> None:
        self.tenant_id = tenant_id
        self.limit = limit
        self.running = 0
        self.hold = _Average()

    @property
    def is_full(self) -> bool:
        return self.running >= self.limit


class Waiter:
    """A request in the queue; ``place`` is to be awaited in any case."""

    __slots__ = ("_admission", "_answer", "_task", "_tenant")

    def __init__(self, admission: Admission, tenant: _Tenant) -> None:
        self._admission = admission
        self._tenant = tenant
        self._task: trio.lowlevel.Task | None = None
        self._answer: Place | RateLimited | None = None

    async def place(self) -> Place:
        """The place, once it is this one's turn.

        Raises:
            RateLimited: a tenant with fewer waiting took the place in the queue.
        """
        if self._answer is None:
            self._task = trio.lowlevel.current_task()
            # Not an event: a task that is cancelled leaves the queue in that very moment, so that no place is given
            # to it; and one that was given a place always comes back with it, and is cancelled in its ``with`` block.
            await trio.lowlevel.wait_task_rescheduled(self._withdraw)
        if isinstance(self._answer, RateLimited):
            raise self._answer
        assert self._answer is not None
        return self._answer

    def answer(self, answer: Place | RateLimited) -> None:
        """Let it in, or turn it out."""
        self._answer = answer
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)

    def _withdraw(self, _: object) -> trio.lowlevel.Abort:
        self._admission._withdraw(self._tenant, self)
        return trio.lowlevel.Abort.SUCCEEDED


class Place:
    """Leave to run, until the ``with`` block ends."""

    __slots__ = ("_admission", "_began_at", "_tenant")

    def __init__(self, admission: Admission, tenant: _Tenant, began_at: float | None) -> None:
        self._admission = admission
        self._tenant: _Tenant | None = tenant
        self._began_at = began_at

    def release(self) -> None:
        """Give the place back; more than once does no harm."""
        tenant, self._tenant = self._tenant, None
        if tenant is not None:
            self._admission._leave(tenant, self._began_at)

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Admission:
    """Use: ``with await admission.enter(policy, tenant_id, remaining_s): ...``

    Args:
        max_concurrent: requests that may run at once, of all tenants, at least 1; None: any number.
        max_queued: requests that may wait, of all tenants.
        clock: seconds, monotonic.
    """

    def __init__(self, *, max_concurrent: int | None, max_queued: int, clock: Callable[[], float]) -> None:
        self._max_concurrent = math.inf if max_concurrent is None else max_concurrent
        self._max_queued = max_queued
        self._clock = clock
        self._tenants: dict[str, _Tenant] = {}
        self._queue: FairQueue[_Tenant, Waiter] = FairQueue()
        self._hold = _Average()
        self._running = 0
        self._admitted = 0
        self._refused = 0

    def configure(
        self,
        *,
        max_concurrent: int | None,
        max_queued: int,
        concurrency_for: Callable[[str], ConcurrencyPolicy] | None = None,
    ) -> None:
        """Other limits from now on. Whoever fits a higher one is let in; nobody who runs or waits is turned out.

        Args:
            concurrency_for: what holds for each tenant now; None: what held before, until its next request.
        """
        self._max_concurrent = math.inf if max_concurrent is None else max_concurrent
        self._max_queued = max_queued
        if concurrency_for is not None:
            for tenant in self._tenants.values():
                tenant.limit = _limit(concurrency_for(tenant.tenant_id))
                self._queue.block(tenant, tenant.is_full)
        self._let_in()

    async def enter(self, policy: ConcurrencyPolicy, tenant_id: str, remaining_s: float) -> Place:
        """Wait for leave to run; without any checkpoint when there is a free place.

        Args, raises: see ``enter_or_queue``; and RateLimited while it waits.
        """
        entered = self.enter_or_queue(policy, tenant_id, remaining_s)
        return entered if isinstance(entered, Place) else await entered.place()

    def try_enter(self, policy: ConcurrencyPolicy, tenant_id: str) -> Place | None:
        """Leave to run, if there is a free place."""
        tenant = self._tenant(policy, tenant_id)
        # A free place is never one that somebody waits for: whoever could use it was let in when it became free.
        if self._running < self._max_concurrent and tenant.running < tenant.limit:
            self._admitted += 1
            return self._place(tenant)
        self._forget_if_idle(tenant)
        return None

    def enter_or_queue(self, policy: ConcurrencyPolicy, tenant_id: str, remaining_s: float) -> Place | Waiter:
        """Leave to run if there is a free place, else a place in the queue.

        A tenant's limit is that of its newest request, also for those of its requests that wait already.

        Args:
            remaining_s: seconds until the request's deadline; may be infinite.

        Raises:
            RateLimited: there is no place, and no room to wait, or no hope that one is free before the deadline.
        """
        if (place := self.try_enter(policy, tenant_id)) is not None:
            return place
        tenant = self._tenant(policy, tenant_id)
        try:
            self._make_room(policy, tenant, remaining_s)
        except RateLimited:
            self._forget_if_idle(tenant)
            raise
        return self._wait(tenant)

    def count_running(self, policy: ConcurrencyPolicy, tenant_id: str) -> Place:
        """The place of a request that runs already, and was admitted where nothing limited it: past any limit."""
        return self._place(self._tenant(policy, tenant_id))

    def statistics(self) -> AdmissionStatistics:
        """What runs, waits and is held back now."""
        at_limit = (tenant for tenant in self._tenants.values() if tenant.is_full or self._queue.waiting(tenant))
        listed = heapq.nlargest(
            MAX_LISTED_TENANTS, at_limit, key=lambda tenant: (self._queue.waiting(tenant), tenant.running)
        )
        return AdmissionStatistics(
            running=self._running,
            waiting=len(self._queue),
            admitted=self._admitted,
            refused=self._refused,
            max_concurrent=_limit_or_none(self._max_concurrent),
            max_queued=self._max_queued,
            busy_tenants=len(self._tenants),
            tenants=tuple(
                TenantAdmission(
                    tenant_id=tenant.tenant_id[:MAX_NAME_CHARACTERS],
                    running=tenant.running,
                    waiting=self._queue.waiting(tenant),
                    limit=_limit_or_none(tenant.limit),
                )
                for tenant in listed
            ),
        )

    # --- places ---

    def _tenant(self, policy: ConcurrencyPolicy, tenant_id: str) -> _Tenant:
        limit = _limit(policy)
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            tenant = self._tenants[tenant_id] = _Tenant(tenant_id, limit)
        elif tenant.limit != limit:
            tenant.limit = limit
            self._queue.block(tenant, tenant.is_full)
            self._let_in()
        return tenant

    def _place(self, tenant: _Tenant) -> Place:
        self._running += 1
        tenant.running += 1
        if self._queue:
            self._queue.block(tenant, tenant.is_full)
        # How long places are held says something only where there may be too few of them.
        is_limited = self._max_concurrent != math.inf or tenant.limit != math.inf
        return Place(self, tenant, self._clock() if is_limited else None)

    def _leave(self, tenant: _Tenant, began_at: float | None) -> None:
        if began_at is not None:
            held_s = self._clock() - began_at
            self._hold.add(held_s)
            tenant.hold.add(held_s)
        self._running -= 1
        tenant.running -= 1
        if self._queue:
            self._queue.block(tenant, tenant.is_full)
            self._let_in()
        self._forget_if_idle(tenant)

    def _let_in(self) -> None:
        while self._running < self._max_concurrent and (following := self._queue.take()) is not None:
            tenant, waiter = following
            self._admitted += 1
            waiter.answer(self._place(tenant))

    def _forget_if_idle(self, tenant: _Tenant) -> None:
        if not tenant.running and not self._queue.waiting(tenant):
            del self._tenants[tenant.tenant_id]

    # --- the queue ---

    def _wait(self, tenant: _Tenant) -> Waiter:
        waiter = Waiter(self, tenant)
        self._queue.push(tenant, waiter)
        self._queue.block(tenant, tenant.is_full)
        return waiter

    def _withdraw(self, tenant: _Tenant, waiter: Waiter) -> None:
        self._queue.remove(tenant, waiter)
        self._forget_if_idle(tenant)

    def _make_room(self, policy: ConcurrencyPolicy, tenant: _Tenant, remaining_s: float) -> None:
        """Room in the queue for one more of this tenant, or RateLimited."""
        waiting = self._queue.waiting(tenant)
        if waiting >= policy.max_queued_per_tenant:
            raise self._refusal(
                tenant, f"concurrency.max_queued_per_tenant, {policy.max_queued_per_tenant}, is reached"
            )
        wait_s = self._estimated_wait_s(tenant)
        if wait_s is not None and wait_s > remaining_s:
            raise self._refusal(
                tenant,
                f"a place is to be had in about {wait_s * 1000:.0f} ms, and the request has "
                f"{max(0.0, remaining_s) * 1000:.0f} ms left",
            )
        if len(self._queue) < self._max_queued:
            return
        # Between lines that differ by one, an exchange would only turn the difference round: whoever came first stays.
        if self._queue.longest <= waiting + 1:
            raise self._refusal(tenant, f"admission.max_queued, {self._max_queued}, is reached")
        crowded, youngest = self._queue.take_youngest_of_longest()
        refusal = self._refusal(
            crowded,
            f"admission.max_queued, {self._max_queued}, is reached, and a tenant with fewer waiting takes the place",
        )
        youngest.answer(refusal)

    def _estimated_wait_s(self, tenant: _Tenant) -> float | None:
        """How long a newcomer of this tenant would wait, by what the limits let through; None: nobody knows."""
        waits_s: list[float] = []
        # The tenant's own average: one that streams for minutes must not have another's short requests refused.
        if tenant.is_full and (hold_s := tenant.hold.value_s) is not None:
            waits_s.append((self._queue.waiting(tenant) + 1) * hold_s / tenant.limit)
        if self._running >= self._max_concurrent and (hold_s := self._hold.value_s) is not None:
            waits_s.append((self._queue.ahead_of_newcomer(tenant) + 1) * hold_s / self._max_concurrent)
        return max(waits_s, default=None)

    def _refusal(self, tenant: _Tenant, reason: str) -> RateLimited:
        self._refused += 1
        wait_s = self._estimated_wait_s(tenant)
        retry_after_ms = UNKNOWN_RETRY_AFTER_MS if wait_s is None else max(1, math.ceil(wait_s * 1000))
        own = f"{tenant.running} running and {self._queue.waiting(tenant)} waiting"
        name = repr(tenant.tenant_id[:MAX_NAME_CHARACTERS])
        if tenant.is_full:
            state = f"concurrency.max_per_tenant is {tenant.limit}: tenant {name} has {own}"
        else:
            state = (
                f"admission.max_concurrent is {self._max_concurrent}: there are {self._running} running and "
                f"{len(self._queue)} waiting, of tenant {name} {own}"
            )
        return RateLimited(f"{state}; {reason}; try again in {retry_after_ms} ms", retry_after_ms=retry_after_ms)


def _limit(policy: ConcurrencyPolicy) -> float:
    return math.inf if policy.max_per_tenant is None else policy.max_per_tenant


def _limit_or_none(limit: float) -> int | None:
    return None if math.isinf(limit) else int(limit)
