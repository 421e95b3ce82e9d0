"""Workers and their supervisor over real channels: one retry budget, and who is asked what is under way."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from worker_house import ORIGIN, House, asks, budget


@pytest.fixture
def house(nursery: trio.Nursery) -> House:
    return House(nursery)


async def test_where_all_fails_at_once_each_worker_is_asked_once(house: House, nursery: trio.Nursery) -> None:
    workers = await house.workers()
    requests = [worker.begin() for worker in workers for _ in range(10)]
    asking = [asks(nursery, request, budget(minimum=3, ratio=0.5)) for request in requests]
    await wait_all_tasks_blocked()
    assert Counter(task.result for task in asking) == {True: 10, False: 10}
    assert [worker.counted for worker in workers] == [{ORIGIN: 1}] * 2

    retry = (await house.shared.statistics()).retry
    assert (retry.active, retry.retrying, retry.retried, retry.denied) == (20, 10, 10, 10)


async def test_below_the_minimum_no_worker_is_asked(house: House, nursery: trio.Nursery) -> None:
    first, second = await house.workers()
    once = [asks(nursery, first.begin(), budget(minimum=2, ratio=0.2)) for _ in range(2)]
    await wait_all_tasks_blocked()
    again = asks(nursery, request := second.begin(), budget(minimum=3, ratio=0.2))
    await wait_all_tasks_blocked()
    and_again = asks(nursery, request, budget(minimum=3, ratio=0.2))  # the third of three, which is its own
    await wait_all_tasks_blocked()
    assert [task.result for task in (*once, again, and_again)] == [True] * 4
    assert not first.counted
    assert not second.counted


async def test_a_second_retry_does_not_compete_with_others_for_what_the_first_gives_back(
    house: House, nursery: trio.Nursery
) -> None:
    first, second = await house.workers()
    retrying = [first.begin(), first.begin()]
    for request in retrying:
        asks(nursery, request, budget(minimum=2, ratio=0.5))
    waiting = [second.begin(), second.begin()]
    await wait_all_tasks_blocked()

    second.may_count = trio.Event()
    again = asks(nursery, retrying[0], budget(minimum=1, ratio=0.5))
    await wait_all_tasks_blocked()
    other = asks(nursery, waiting[0], budget(minimum=2, ratio=0.5))  # a patient tenant's: more than that is free
    await wait_all_tasks_blocked()
    second.may_count.set()
    await wait_all_tasks_blocked()
    assert (again.result, other.result) == (True, False)
    assert (await house.shared.statistics()).retry.retrying == 2


async def test_a_second_retry_that_is_denied_has_given_back_the_first(house: House, nursery: trio.Nursery) -> None:
    first, _ = await house.workers()
    requests = [first.begin() for _ in range(2)]
    for request in requests:
        asks(nursery, request, budget(minimum=2, ratio=0.0))
    await wait_all_tasks_blocked()
    again = asks(nursery, requests[0], budget(minimum=1, ratio=0.0))
    await wait_all_tasks_blocked()
    assert again.result is False
    assert (await house.shared.statistics()).retry.retrying == 1
    requests[0].leave()
    requests[1].leave()
    await wait_all_tasks_blocked()
    assert (await house.shared.statistics()).retry.retrying == 0


async def test_if_whoever_had_the_workers_asked_is_cancelled_those_that_joined_get_their_answer(
    house: House, nursery: trio.Nursery
) -> None:
    first, second = await house.workers()
    second.may_count = trio.Event()
    cancelled = asks(nursery, first.begin(), budget(minimum=0, ratio=0.5))
    await wait_all_tasks_blocked()
    joined = [asks(nursery, first.begin(), budget(minimum=0, ratio=0.5)) for _ in range(3)]
    await wait_all_tasks_blocked()
    assert second.counted == {ORIGIN: 1}
    cancelled.scope.cancel()
    await wait_all_tasks_blocked()
    second.may_count.set()
    await wait_all_tasks_blocked()
    assert cancelled.scope.cancelled_caught
    assert Counter(task.result for task in joined) == {True: 2, False: 1}
    assert second.counted == {ORIGIN: 2}


async def test_a_retry_that_was_granted_to_a_request_that_was_cancelled_meanwhile_is_given_back(
    house: House, nursery: trio.Nursery
) -> None:
    first, _ = await house.workers()
    asking = asks(nursery, first.begin(), budget(minimum=1, ratio=0.0))
    first.on_question = asking.scope.cancel
    await wait_all_tasks_blocked()
    assert asking.scope.cancelled_caught
    retry = (await house.shared.statistics()).retry
    assert (retry.retrying, retry.retried, retry.origins) == (0, 1, ())


async def test_a_worker_that_does_not_say_what_it_has_under_way_is_left_out(
    house: House, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    first, second = await house.workers()
    for _ in range(10):
        second.begin()
    second.may_count = trio.Event()
    asking = [asks(nursery, first.begin(), budget(minimum=0, ratio=0.5)) for _ in range(4)]
    with trio.fail_after(60):
        while any(task.result is None for task in asking):
            await trio.sleep(0.01)
    assert Counter(task.result for task in asking) == {True: 2, False: 2}
