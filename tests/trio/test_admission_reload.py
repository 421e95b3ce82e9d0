"""Limits that a reload changes: what waits is let in at once, and nothing that runs or waits is turned out."""

from __future__ import annotations

import pytest
import trio
from admission_requests import ANY_NUMBER, Crowd, admission, one_at_a_time, states
from trio.testing import wait_all_tasks_blocked

from vastar_runtime.config.policy import ConcurrencyPolicy
from vastar_runtime.policies.admission import Admission


def limit(to: Admission, per_tenant: dict[str, int | None], max_concurrent: int | None = None) -> None:
    """As a reload does it; a tenant that is not named has no limit."""

    def concurrency_for(tenant_id: str) -> ConcurrencyPolicy:
        return ConcurrencyPolicy(max_per_tenant=per_tenant.get(tenant_id))

    to.configure(max_concurrent=max_concurrent, max_queued=10_000, concurrency_for=concurrency_for)


async def test_a_raised_limit_of_a_tenant_lets_its_waiting_requests_in_at_the_reload(nursery: trio.Nursery) -> None:
    limits = admission()
    crowd = Crowd(nursery, limits)
    requests = [await crowd.start("a", one_at_a_time()) for _ in range(5)]
    others = [await crowd.start("b", one_at_a_time()) for _ in range(2)]
    limit(limits, {"a": 3, "b": 1})
    await wait_all_tasks_blocked()
    assert states(requests) == ["running", "running", "running", "waiting", "waiting"]
    assert states(others) == ["running", "waiting"]
    assert [(shown.tenant_id, shown.limit) for shown in limits.statistics().tenants] == [("a", 3), ("b", 1)]
    limit(limits, {"b": 1})
    await wait_all_tasks_blocked()
    assert states(requests) == ["running"] * 5
    assert states(others) == ["running", "waiting"]
    nursery.cancel_scope.cancel()


async def test_a_lowered_limit_ends_nothing_and_holds_from_then_on(nursery: trio.Nursery) -> None:
    limits = admission()
    crowd = Crowd(nursery, limits)
    three = ConcurrencyPolicy(max_per_tenant=3)
    requests = [await crowd.start("a", three) for _ in range(5)]
    limit(limits, {"a": 1})
    await wait_all_tasks_blocked()
    assert states(requests) == ["running", "running", "running", "waiting", "waiting"]
    for ended, waiting in ((0, 2), (1, 2), (2, 1)):
        requests[ended].end()
        await wait_all_tasks_blocked()
        assert limits.statistics().waiting == waiting
    assert states(requests) == ["done", "done", "done", "running", "waiting"]
    nursery.cancel_scope.cancel()


async def test_a_limit_that_comes_for_a_tenant_that_had_none_holds_its_next_requests_back(
    nursery: trio.Nursery,
) -> None:
    limits = admission(max_concurrent=2)
    crowd = Crowd(nursery, limits)
    requests = [await crowd.start("a") for _ in range(4)]
    limit(limits, {"a": 1}, max_concurrent=10)
    await wait_all_tasks_blocked()
    assert states(requests) == ["running", "running", "waiting", "waiting"], "room in all, and none for the tenant"
    other = await crowd.start("b")
    assert other.state == "running"
    nursery.cancel_scope.cancel()


async def test_of_tenants_whose_limits_are_raised_together_each_gets_its_turn(nursery: trio.Nursery) -> None:
    limits = admission(max_concurrent=2)
    crowd = Crowd(nursery, limits)
    requests = {tenant: [await crowd.start(tenant, one_at_a_time()) for _ in range(4)] for tenant in "ab"}
    limit(limits, {}, max_concurrent=6)
    await wait_all_tasks_blocked()
    assert {tenant: states(each).count("running") for tenant, each in requests.items()} == {"a": 3, "b": 3}
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("reloads", [1, 20])
async def test_after_any_number_of_reloads_every_place_is_given_back(nursery: trio.Nursery, reloads: int) -> None:
    limits = admission()
    crowd = Crowd(nursery, limits)
    requests = [await crowd.start(tenant, one_at_a_time()) for tenant in "aaabbb"]
    for number in range(reloads):
        limit(limits, {"a": 1 + number % 3, "b": None if number % 2 else 1}, max_concurrent=1 + number % 5)
        await wait_all_tasks_blocked()
    limit(limits, {})
    for request in requests:
        request.end()
    await wait_all_tasks_blocked()
    assert states(requests) == ["done"] * 6
    found = limits.statistics()
    assert (found.running, found.waiting, found.busy_tenants, found.admitted) == (0, 0, 0, 6)


async def test_without_word_of_the_tenants_theirs_stay_until_their_next_request(nursery: trio.Nursery) -> None:
    limits = admission()
    crowd = Crowd(nursery, limits)
    requests = [await crowd.start("a", one_at_a_time()) for _ in range(2)]
    limits.configure(max_concurrent=100, max_queued=100)
    await wait_all_tasks_blocked()
    assert states(requests) == ["running", "waiting"]
    assert (await crowd.start("a", ANY_NUMBER)).state == "running"
    await wait_all_tasks_blocked()
    assert states(requests) == ["running", "running"]
    nursery.cancel_scope.cancel()
