"""Alarms cancel scopes at their times, on a clock that the tests move."""

import math

import pytest
import trio
from trio.testing import MockClock

from vastar_runtime.policies import alarm as alarms
from vastar_runtime.policies.alarm import Alarm


async def rings_after(alarm: Alarm) -> float:
    """Seconds until it cancels its scope."""
    began = trio.current_time()
    with alarm.scope:
        await trio.sleep_forever()
    assert alarm.scope.cancelled_caught
    return trio.current_time() - began


def alarm_in(seconds: float) -> Alarm:
    alarm = Alarm(trio.CancelScope())
    alarm.set(trio.current_time() + seconds)
    return alarm


async def test_each_rings_at_its_own_time_whichever_was_set_first(autojump_clock: MockClock) -> None:
    rang: list[float] = []

    async def wait(alarm: Alarm) -> None:
        rang.append(await rings_after(alarm))

    async with trio.open_nursery() as nursery:
        for seconds in (5.0, 1.0, 3.0, 1.0):
            nursery.start_soon(wait, alarm_in(seconds))
    assert rang == pytest.approx([1.0, 1.0, 3.0, 5.0])


async def test_it_may_be_moved_to_later_and_to_sooner_again_and_again(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    alarm = alarm_in(2.0)
    with alarm.scope:
        for _ in range(10):
            await trio.sleep(1.9)
            alarm.set(trio.current_time() + 2.0)
        alarm.set(trio.current_time() + 0.5)
        alarm.set(trio.current_time() + 7.0)
        alarm.set(trio.current_time() + 0.25)
        await trio.sleep_forever()
    assert trio.current_time() - began == pytest.approx(19.25)


async def test_one_that_was_set_to_never_rings_when_it_is_set_again(autojump_clock: MockClock) -> None:
    alarm = alarm_in(1.0)
    alarm.set(math.inf)
    with alarm.scope:
        await trio.sleep(10)
        alarm.set(trio.current_time() + 1.0)
        assert await rings_after(alarm_in(0.5)) == pytest.approx(0.5)
        await trio.sleep_forever()
    assert alarm.scope.cancelled_caught


async def test_one_that_has_ended_does_not_ring_though_its_scope_is_used_on(autojump_clock: MockClock) -> None:
    scope = trio.CancelScope()
    with scope:
        first = Alarm(scope)
        first.set(trio.current_time() + 1.0)
        first.end()
        second = Alarm(scope)
        second.set(trio.current_time() + 100.0)
        await trio.sleep(50)
        assert not scope.cancel_called
        second.end()
        await trio.sleep(100)
    assert not scope.cancel_called


async def test_those_that_ended_long_before_their_time_are_not_kept(autojump_clock: MockClock) -> None:
    """A daemon whose clients allow ten minutes answers millions of requests meanwhile."""
    lasting = [alarm_in(3600.0 + number) for number in range(10)]
    for _ in range(10_000):
        alarm = alarm_in(600.0)
        alarm.set(trio.current_time() + 300.0)  # in the heap for a second time
        alarm.end()
    clock = alarms._clock()
    assert len(clock._heap) <= 2 * alarms.MIN_STALE + len(lasting)
    assert await rings_after(lasting[3]) == pytest.approx(3603.0)
    assert [alarm.scope.cancel_called for alarm in lasting] == [True] * 4 + [False] * 6
    for alarm in lasting:
        alarm.end()


async def test_any_number_may_be_due_at_once(autojump_clock: MockClock) -> None:
    ringing = [alarm_in(1.0) for _ in range(1000)]
    await trio.sleep(2)
    assert all(alarm.scope.cancel_called for alarm in ringing)
    assert not alarms._clock()._heap
