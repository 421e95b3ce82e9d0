"""Who is refused: when the queue is full, and when there is no hope."""

from __future__ import annotations

import math

import pytest
import trio
from admission_requests import ANY_NUMBER, Crowd, Request, admission, one_at_a_time, states
from trio.testing import MockClock, wait_all_tasks_blocked

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import ConcurrencyPolicy
from vastar_runtime.errors import RateLimited


def refusal(request: Request) -> tuple[str, int]:
    assert request.error is not None, request.state
    assert request.error.error_class is ErrorClass.RATE_LIMITED
    return request.error.message, request.error.retry_after_ms


async def test_a_tenants_own_queue_is_bounded_and_the_others_are_not_touched(nursery: trio.Nursery) -> None:
    limits = admission()
    crowd = Crowd(nursery, limits)
    requests = [await crowd.start("a", one_at_a_time(max_queued_per_tenant=2)) for _ in range(4)]
    assert states(requests) == ["running", "waiting", "waiting", "refused"]
    assert refusal(requests[3]) == (
        "concurrency.max_per_tenant is 1: tenant 'a' has 1 running and 2 waiting; "
        "concurrency.max_queued_per_tenant, 2, is reached; try again in 1000 ms",
        1000,
    )
    assert (await crowd.start("b", one_at_a_time())).state == "running"
    assert limits.statistics().refused == 1
    nursery.cancel_scope.cancel()


async def test_without_a_queue_who_has_no_place_is_refused_at_once(nursery: trio.Nursery) -> None:
    limits = admission(max_concurrent=1, max_queued=0)
    crowd = Crowd(nursery, limits)
    first, own, other = [await crowd.start(tenant) for tenant in "aab"]
    assert states([first, own, other]) == ["running", "refused", "refused"]
    assert refusal(other) == (
        "admission.max_concurrent is 1: there are 1 running and 0 waiting, of tenant 'b' 0 running and 0 waiting; "
        "admission.max_queued, 0, is reached; try again in 1000 ms",
        1000,
    )
    assert limits.statistics().busy_tenants == 1  # who was refused is forgotten
    first.end()
    await wait_all_tasks_blocked()
    assert (await crowd.start("b")).state == "running"
    nursery.cancel_scope.cancel()


async def test_when_the_queue_is_full_a_quiet_tenant_takes_the_place_of_a_noisy_ones_youngest(
    nursery: trio.Nursery,
) -> None:
    limits = admission(max_concurrent=1, max_queued=4)
    crowd = Crowd(nursery, limits)
    noisy = [await crowd.start("noisy") for _ in range(5)]
    quiet = await crowd.start("quiet")
    assert states([*noisy, quiet]) == ["running", "waiting", "waiting", "waiting", "refused", "waiting"]
    assert refusal(noisy[4]) == (
        "admission.max_concurrent is 1: there are 1 running and 3 waiting, of tenant 'noisy' 1 running and 3 waiting; "
        "admission.max_queued, 4, is reached, and a tenant with fewer waiting takes the place; try again in 1000 ms",
        1000,
    )
    assert limits.statistics().waiting == 4
    again = await crowd.start("noisy")
    assert states([again, quiet]) == ["refused", "waiting"]
    nursery.cancel_scope.cancel()


async def test_between_tenants_with_as_many_waiting_who_came_first_stays(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, admission(max_concurrent=1, max_queued=3))
    running = await crowd.start("z")
    waiting = [await crowd.start(tenant) for tenant in "abb"]
    newcomers = [await crowd.start(tenant) for tenant in "ab"]
    assert states([running, *waiting, *newcomers]) == ["running", *3 * ["waiting"], *2 * ["refused"]]
    third = await crowd.start("c")  # has none waiting where b has two
    assert states([*waiting, third]) == ["waiting", "waiting", "refused", "waiting"]
    fourth = await crowd.start("d")  # now everybody has one
    assert states([*waiting, third, fourth]) == ["waiting", "waiting", "refused", "waiting", "refused"]
    nursery.cancel_scope.cancel()


async def test_no_one_is_turned_out_for_a_request_that_is_refused_itself(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, admission(max_concurrent=1, max_queued=3))
    noisy = [await crowd.start("noisy") for _ in range(4)]
    newcomer = await crowd.start("quiet", one_at_a_time(max_queued_per_tenant=0))
    assert states([*noisy, newcomer]) == ["running", "waiting", "waiting", "waiting", "refused"]
    nursery.cancel_scope.cancel()


