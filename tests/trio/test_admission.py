"""Who runs, who waits and who is let in next."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import trio
from admission_requests import ANY_NUMBER, Crowd, admission, one_at_a_time, states
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

from vastar_runtime.config.policy import ConcurrencyPolicy
from vastar_runtime.policies.admission_statistics import AdmissionStatistics, TenantAdmission


async def test_without_limits_everybody_is_let_in_and_no_one_lets_others_go_first() -> None:
    limits = admission()
    places = []
    for number in range(1000):
        with assert_no_checkpoints():
            places.append(await limits.enter(ConcurrencyPolicy(), f"tenant {number % 10}", math.inf))
    assert limits.statistics() == AdmissionStatistics(
        running=1000,
        waiting=0,
        admitted=1000,
        refused=0,
        max_concurrent=None,
        max_queued=10_000,
        busy_tenants=10,
        tenants=(),
    )
    for place in places:
        place.release()
    assert limits.statistics().running == 0


async def test_a_place_given_back_twice_is_given_back_once() -> None:
    limits = admission()
    with await limits.enter(ANY_NUMBER, "a", math.inf), await limits.enter(ANY_NUMBER, "a", math.inf) as place:
        place.release()
        place.release()
        assert limits.statistics().running == 1
    assert limits.statistics().running == 0


async def test_a_request_that_fails_gives_its_place_back() -> None:
    limits = admission()
    with pytest.raises(ZeroDivisionError), await limits.enter(ANY_NUMBER, "a", math.inf):
        raise ZeroDivisionError
    assert (limits.statistics().running, limits.statistics().busy_tenants) == (0, 0)


async def test_tenants_that_came_and_went_leave_nothing() -> None:
    limits = admission()
    policy = ConcurrencyPolicy(max_per_tenant=3)
    for number in range(10_000):
        with await limits.enter(policy, f"tenant {number}", math.inf):
            assert limits.statistics().busy_tenants == 1
    assert limits.statistics().busy_tenants == 0
    assert limits.statistics().admitted == 10_000


async def test_a_tenant_at_its_limit_waits_and_the_others_do_not(nursery: trio.Nursery) -> None:
    limits = admission()
    crowd = Crowd(nursery, limits)
    policy = ConcurrencyPolicy(max_per_tenant=2)
    own = [await crowd.start("busy", policy) for _ in range(4)]
    other = await crowd.start("other", policy)
    assert states([*own, other]) == ["running", "running", "waiting", "waiting", "running"]
    assert limits.statistics().tenants == (TenantAdmission(tenant_id="busy", running=2, waiting=2, limit=2),)
    own[1].end()
    await wait_all_tasks_blocked()
    assert states([*own, other]) == ["running", "done", "running", "waiting", "running"]
    nursery.cancel_scope.cancel()


async def test_the_total_limit_counts_all_tenants(nursery: trio.Nursery) -> None:
    limits = admission(max_concurrent=2)
    crowd = Crowd(nursery, limits)
    requests = [await crowd.start(tenant) for tenant in "abcd"]
    assert states(requests) == ["running", "running", "waiting", "waiting"]
    assert limits.statistics().tenants == (
        TenantAdmission(tenant_id="c", running=0, waiting=1, limit=None),
        TenantAdmission(tenant_id="d", running=0, waiting=1, limit=None),
    )
    requests[0].end()
    requests[1].end()
    await wait_all_tasks_blocked()
    assert states(requests) == ["done", "done", "running", "running"]
    nursery.cancel_scope.cancel()


async def test_a_quiet_tenant_is_one_turn_away_however_many_of_a_noisy_one_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    crowd = Crowd(nursery, admission(max_concurrent=1))
    noisy = [crowd.start_soon("noisy", hold_s=1.0) for _ in range(1001)]
    await wait_all_tasks_blocked()
    for _ in range(5):
        quiet = await crowd.start("quiet", hold_s=1.0)
        before = Counter(states(noisy))["done"]
        while quiet.state == "waiting":
            await trio.sleep(0.1)
        # The one that was running has ended, and at most one more of the noisy tenant was let in before.
        assert Counter(states(noisy))["done"] - before <= 2
    nursery.cancel_scope.cancel()


async def test_while_both_have_demand_two_tenants_get_the_same_number_of_turns(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    crowd = Crowd(nursery, admission(max_concurrent=4))
    many = [crowd.start_soon("many", hold_s=1.0) for _ in range(500)]
    await wait_all_tasks_blocked()
    few = [crowd.start_soon("few", hold_s=1.0) for _ in range(50)]
    while "waiting" in states(few):
        await trio.sleep(0.5)
    served = 500 - Counter(states(many))["waiting"]
    assert served == pytest.approx(50, abs=5)
    nursery.cancel_scope.cancel()


async def test_a_tenant_at_its_own_limit_does_not_hold_up_the_queue_and_keeps_its_turn(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, admission(max_concurrent=2))
    slow = [await crowd.start("slow", one_at_a_time()) for _ in range(2)]
    others = [await crowd.start(tenant) for tenant in "abc"]
    assert states([*slow, *others]) == ["running", "waiting", "running", "waiting", "waiting"]
    others[0].end()
    await wait_all_tasks_blocked()
    assert states([*slow, *others]) == ["running", "waiting", "done", "running", "waiting"]
    slow[0].end()  # its next one came before c
    await wait_all_tasks_blocked()
    assert states([*slow, *others]) == ["done", "running", "done", "running", "waiting"]
    nursery.cancel_scope.cancel()


async def test_a_tenant_at_its_own_limit_does_not_keep_the_place_that_it_leaves(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, admission(max_concurrent=1))
    slow = [await crowd.start("slow", one_at_a_time()) for _ in range(3)]
    other = await crowd.start("other")
    slow[0].end()
    await wait_all_tasks_blocked()
    assert states([*slow, other]) == ["done", "running", "waiting", "waiting"]
    slow[1].end()
    await wait_all_tasks_blocked()
    assert states([*slow, other]) == ["done", "done", "waiting", "running"]
    nursery.cancel_scope.cancel()


# --- cancellation ---


async def test_a_cancelled_one_leaves_the_queue_and_those_behind_move_up(nursery: trio.Nursery) -> None:
    limits = admission(max_concurrent=1)
    crowd = Crowd(nursery, limits)
    requests = [await crowd.start(tenant) for tenant in "aabb"]
    requests[1].cancel()
    await wait_all_tasks_blocked()
    assert states(requests) == ["running", "cancelled", "waiting", "waiting"]
    assert limits.statistics().waiting == 2
    requests[0].end()
    await wait_all_tasks_blocked()
    assert states(requests) == ["done", "cancelled", "running", "waiting"]
    assert limits.statistics().busy_tenants == 1
    nursery.cancel_scope.cancel()


async def test_a_tenant_whose_only_request_is_cancelled_in_the_queue_leaves_nothing(nursery: trio.Nursery) -> None:
    limits = admission(max_concurrent=1)
    crowd = Crowd(nursery, limits)
    await crowd.start("a")
    for number in range(100):
        (await crowd.start(f"tenant {number}")).cancel()
    await wait_all_tasks_blocked()
    found = limits.statistics()
    assert (found.waiting, found.busy_tenants, len(found.tenants)) == (0, 1, 0)
    nursery.cancel_scope.cancel()


async def test_a_deadline_that_passes_in_the_queue_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    limits = admission()
    policy = one_at_a_time()
    with await limits.enter(policy, "a", math.inf):
        with trio.move_on_after(5) as scope:
            await limits.enter(policy, "a", 5)
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(5)
        assert limits.statistics().waiting == 0
    assert limits.statistics().busy_tenants == 0


async def test_let_in_and_cancelled_in_the_same_moment_the_place_goes_to_the_next(nursery: trio.Nursery) -> None:
    limits = admission(max_concurrent=1)
    crowd = Crowd(nursery, limits)
    first = await limits.enter(ANY_NUMBER, "a", math.inf)
    cancelled, following = await crowd.start("b"), await crowd.start("c")
    first.release()
    cancelled.cancel()
    assert limits.statistics().running == 1  # it was let in before it was cancelled
    await wait_all_tasks_blocked()
    assert states([cancelled, following]) == ["cancelled", "running"]
    assert (limits.statistics().running, limits.statistics().waiting) == (1, 0)
    following.end()
    await wait_all_tasks_blocked()
    assert (limits.statistics().running, limits.statistics().busy_tenants) == (0, 0)


async def test_cancelled_and_then_a_place_is_free_in_the_same_moment_the_next_has_it_at_once(
    nursery: trio.Nursery,
) -> None:
    limits = admission(max_concurrent=1)
    crowd = Crowd(nursery, limits)
    first = await limits.enter(ANY_NUMBER, "a", math.inf)
    cancelled, following = await crowd.start("b"), await crowd.start("c")
    cancelled.cancel()
    first.release()
    assert limits.statistics().admitted == 2  # nobody who is leaving was let in
    await wait_all_tasks_blocked()
    assert states([cancelled, following]) == ["cancelled", "running"]
    following.end()


async def test_a_request_cancelled_before_it_asks_takes_no_place_in_the_queue() -> None:
    limits = admission()
    policy = one_at_a_time()
    with await limits.enter(policy, "a", math.inf):
        with trio.CancelScope() as scope:
            scope.cancel()
            await limits.enter(policy, "a", math.inf)
        assert scope.cancelled_caught
        assert limits.statistics().waiting == 0


# --- other limits ---


async def test_a_higher_total_limit_lets_in_at_once_and_a_lower_one_ends_nothing(nursery: trio.Nursery) -> None:
    limits = admission(max_concurrent=1)
    crowd = Crowd(nursery, limits)
    requests = [await crowd.start(tenant) for tenant in "abcde"]
    limits.configure(max_concurrent=3, max_queued=10)
    await wait_all_tasks_blocked()
    assert states(requests) == ["running", "running", "running", "waiting", "waiting"]
    limits.configure(max_concurrent=2, max_queued=10)
    requests[0].end()
    await wait_all_tasks_blocked()
    assert states(requests) == ["done", "running", "running", "waiting", "waiting"]
    requests[1].end()
    await wait_all_tasks_blocked()
    assert states(requests) == ["done", "done", "running", "running", "waiting"]
    limits.configure(max_concurrent=None, max_queued=0)
    await wait_all_tasks_blocked()
    assert states(requests) == ["done", "done", "running", "running", "running"]
    nursery.cancel_scope.cancel()


async def test_a_tenants_new_limit_counts_from_its_next_request_on(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, admission())
    before = [await crowd.start("a", one_at_a_time()) for _ in range(3)]
    assert states(before) == ["running", "waiting", "waiting"]
    after = [await crowd.start("a", ConcurrencyPolicy(max_per_tenant=3)) for _ in range(2)]
    assert states(before + after) == ["running", "running", "running", "waiting", "waiting"]
    lowered = await crowd.start("a", one_at_a_time())
    for request in before[:2]:
        request.end()
    await wait_all_tasks_blocked()
    assert states([*before, *after, lowered]) == ["done", "done", "running", "waiting", "waiting", "waiting"]
    before[2].end()
    await wait_all_tasks_blocked()
    assert states([*after, lowered]) == ["running", "waiting", "waiting"]
    nursery.cancel_scope.cancel()


async def test_limits_of_a_million_millions_are_limits_like_any_other(nursery: trio.Nursery) -> None:
    limits = admission(max_concurrent=10**12, max_queued=10**12)
    crowd = Crowd(nursery, limits)
    policy = ConcurrencyPolicy(max_per_tenant=10**12, max_queued_per_tenant=10**12)
    assert (await crowd.start("a", policy)).state == "running"
    assert limits.statistics().max_concurrent == 10**12
    nursery.cancel_scope.cancel()


async def test_a_snapshot_lists_a_hundred_tenants_with_the_most_waiting_first_and_their_names_cut(
    nursery: trio.Nursery,
) -> None:
    limits = admission()
    crowd = Crowd(nursery, limits)
    for number in range(150):
        crowd.start_soon(f"{number:04d}" + "x" * 100, one_at_a_time())
    for _ in range(2):
        crowd.start_soon("0120" + "x" * 100, one_at_a_time())
    await wait_all_tasks_blocked()
    listed = limits.statistics().tenants
    assert len(listed) == 100
    assert listed[0] == TenantAdmission(tenant_id="0120" + "x" * 60, running=1, waiting=2, limit=1)
    assert limits.statistics().busy_tenants == 150
    nursery.cancel_scope.cancel()
