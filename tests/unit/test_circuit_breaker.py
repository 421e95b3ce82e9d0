"""When an origin is left alone, and when it is tried again, on a clock that the tests move."""

from collections.abc import Callable

import pytest
from clocks import Clock

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import CircuitBreakerPolicy
from vastar_runtime.errors import RequestError
from vastar_runtime.policies.circuit import TRANSITIONS, Circuit, Event, State
from vastar_runtime.policies.circuit_breaker import (
    MAX_LISTED,
    MAX_REASON_CHARACTERS,
    CircuitBreaker,
    CircuitStatistics,
)

A, B = "https://a.example", "https://b.example"
DEFAULT = CircuitBreakerPolicy()


def fail(breaker: CircuitBreaker, times: int = 5, tenant: str = "t", origin: str = A) -> None:
    for _ in range(times):
        breaker.permit(DEFAULT, tenant, origin).failed("connection refused")


def refusal(breaker: CircuitBreaker, tenant: str = "t", origin: str = A) -> RequestError:
    with pytest.raises(RequestError) as caught:
        breaker.permit(DEFAULT, tenant, origin)
    assert caught.value.error_class is ErrorClass.TRANSIENT
    return caught.value


def circuit(breaker: CircuitBreaker) -> CircuitStatistics:
    (only,) = breaker.statistics().circuits
    return only


# --- the table of transitions ---

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
TOLD: dict[Event, Callable[[Circuit], None]] = {
    Event.TRIPPED: lambda circuit: circuit.failure(CircuitBreakerPolicy(consecutive_failures=1), 0, 1),
    Event.PROBE_SENT: lambda circuit: circuit.probe_sent(object(), 0),
    Event.PROBE_SUCCEEDED: lambda circuit: circuit.probe_succeeded(DEFAULT, 0),
    Event.PROBE_FAILED: lambda circuit: circuit.probe_failed(DEFAULT, 0, 1),
    Event.PROBE_ABANDONED: lambda circuit: circuit.probe_abandoned(0),
}
WAY_TO: dict[State, list[Event]] = {CLOSED: [], OPEN: [Event.TRIPPED], HALF_OPEN: [Event.TRIPPED, Event.PROBE_SENT]}


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("state", list(State))
def test_every_event_in_every_state_leads_where_the_table_says_or_cannot_happen(state: State, event: Event) -> None:
    circuit = Circuit()
    for step in WAY_TO[state]:
        TOLD[step](circuit)
    assert circuit.state is state
    leads_to = {
        (CLOSED, Event.TRIPPED): OPEN,
        (OPEN, Event.PROBE_SENT): HALF_OPEN,
        (HALF_OPEN, Event.PROBE_SENT): HALF_OPEN,
        (HALF_OPEN, Event.PROBE_SUCCEEDED): CLOSED,
        (HALF_OPEN, Event.PROBE_FAILED): OPEN,
        (HALF_OPEN, Event.PROBE_ABANDONED): OPEN,
    }
    assert leads_to == TRANSITIONS
    if (state, event) in leads_to:
        TOLD[event](circuit)
        assert circuit.state is leads_to[state, event]
        assert (circuit.probe is not None) == (circuit.state is HALF_OPEN)
    else:
        with pytest.raises(KeyError):
            TOLD[event](circuit)
        assert circuit.state is state


# --- opening ---


def test_five_failures_in_a_row_open_it_for_thirty_seconds(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 4)
    breaker.permit(DEFAULT, "t", A).failed("connection refused")
    error = refusal(breaker)
    assert error.message == (
        "circuit open for https://a.example, next probe in 30000 ms; last failure: connection refused"
    )
    assert error.retry_after_ms == 30_000
    clock.now += 29.9996
    assert refusal(breaker).retry_after_ms == 1, "rounded up"
    clock.now += 0.0004
    assert breaker.permit(DEFAULT, "t", A)


def test_a_success_in_between_begins_the_count_again(breaker: CircuitBreaker) -> None:
    for _ in range(10):
        fail(breaker, 4)
        breaker.permit(DEFAULT, "t", A).succeeded()
    fail(breaker, 5)
    refusal(breaker)


