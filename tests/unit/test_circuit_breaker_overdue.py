"""Probes that hang, failures that only a probe fails by, how long a circuit refuses, and what it tells of changes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from clocks import Clock

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import CircuitBreakerPolicy
from vastar_runtime.errors import RequestError
from vastar_runtime.policies.circuit import State
from vastar_runtime.policies.circuit_breaker import (
    MAX_REASON_CHARACTERS,
    CircuitBreaker,
    CircuitStatistics,
    Permit,
)

A = "https://a.example"
DEFAULT = CircuitBreakerPolicy()


@pytest.fixture
def changes() -> list[CircuitStatistics]:
    """What the breaker has told."""
    return []


@pytest.fixture
def breaker(clock: Clock, changes: list[CircuitStatistics]) -> CircuitBreaker:
    return CircuitBreaker(clock, on_change=changes.append)


def permit(breaker: CircuitBreaker) -> Permit:
    return breaker.permit(DEFAULT, "t", A)


def refusal(breaker: CircuitBreaker) -> RequestError:
    with pytest.raises(RequestError) as caught:
        permit(breaker)
    assert caught.value.error_class is ErrorClass.TRANSIENT
    return caught.value


def circuit(breaker: CircuitBreaker) -> CircuitStatistics:
    (only,) = breaker.statistics().circuits
    return only


def is_closed(breaker: CircuitBreaker) -> bool:
    return breaker.statistics().not_closed == 0


def opened(breaker: CircuitBreaker, clock: Clock) -> None:
    """Open it, and wait until it is time for a probe."""
    for _ in range(5):
        permit(breaker).failed("refused")
    clock.now += 30


# --- a probe that hangs ---


def test_a_probe_may_take_as_long_as_the_circuit_was_open_for_and_then_the_next_request_is_the_probe(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    opened(breaker, clock)
    permit(breaker)
    for waited_s, retry_after_ms in ((0, 1000), (29, 1000), (0.75, 250), (0.2496, 1)):
        clock.now += waited_s
        error = refusal(breaker)
        assert error.retry_after_ms == retry_after_ms
        assert f"next probe in {retry_after_ms} ms unless the one under way succeeds; " in error.message
    clock.now += 0.0004
    second = permit(breaker)
    assert breaker.is_probe(second)
    assert refusal(breaker).retry_after_ms == 1000, "one at a time"
    assert circuit(breaker).state is State.HALF_OPEN
    second.succeeded()
    assert is_closed(breaker)


def test_after_a_failed_probe_the_next_one_may_take_twice_as_long(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker, clock)
    permit(breaker).failed("503")
    clock.now += 60
    permit(breaker)
    clock.now += 59.9
    refusal(breaker)
    clock.now += 0.1
    permit(breaker)


def test_many_probes_that_hang_are_replaced_one_after_the_other(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker, clock)
    for _ in range(20):
        probe = permit(breaker)
        assert breaker.is_probe(probe)
        refusal(breaker)
        clock.now += 30
    assert circuit(breaker).times_opened == 1
    permit(breaker).failed("503")
    assert refusal(breaker).retry_after_ms == 60_000, "doubled once"


LATE: dict[str, Callable[[Permit], None]] = {
    "succeeded": Permit.succeeded,
    "failed": lambda late: late.failed("too late"),
    "failed otherwise": lambda late: late.failed_otherwise("too late"),
    "abandoned": Permit.abandoned,
}


def test_a_probe_that_was_replaced_and_succeeds_after_all_closes_the_circuit(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    opened(breaker, clock)
    slow = permit(breaker)
    clock.now += 30
    second = permit(breaker)
    slow.succeeded()
    assert is_closed(breaker)
    second.failed("late for good")
    for _ in range(4):
        permit(breaker).failed("503")
    assert is_closed(breaker)


def test_a_circuit_closes_again_before_an_upstream_whose_answers_take_longer_than_it_was_open_for(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    """Under steady traffic each probe is replaced before it is answered."""
    opened(breaker, clock)
    under_way: list[tuple[float, Permit]] = []
    for _ in range(200):
        clock.now += 1
        while under_way and under_way[0][0] <= clock.now:
            under_way.pop(0)[1].succeeded()
        if is_closed(breaker):
            break
        with contextlib.suppress(RequestError):
            under_way.append((clock.now + 45, permit(breaker)))
    assert is_closed(breaker)


@pytest.mark.parametrize("tell", list(LATE.values())[1:], ids=list(LATE.keys())[1:])
def test_what_else_comes_of_a_probe_that_was_replaced_changes_nothing(
    breaker: CircuitBreaker, clock: Clock, tell: Callable[[Permit], None]
) -> None:
    opened(breaker, clock)
    late = permit(breaker)
    clock.now += 30
    second = permit(breaker)
    before = circuit(breaker)
    tell(late)
    assert circuit(breaker) == before
    refusal(breaker)
    second.succeeded()
    assert is_closed(breaker)


@pytest.mark.parametrize("tell", LATE.values(), ids=LATE.keys())
def test_nor_once_the_circuit_has_opened_again(
    breaker: CircuitBreaker, clock: Clock, tell: Callable[[Permit], None]
) -> None:
    opened(breaker, clock)
    late, later = permit(breaker), None
    clock.now += 30
    later = permit(breaker)
    clock.now += 30
    permit(breaker).failed("503")
    tell(late)
    assert refusal(breaker).retry_after_ms == 60_000
    assert (circuit(breaker).times_opened, circuit(breaker).last_reason) == (2, "503")
    clock.now += 60
    third = permit(breaker)
    tell(later)
    assert circuit(breaker).state is State.HALF_OPEN
    third.succeeded()
    assert is_closed(breaker)


def test_nor_once_the_circuit_has_closed_again(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker, clock)
    late = []
    for _ in range(10):
        late.append(permit(breaker))
        clock.now += 30
    permit(breaker).succeeded()
    for old in late[:5]:
        old.failed("too late")
    assert is_closed(breaker)
    for _ in range(4):
        permit(breaker).failed("503")
    for old in late[5:]:
        old.succeeded()
    assert is_closed(breaker)
    permit(breaker).failed("503")
    assert not is_closed(breaker), "the old ones neither counted nor began the count anew"


@pytest.mark.parametrize("tell", LATE.values(), ids=LATE.keys())
def test_nor_after_a_probe_that_was_given_up(
    breaker: CircuitBreaker, clock: Clock, tell: Callable[[Permit], None]
) -> None:
    opened(breaker, clock)
    late = permit(breaker)
    clock.now += 30
    permit(breaker).abandoned()
    before = circuit(breaker)
    assert before.state is State.OPEN
    tell(late)
    assert circuit(breaker) == before
    permit(breaker).succeeded()
    assert is_closed(breaker)


def test_a_late_result_of_an_old_probe_opens_no_circuit_that_has_opened_and_closed_since(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    opened(breaker, clock)
    late = [permit(breaker)]
    for _ in range(9):
        clock.now += 30
        late.append(permit(breaker))
    clock.now += 30
    permit(breaker).failed("503")
    clock.now += 60
    permit(breaker).succeeded()
    for old in late:
        old.failed("too late")
    assert is_closed(breaker)
    for _ in range(4):
        permit(breaker).failed("503")
    assert is_closed(breaker), "none of the old ones was counted"
    permit(breaker).failed("503")
    assert not is_closed(breaker)


# --- failures that do not open a circuit ---


def test_a_closed_circuit_does_not_count_them(breaker: CircuitBreaker) -> None:
    for _ in range(100):
        lost = permit(breaker)
        lost.failed_otherwise("reset")
        lost.abandoned()  # as the pipeline does for what was told nothing
    assert breaker.statistics().tracked == 0
    for _ in range(4):
        permit(breaker).failed("503")
    permit(breaker).failed_otherwise("reset")
    assert is_closed(breaker)
    permit(breaker).failed("503")
    assert not is_closed(breaker), "nor do they begin the count anew"


def test_a_probe_fails_by_them_and_the_circuit_is_open_for_twice_as_long(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker, clock)
    probe = permit(breaker)
    probe.failed_otherwise("reset by the upstream")
    probe.abandoned()
    assert refusal(breaker).retry_after_ms == 60_000
    assert (circuit(breaker).times_opened, circuit(breaker).last_reason) == (2, "reset by the upstream")


def test_where_breakers_are_off_they_are_nothing(breaker: CircuitBreaker) -> None:
    breaker.permit(CircuitBreakerPolicy(enabled=False), "t", A).failed_otherwise("reset")
    assert breaker.statistics().tracked == 0


# --- how long it refuses ---


def test_how_long_it_refuses_is_known_without_asking_for_a_permit(breaker: CircuitBreaker, clock: Clock) -> None:
    assert breaker.refuses_for_s("t", A) == 0
    for _ in range(5):
        assert breaker.refuses_for_s("t", A) == 0
        permit(breaker).failed("refused")
    assert breaker.refuses_for_s("t", A) == pytest.approx(30)
    assert breaker.refuses_for_s("other", A) == breaker.refuses_for_s("t", "https://b.example") == 0
    clock.now += 12.5
    assert breaker.refuses_for_s("t", A) == pytest.approx(17.5)
    clock.now += 17.5
    assert breaker.refuses_for_s("t", A) == 0
    clock.now += 1000
    assert breaker.refuses_for_s("t", A) == 0
    probe = permit(breaker)
    assert breaker.refuses_for_s("t", A) == 0, "the probe under way may be done in a moment"
    probe.failed("503")
    assert breaker.refuses_for_s("t", A) == pytest.approx(60)
    assert breaker.statistics().refused == 0
    assert breaker.statistics().tracked == 1


# --- what is told ---


def test_openings_and_closings_are_told_and_nothing_else(
    breaker: CircuitBreaker, clock: Clock, changes: list[CircuitStatistics]
) -> None:
    late = [permit(breaker) for _ in range(3)]
    for _ in range(4):
        permit(breaker).failed("503")
    assert changes == []
    permit(breaker).failed("the fifth " + "x" * 1000)
    (change,) = changes
    assert change == CircuitStatistics(
        tenant_id="t",
        origin=A,
        state=State.OPEN,
        failures=5,
        last_reason=("the fifth " + "x" * 1000)[:MAX_REASON_CHARACTERS],
        next_probe_in_ms=30_000,
        times_opened=1,
    )
    late[0].failed("too late")
    late[1].succeeded()
    refusal(breaker)
    clock.now += 30
    permit(breaker).abandoned()
    probe = permit(breaker)
    assert len(changes) == 1, "half-open, and open again as nobody knows"
    probe.failed("the probe")
    assert (changes[1].state, changes[1].next_probe_in_ms, changes[1].times_opened) == (State.OPEN, 60_000, 2)
    assert changes[1].last_reason == "the probe"
    clock.now += 60
    overdue = permit(breaker)
    clock.now += 60
    permit(breaker).succeeded()
    assert (len(changes), changes[2].state, changes[2].next_probe_in_ms) == (3, State.CLOSED, 0)
    overdue.failed("too late")
    late[2].failed("too late")
    permit(breaker).succeeded()
    permit(breaker).failed("503")
    assert len(changes) == 3
