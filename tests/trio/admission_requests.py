"""Requests that enter, hold their place for a while and leave; and what became of each."""

from __future__ import annotations

import math

import trio
from trio.testing import wait_all_tasks_blocked

from vastar_runtime.config.policy import ConcurrencyPolicy
from vastar_runtime.errors import RateLimited
from vastar_runtime.policies.admission import Admission

ANY_NUMBER = ConcurrencyPolicy(max_queued_per_tenant=10**6)


def one_at_a_time(max_queued_per_tenant: int = 256) -> ConcurrencyPolicy:
    return ConcurrencyPolicy(max_per_tenant=1, max_queued_per_tenant=max_queued_per_tenant)


def admission(max_concurrent: int | None = None, max_queued: int = 10_000) -> Admission:
    return Admission(max_concurrent=max_concurrent, max_queued=max_queued, clock=trio.current_time)


class Request:
    """One request's task.

    Attributes:
        state: "waiting", "running", "refused", "cancelled" or "done".
        error: why it was refused.
    """

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.state = "waiting"
        self.error: RateLimited | None = None
        self._scope = trio.CancelScope()
        self._end = trio.Event()

    def cancel(self) -> None:
        self._scope.cancel()

    def end(self) -> None:
        """Leave, if running."""
        self._end.set()

    async def run(self, to: Admission, policy: ConcurrencyPolicy, remaining_s: float, hold_s: float) -> None:
        with self._scope:
            try:
                with await to.enter(policy, self.tenant_id, remaining_s):
                    self.state = "running"
                    with trio.move_on_after(hold_s):
                        await self._end.wait()
                self.state = "done"
            except RateLimited as error:
                self.state, self.error = "refused", error
        if self._scope.cancelled_caught:
            self.state = "cancelled"


class Crowd:
    """Starts requests; each has entered, queued or been refused when ``start`` returns."""

    def __init__(self, nursery: trio.Nursery, to: Admission) -> None:
        self._nursery = nursery
        self._admission = to

    def start_soon(
        self,
        tenant_id: str,
        policy: ConcurrencyPolicy = ANY_NUMBER,
        *,
        remaining_s: float = math.inf,
        hold_s: float = math.inf,
    ) -> Request:
        request = Request(tenant_id)
        self._nursery.start_soon(request.run, self._admission, policy, remaining_s, hold_s)
        return request

    async def start(
        self,
        tenant_id: str,
        policy: ConcurrencyPolicy = ANY_NUMBER,
        *,
        remaining_s: float = math.inf,
        hold_s: float = math.inf,
    ) -> Request:
        request = self.start_soon(tenant_id, policy, remaining_s=remaining_s, hold_s=hold_s)
        await wait_all_tasks_blocked()
        return request

    async def learn(self, tenant_id: str, hold_s: float, policy: ConcurrencyPolicy = ANY_NUMBER) -> None:
        """Sixteen requests, one after the other, that tell how long one takes; beside one that keeps on running."""
        for _ in range(16):
            request = await self.start(tenant_id, policy, hold_s=hold_s)
            await trio.sleep(hold_s + 0.001)
            assert request.state == "done"


def states(requests: list[Request]) -> list[str]:
    return [request.state for request in requests]
