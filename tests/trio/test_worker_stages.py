"""Workers and their supervisor over real channels: who asks nobody, rates, places, and what all of them count."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from worker_house import NO_RATE, ONE_AN_HOUR, ORIGIN, OTHER_ORIGIN, UNLIMITED, WHO, House, Task, asks, budget

from vastar_runtime.config import Policies, Settings
from vastar_runtime.config.policy import ConcurrencyPolicy, Policy
from vastar_runtime.errors import RateLimited


@pytest.fixture
def house(nursery: trio.Nursery) -> House:
    return House(nursery)


# --- who asks nobody ---


async def test_where_nothing_is_limited_and_nothing_fails_not_a_byte_is_said(house: House) -> None:
    workers = await house.workers()
    joined = [worker.said() for worker in workers]
    for worker in workers:
        place = await worker.enter(UNLIMITED)
        taken = await worker.rate_limiter.take(NO_RATE, *WHO)
        with worker.retry_budget.request(ORIGIN) as retries:
            permit = await worker.permit()
            permit.succeeded()
            permit.abandoned()
            retries.retry_ended()
        await worker.rate_limiter.give_back(taken)
        place.release()
    await wait_all_tasks_blocked()
    assert [worker.said() for worker in workers] == joined
    await workers[0].sends("status 503")
    assert workers[0].said() > joined[0]  # so it would have been seen


# --- rates ---


async def test_tokens_of_a_request_that_was_cancelled_meanwhile_are_there_again(
    house: House, nursery: trio.Nursery
) -> None:
    first, second = await house.workers()
    taking = Task(nursery, lambda: first.rate_limiter.take(ONE_AN_HOUR, *WHO))
    first.on_question = taking.scope.cancel
    await wait_all_tasks_blocked()
    assert taking.scope.cancelled_caught

    taken = await second.rate_limiter.take(ONE_AN_HOUR, *WHO)
    with pytest.raises(RateLimited):
        await second.rate_limiter.take(ONE_AN_HOUR, *WHO)
    await second.rate_limiter.give_back(taken)
    await wait_all_tasks_blocked()
    assert await second.rate_limiter.take(ONE_AN_HOUR, *WHO)


# --- admission ---


async def test_who_waits_and_is_cancelled_leaves_its_turn_to_the_next(house: House, nursery: trio.Nursery) -> None:
    first, second = await house.workers()
    place = await first.enter()
    leaving = Task(nursery, first.enter)
    await wait_all_tasks_blocked()
    following = Task(nursery, second.enter)
    await wait_all_tasks_blocked()
    leaving.scope.cancel()
    await wait_all_tasks_blocked()
    assert house.shared.local.admission.statistics().waiting == 1
    place.release()
    await wait_all_tasks_blocked()
    assert following.result is not None


async def test_a_place_that_crosses_the_cancellation_goes_to_the_next(house: House, nursery: trio.Nursery) -> None:
    first, second = await house.workers()
    place = await first.enter()
    leaving = Task(nursery, first.enter)
    await wait_all_tasks_blocked()
    following = Task(nursery, second.enter)
    await wait_all_tasks_blocked()
    place.release()  # which the supervisor hears first
    leaving.scope.cancel()
    await wait_all_tasks_blocked()
    assert leaving.scope.cancelled_caught
    assert following.result is not None
    assert house.shared.local.admission.statistics().running == 1


async def test_what_a_worker_that_goes_held_others_get(house: House, nursery: trio.Nursery) -> None:
    first, second = await house.workers()
    await first.enter()

    async def wait_and_hear_that_it_is_over() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await first.enter()

    Task(nursery, wait_and_hear_that_it_is_over)
    await wait_all_tasks_blocked()
    following = Task(nursery, second.enter)
    await wait_all_tasks_blocked()
    await first.go()
    assert following.result is not None
    assert house.shared.local.admission.statistics().waiting == 0


async def test_what_runs_when_a_reload_brings_a_limit_counts_for_it(house: House, nursery: trio.Nursery) -> None:
    first, second = await house.workers()
    running = [await first.enter(UNLIMITED), await second.enter(UNLIMITED)]
    limit = ConcurrencyPolicy(max_per_tenant=2)
    settings = Settings(policy=Policy(concurrency=limit))
    policies = Policies(settings)
    await house.shared.configure(settings, policies)
    for worker in (first, second):
        await worker.stages.configure(settings, policies)
    await wait_all_tasks_blocked()
    third = Task(nursery, lambda: second.enter(limit))
    await wait_all_tasks_blocked()
    admission = (await house.shared.statistics()).admission
    assert (admission.running, admission.waiting, admission.admitted) == (2, 1, 2)
    running[0].release()
    await wait_all_tasks_blocked()
    assert third.result is not None


# --- statistics ---


async def test_statistics_are_of_all_workers_together(house: House, nursery: trio.Nursery) -> None:
    first, second = await house.workers()
    await first.enter(UNLIMITED)
    (await second.enter(UNLIMITED)).release()
    await second.enter(UNLIMITED)
    await second.enter()  # which is asked for
    first.begin()
    second.begin(OTHER_ORIGIN)
    for worker in (first, second):
        asks(nursery, worker.begin(), budget(minimum=3, ratio=0.2))
    await wait_all_tasks_blocked()
    statistics = await house.shared.statistics()
    assert (statistics.admission.running, statistics.admission.admitted) == (3, 4)
    retry = statistics.retry
    assert (retry.active, retry.retrying) == (4, 2)
    assert [(one.origin, one.active, one.retrying) for one in retry.origins] == [(ORIGIN, 3, 2)]


async def test_what_a_worker_that_has_gone_admitted_and_retried_is_not_forgotten(
    house: House, nursery: trio.Nursery
) -> None:
    first, second = await house.workers()
    for worker in (first, first, second):
        await worker.enter(UNLIMITED)
        asks(nursery, worker.begin(), budget(minimum=3, ratio=0.2))
    await wait_all_tasks_blocked()
    assert (await house.shared.statistics()).admission.admitted == 3
    await first.go()
    statistics = await house.shared.statistics()
    assert (statistics.admission.running, statistics.admission.admitted) == (1, 3)
    assert (statistics.retry.active, statistics.retry.retrying, statistics.retry.retried) == (1, 1, 3)


async def test_an_origin_whose_last_retry_ends_while_workers_are_asked_is_not_listed(
    house: House, nursery: trio.Nursery
) -> None:
    first, second = await house.workers()
    request = first.begin()
    asks(nursery, request, budget(minimum=3, ratio=0.2))
    await wait_all_tasks_blocked()
    second.may_count = trio.Event()
    statistics = Task(nursery, house.shared.statistics)
    await wait_all_tasks_blocked()
    request.retry_ended()
    await wait_all_tasks_blocked()
    second.may_count.set()
    await wait_all_tasks_blocked()
    assert (statistics.result.retry.active, statistics.result.retry.origins) == (1, ())