async def test_a_lower_bound_of_the_queue_turns_nobody_out(nursery: trio.Nursery) -> None:
    limits = admission(max_concurrent=1)
    crowd = Crowd(nursery, limits)
    requests = [await crowd.start("a") for _ in range(4)]
    limits.configure(max_concurrent=1, max_queued=1)
    await wait_all_tasks_blocked()
    assert states(requests) == ["running", "waiting", "waiting", "waiting"]
    assert (await crowd.start("a")).state == "refused"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["a" * 1_048_576, "\x00\n" * 600_000, "../../etc/passwd" * 1000, "'\"\\" * 100])
async def test_whatever_a_tenant_is_called_the_refusal_is_one_short_line(name: str) -> None:
    limits = admission()
    policy = one_at_a_time(max_queued_per_tenant=0)
    with await limits.enter(policy, name, math.inf), pytest.raises(RateLimited) as caught:
        await limits.enter(policy, name, math.inf)
    assert repr(name[:64]) in caught.value.message
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()


# --- deadlines ---


async def test_what_cannot_be_let_in_before_its_deadline_is_refused_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    limits = admission(max_concurrent=2)
    crowd = Crowd(nursery, limits)
    await crowd.learn("a", hold_s=2.0)
    waiting = [await crowd.start(tenant) for tenant in "abaaa"]
    assert states(waiting) == ["running", "running", "waiting", "waiting", "waiting"]
    began = trio.current_time()
    # Two places, two seconds each: behind three others of its own tenant it is let in after four seconds.
    late = await crowd.start("a", remaining_s=3.9)
    assert trio.current_time() == began
    assert refusal(late) == (
        "admission.max_concurrent is 2: there are 2 running and 3 waiting, of tenant 'a' 1 running and 3 waiting; "
        "a place is to be had in about 4000 ms, and the request has 3900 ms left; try again in 4000 ms",
        4000,
    )
    assert (await crowd.start("a", remaining_s=4.1)).state == "waiting"
    # It is b's turn after the first of a: two seconds for the two of them.
    assert (await crowd.start("b", remaining_s=1.9)).state == "refused"
    assert (await crowd.start("b", remaining_s=2.1)).state == "waiting"
    nursery.cancel_scope.cancel()


async def test_at_its_own_limit_a_tenants_own_requests_say_how_long_one_takes(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    crowd = Crowd(nursery, admission())
    policy = ConcurrencyPolicy(max_per_tenant=2)
    await crowd.start("quick", policy)
    await crowd.learn("quick", 0.1, policy)
    await crowd.learn("slow", 100.0)
    await crowd.start("quick", policy)
    assert (await crowd.start("quick", policy, remaining_s=0.04)).state == "refused"
    hopeful = await crowd.start("quick", policy, remaining_s=0.06)
    assert hopeful.state == "waiting"
    nursery.cancel_scope.cancel()


async def test_before_sixteen_requests_have_ended_nobody_is_refused_for_a_deadline(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    limits = admission(max_concurrent=1)
    for _ in range(15):
        with await limits.enter(ANY_NUMBER, "a", math.inf):
            await trio.sleep(10)
    crowd = Crowd(nursery, limits)
    last = await crowd.start("a")
    hopeful = await crowd.start("a", remaining_s=0.001)
    assert hopeful.state == "waiting"
    await trio.sleep(10)
    last.end()
    await wait_all_tasks_blocked()
    assert hopeful.state == "running"
    assert (await crowd.start("a", remaining_s=9.9)).state == "refused"
    nursery.cancel_scope.cancel()


async def test_an_average_follows_what_happens_now(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    limits = admission(max_concurrent=1)
    crowd = Crowd(nursery, limits)
    await crowd.learn("a", hold_s=100.0)
    for _ in range(10):
        await crowd.learn("a", hold_s=1.0)
    await crowd.start("a")
    assert (await crowd.start("a", remaining_s=1.1)).state == "waiting"
    nursery.cancel_scope.cancel()


async def test_a_request_without_a_deadline_waits_whatever_the_estimate(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    crowd = Crowd(nursery, admission(max_concurrent=1))
    await crowd.learn("a", hold_s=10_000.0)
    requests = [await crowd.start("a") for _ in range(3)]
    assert states(requests) == ["running", "waiting", "waiting"]
    nursery.cancel_scope.cancel()


async def test_a_refusal_says_at_least_a_millisecond(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    limits = admission(max_concurrent=1, max_queued=0)
    crowd = Crowd(nursery, limits)
    await crowd.learn("a", hold_s=0.0)
    await crowd.start("a")
    assert refusal(await crowd.start("a"))[1] == 1
    nursery.cancel_scope.cancel()
