"""Workers and their supervisor over real channels: one circuit for all, of which each knows what it has to."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from worker_house import BRITTLE, ORIGIN, OTHER_ORIGIN, WHO, House, Task

from vastar_runtime.config import Policies, Settings
from vastar_runtime.config.policy import CircuitBreakerPolicy, Policy
from vastar_runtime.errors import RequestError


@pytest.fixture
def house(nursery: trio.Nursery) -> House:
    return House(nursery)


async def test_a_failure_has_all_workers_ask_and_a_success_has_none(house: House) -> None:
    first, second = await house.workers()
    await first.sends("status 503")
    assert first.is_marked()
    assert second.is_marked()
    assert not second.is_marked(OTHER_ORIGIN)

    await second.sends()  # between two failures, which are not two in a row then
    assert not first.is_marked()
    assert not second.is_marked()
    await first.sends("status 503")
    await second.sends("status 503")
    with pytest.raises(RequestError, match=f"circuit open for {ORIGIN}, next probe in 1000 ms"):
        await first.permit()


async def test_a_success_right_after_a_failure_is_told_before_the_supervisor_has_said_a_word(house: House) -> None:
    first, second = await house.workers()
    failing, well = await first.permit(), await first.permit()
    failing.failed("status 503")
    well.succeeded()
    await wait_all_tasks_blocked()
    assert not first.is_marked()
    await second.sends("status 503")
    await first.permit()  # as they were not two in a row


async def test_a_failure_that_does_not_count_is_forgotten_by_the_worker_that_told_it(house: House) -> None:
    """It was sent before the circuit opened, and ends after it has closed again."""
    first, second = await house.workers()
    late = await first.permit(BRITTLE)
    await second.sends("status 503", BRITTLE)
    house.pass_s(2)
    await second.sends()  # the probe
    assert not first.is_marked()

    second.heard.clear()
    late.failed("timeout")
    assert first.is_marked()
    await wait_all_tasks_blocked()
    assert not first.is_marked()
    assert second.heard == []
    assert house.shared.local.circuit_breaker.statistics().not_closed == 0


async def test_a_failure_counts_that_was_told_while_the_word_of_a_success_was_on_its_way(house: House) -> None:
    first, second = await house.workers()
    await second.sends("status 503")
    sent = await first.permit()
    first.held_news = []
    await second.sends()
    sent.failed("status 503")
    await wait_all_tasks_blocked()
    first.hear_held_news()
    assert first.is_marked()
    assert second.is_marked()
    await second.sends("status 503")
    with pytest.raises(RequestError, match="circuit open"):
        await first.permit()


async def test_a_late_failure_of_one_worker_does_not_hide_that_of_another(house: House) -> None:
    """What the first is told of its own is not for the second, whose failure is on its way and counts."""
    first, second = await house.workers()
    late = await first.permit(BRITTLE)
    await second.sends("status 503", BRITTLE)
    house.pass_s(2)
    await second.sends()
    failing, well = await second.permit(), await second.permit()

    second.held_news = []
    late.failed("timeout")
    await wait_all_tasks_blocked()
    failing.failed("status 503")
    second.hear_held_news()
    well.succeeded()
    await wait_all_tasks_blocked()
    await first.sends("status 503")
    await first.permit()  # the success was told: they were not two in a row


async def test_a_failure_rate_is_that_of_all_workers(house: House) -> None:
    by_rate = CircuitBreakerPolicy(consecutive_failures=None, failure_rate=0.5, minimum_requests=4)
    first, second = await house.workers()
    await first.sends(policy=by_rate)
    await second.sends(policy=by_rate)
    await first.sends("status 503", by_rate)
    assert house.shared.local.circuit_breaker.statistics().not_closed == 0
    await second.sends("status 503", by_rate)
    with pytest.raises(RequestError, match="circuit open"):
        await first.permit(by_rate)


async def test_a_reason_that_cannot_be_sent_as_it_is_opens_the_circuit_all_the_same(house: House) -> None:
    first, second = await house.workers()
    await first.sends("half of a pair: \ud800" + "x" * 500, BRITTLE)
    assert second.is_marked()
    (circuit,) = house.shared.local.circuit_breaker.statistics().circuits
    assert circuit.last_reason == "half of a pair: ?".ljust(256, "x")


async def test_a_reload_that_turns_breakers_off_frees_all_workers(house: House) -> None:
    """Also of what a request that was sent before is told to have failed later: at the next one."""
    first, second = await house.workers()
    sent = await first.permit(BRITTLE)
    await second.sends("status 503", BRITTLE)
    off = CircuitBreakerPolicy(enabled=False)
    settings = Settings(policy=Policy(circuit_breaker=off))
    await house.shared.configure(settings, Policies(settings))
    await wait_all_tasks_blocked()
    assert not first.is_marked()
    assert not second.is_marked()

    sent.failed("timeout")
    await wait_all_tasks_blocked()
    with pytest.raises(RequestError, match="circuit open"):
        await second.permit(BRITTLE)  # of a worker that has not heard of the reload
    await first.sends(policy=off)
    assert not second.is_marked()


async def test_a_probe_that_hangs_is_replaced_by_another_workers_and_closes_the_circuit_all_the_same(
    house: House,
) -> None:
    first, second = await house.workers()
    await first.sends("status 503", BRITTLE)
    house.pass_s(1)
    hanging = await first.permit()
    house.pass_s(1)
    replacement = await second.permit()
    with pytest.raises(RequestError, match="unless the one under way succeeds"):
        await first.permit()
    hanging.succeeded()
    await wait_all_tasks_blocked()
    assert not second.is_marked()
    replacement.failed("timeout")  # late
    await wait_all_tasks_blocked()
    assert not second.is_marked()


async def test_the_probe_of_a_worker_that_goes_is_abandoned_and_another_is_let_out(house: House) -> None:
    first, second = await house.workers()
    await first.sends("status 503", BRITTLE)
    house.pass_s(0.9)
    assert second.circuit_breaker.refuses_for_s(*WHO) == pytest.approx(0.1)
    house.pass_s(0.1)
    await first.permit()  # the probe
    with pytest.raises(RequestError, match="unless the one under way succeeds"):
        await second.permit()

    await first.go()
    await second.sends()  # a probe, too
    assert not second.is_marked()
    assert house.shared.local.circuit_breaker.statistics().not_closed == 0


async def test_the_probe_is_abandoned_if_whoever_asked_was_cancelled_meanwhile(
    house: House, nursery: trio.Nursery
) -> None:
    first, second = await house.workers()
    await first.sends("status 503", BRITTLE)
    house.pass_s(1)
    asking = Task(nursery, first.permit)
    first.on_question = asking.scope.cancel
    await wait_all_tasks_blocked()
    assert asking.scope.cancelled_caught
    await second.sends()
    assert not first.is_marked()


async def test_a_probe_that_fails_otherwise_opens_the_circuit_for_twice_as_long(house: House) -> None:
    first, second = await house.workers()
    await first.sends("status 503", BRITTLE)
    house.pass_s(1)
    probe = await first.permit(BRITTLE)
    probe.failed_otherwise("status 500")
    probe.abandoned()
    await wait_all_tasks_blocked()
    with pytest.raises(RequestError, match="next probe in 2000 ms"):
        await second.permit()
    house.pass_s(2)
    await second.sends()
    assert not first.is_marked()


async def test_a_worker_that_comes_later_knows_what_is_held_against_whom(house: House) -> None:
    first, _ = await house.workers()
    await first.sends("status 503", BRITTLE)
    house.pass_s(0.25)
    third = house.worker()
    await wait_all_tasks_blocked()
    assert third.is_marked()
    assert not third.is_marked(OTHER_ORIGIN)
    assert third.circuit_breaker.refuses_for_s(*WHO) == pytest.approx(0.75)

    house.pass_s(1)
    await third.sends()
    fourth = house.worker()
    await wait_all_tasks_blocked()
    assert not fourth.is_marked()
    await fourth.sends("status 503", BRITTLE)  # it knows of the opening: what it sends now is not late
    assert house.shared.local.circuit_breaker.statistics().opened == 2
