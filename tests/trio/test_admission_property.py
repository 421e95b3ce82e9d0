"""Requests come, leave and are cancelled, limits change, in any order and also in the same moment: nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from admission_requests import Crowd, Request
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from vastar_runtime.config.policy import ConcurrencyPolicy
from vastar_runtime.policies.admission import Admission, Place, _Tenant

pytestmark = pytest.mark.unmeasured

LIMITS = st.sampled_from([None, 1, 1, 2, 3])
ENTER = st.tuples(st.just("enter"), st.sampled_from("abc"), LIMITS, st.integers(0, 3))
STEPS = st.lists(
    st.one_of(
        ENTER,
        ENTER,  # more come than go, so that there is a queue
        st.tuples(st.sampled_from(["end", "cancel"]), st.integers(0, 30)),
        st.tuples(st.just("configure"), LIMITS, st.integers(0, 4)),
        st.tuples(st.just("settle")),
    ),
    min_size=8,
    max_size=40,
)


class WatchedAdmission(Admission):
    """Checks at each admission that the limits allow it."""

    def _admit(self, tenant: _Tenant) -> Place:
        assert self._running < self._max_concurrent
        assert tenant.running < tenant.limit
        return super()._admit(tenant)


def check(limits: Admission, requests: list[Request]) -> None:
    """With nothing under way: the books agree with the tasks, and nobody waits who could run."""
    found = limits.statistics()
    running = [request.tenant_id for request in requests if request.state == "running"]
    waiting = [request.tenant_id for request in requests if request.state == "waiting"]
    assert (found.running, found.waiting) == (len(running), len(waiting))
    assert found.busy_tenants == len({*running, *waiting})
    limit_of = {tenant.tenant_id: tenant.limit for tenant in found.tenants}
    assert limit_of.keys() >= set(waiting)
    if found.max_concurrent is None or found.running < found.max_concurrent:
        for tenant in waiting:
            limit = limit_of[tenant]
            assert limit is not None
            assert running.count(tenant) >= limit
    assert found.refused == sum(request.state == "refused" for request in requests)


async def live(steps: list[tuple[Any, ...]]) -> None:
    limits = WatchedAdmission(max_concurrent=2, max_queued=4, clock=trio.current_time)
    requests: list[Request] = []
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery, limits)
        for step, *rest in steps:
            if step == "enter":
                tenant, limit, max_queued = rest
                policy = ConcurrencyPolicy(max_per_tenant=limit, max_queued_per_tenant=max_queued)
                requests.append(crowd.start_soon(tenant, policy))
            elif step in ("end", "cancel") and requests:
                request = requests[rest[0] % len(requests)]
                request.end() if step == "end" else request.cancel()
            elif step == "configure":
                limits.configure(max_concurrent=rest[0], max_queued=rest[1])
            elif step == "settle":
                await wait_all_tasks_blocked()
                check(limits, requests)
        await wait_all_tasks_blocked()
        check(limits, requests)
        for request in requests:
            request.end()
        await wait_all_tasks_blocked()
    assert {request.state for request in requests} <= {"done", "refused", "cancelled"}
    found = limits.statistics()
    assert (found.running, found.waiting, found.busy_tenants, found.tenants) == (0, 0, 0, ())


@given(STEPS)
def test_whatever_happens_no_place_is_lost_and_no_limit_broken(steps: list[tuple[Any, ...]]) -> None:
    trio.run(live, steps)