def test_what_is_abandoned_counts_as_neither(breaker: CircuitBreaker) -> None:
    fail(breaker, 4)
    for _ in range(100):
        breaker.permit(DEFAULT, "t", A).abandoned()
    fail(breaker, 1)
    refusal(breaker)


def test_each_tenant_and_each_origin_has_a_circuit_of_its_own(breaker: CircuitBreaker) -> None:
    fail(breaker, 5, "t", A)
    fail(breaker, 4, "u", A)
    fail(breaker, 4, "t", B)
    refusal(breaker, "t", A)
    breaker.permit(DEFAULT, "u", A).succeeded()
    breaker.permit(DEFAULT, "t", B).succeeded()
    refusal(breaker, "t", A)


# --- probing ---


def test_one_probe_at_a_time_is_sent(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 30
    probe = breaker.permit(DEFAULT, "t", A)
    for _ in range(3):
        error = refusal(breaker)
        assert error.message == (
            "circuit open for https://a.example, next probe in 1000 ms unless the one under way succeeds; "
            "last failure: connection refused"
        )
        assert error.retry_after_ms == 1000
    assert circuit(breaker).state is State.HALF_OPEN
    clock.now += 29
    refusal(breaker)
    probe.succeeded()
    assert [breaker.permit(DEFAULT, "t", A) for _ in range(3)]


def test_a_probe_that_succeeds_closes_it_and_all_is_forgotten(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(3):
        fail(breaker)
        clock.now += 30
        breaker.permit(DEFAULT, "t", A).succeeded()
        assert breaker.statistics().circuits == ()
    fail(breaker, 4)
    breaker.permit(DEFAULT, "t", A).succeeded()
    fail(breaker, 5)
    assert refusal(breaker).retry_after_ms == 30_000, "not doubled"


def test_each_failed_probe_doubles_the_time_up_to_three_hundred_seconds(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    for seconds in (30, 60, 120, 240, 300, 300, 300):
        assert refusal(breaker).retry_after_ms == seconds * 1000
        clock.now += seconds - 0.001
        assert refusal(breaker).retry_after_ms == 1
        clock.now += 0.001
        breaker.permit(DEFAULT, "t", A).failed("503")
    assert circuit(breaker).times_opened == 8
    assert circuit(breaker).failures == 12


def test_an_abandoned_probe_makes_way_for_the_next_request(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 30
    for _ in range(5):
        probe = breaker.permit(DEFAULT, "t", A)
        refusal(breaker)
        probe.abandoned()
    breaker.permit(DEFAULT, "t", A).failed("503")
    assert refusal(breaker).retry_after_ms == 60_000, "doubled once"


# --- the snapshot ---


def test_statistics_show_the_circuits_that_are_not_closed(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 1, "quiet", B)
    fail(breaker, 5, "t", A)
    clock.now += 12.5
    refusal(breaker)
    refusal(breaker)
    snapshot = breaker.statistics()
    shown = CircuitStatistics(
        tenant_id="t",
        origin=A,
        state=State.OPEN,
        failures=5,
        last_reason="connection refused",
        next_probe_in_ms=17_500,
        times_opened=1,
    )
    assert (snapshot.opened, snapshot.refused, snapshot.tracked, snapshot.not_closed) == (1, 2, 2, 1)
    assert snapshot.circuits == (shown,)
    clock.now += 60
    assert circuit(breaker).next_probe_in_ms == 0
    breaker.permit(DEFAULT, "t", A).failed("HTTP 503")
    later = circuit(breaker)
    assert (later.times_opened, later.last_reason, later.next_probe_in_ms) == (2, "HTTP 503", 60_000)
    assert snapshot.circuits == (shown,), "a snapshot stays as it was"


def test_statistics_cut_what_is_long_and_count_all(breaker: CircuitBreaker) -> None:
    for number in range(MAX_LISTED + 20):
        for _ in range(5):
            breaker.permit(DEFAULT, str(number), A).failed("x" * 1_000_000)
    statistics = breaker.statistics()
    assert statistics.not_closed == MAX_LISTED + 20
    assert [shown.tenant_id for shown in statistics.circuits] == [str(n) for n in range(MAX_LISTED + 19, 19, -1)]
    assert {len(shown.last_reason) for shown in statistics.circuits} == {MAX_REASON_CHARACTERS}
