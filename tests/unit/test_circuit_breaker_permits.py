"""What a permit may be told and when it is too late, policies that change, and clocks that jump."""

import pytest
from clocks import Clock

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import CircuitBreakerPolicy
from vastar_runtime.errors import RequestError
from vastar_runtime.policies.circuit import State
from vastar_runtime.policies.circuit_breaker import CircuitBreaker, CircuitStatistics, Permit

A, B = "https://a.example", "https://b.example"
DEFAULT = CircuitBreakerPolicy()
OFF = CircuitBreakerPolicy(enabled=False)


def fail(breaker: CircuitBreaker, times: int = 5, policy: CircuitBreakerPolicy = DEFAULT) -> None:
    for _ in range(times):
        breaker.permit(policy, "t", A).failed("connection refused")


def refusal(breaker: CircuitBreaker, policy: CircuitBreakerPolicy = DEFAULT) -> RequestError:
    with pytest.raises(RequestError) as caught:
        breaker.permit(policy, "t", A)
    assert caught.value.error_class is ErrorClass.TRANSIENT
    return caught.value


def circuit(breaker: CircuitBreaker) -> CircuitStatistics:
    (only,) = breaker.statistics().circuits
    return only


# --- permits ---


@pytest.mark.parametrize("told", ["succeeded", "failed", "abandoned"])
def test_what_is_told_twice_counts_once(breaker: CircuitBreaker, clock: Clock, told: str) -> None:
    def tell(permit: Permit) -> None:
        permit.failed("503") if told == "failed" else getattr(permit, told)()

    permit = breaker.permit(DEFAULT, "t", B)
    for _ in range(5):
        tell(permit)
        permit.abandoned()  # as a finally does
    assert breaker.statistics().opened == 0
    fail(breaker)
    clock.now += 30
    probe = breaker.permit(DEFAULT, "t", A)
    for _ in range(5):
        tell(probe)
        probe.abandoned()
    assert breaker.statistics().opened == (2 if told == "failed" else 1)


def test_what_contradicts_the_first_is_a_mistake_of_the_caller(breaker: CircuitBreaker) -> None:
    permit = breaker.permit(DEFAULT, "t", A)
    permit.failed("503")
    with pytest.raises(RuntimeError, match="told failed is told succeeded"):
        permit.succeeded()
    permit = breaker.permit(DEFAULT, "t", A)
    permit.abandoned()
    with pytest.raises(RuntimeError, match="told abandoned is told failed"):
        permit.failed("503")
    fail(breaker, 3)
    breaker.permit(DEFAULT, "t", A)  # one failure was counted, no more
    fail(breaker, 1)
    refusal(breaker)


def test_late_results_of_requests_sent_before_it_opened_change_nothing(breaker: CircuitBreaker, clock: Clock) -> None:
    late = [breaker.permit(DEFAULT, "t", A) for _ in range(40)]
    fail(breaker)
    for permit in late[:10]:
        permit.succeeded()
    for permit in late[10:20]:
        permit.failed("too late")
    assert refusal(breaker).retry_after_ms == 30_000
    assert circuit(breaker).failures == 5
    assert circuit(breaker).last_reason == "connection refused"
    clock.now += 30
    probe = breaker.permit(DEFAULT, "t", A)
    late[20].succeeded()
    late[21].failed("too late")
    late[22].abandoned()
    assert circuit(breaker).state is State.HALF_OPEN
    probe.succeeded()
    for permit in late[23:30]:
        permit.failed("too late")
    breaker.permit(DEFAULT, "t", A).succeeded()
    for permit in late[30:]:
        permit.failed("too late")
    fail(breaker, 4)
    breaker.permit(DEFAULT, "t", A).succeeded()
    assert breaker.statistics().opened == 1


def test_a_late_success_does_not_wipe_out_new_failures(breaker: CircuitBreaker, clock: Clock) -> None:
    late = breaker.permit(DEFAULT, "t", A)
    fail(breaker)
    clock.now += 30
    breaker.permit(DEFAULT, "t", A).succeeded()
    fail(breaker, 4)
    late.succeeded()
    fail(breaker, 1)
    refusal(breaker)


# --- policies that change ---


def test_where_breakers_are_off_nothing_is_kept(breaker: CircuitBreaker) -> None:
    permits = {id(breaker.permit(OFF, "t", A)) for _ in range(10)}
    assert len(permits) == 1, "one for all"
    fail(breaker, 100, policy=OFF)
    permit = breaker.permit(OFF, "t", A)
    permit.succeeded()
    permit.failed("503")
    permit.abandoned()
    statistics = breaker.statistics()
    assert (statistics.tracked, statistics.opened, statistics.circuits) == (0, 0, ())


def test_turning_breakers_off_admits_at_once_and_forgets_what_was_open(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 30
    probe = breaker.permit(DEFAULT, "t", A)
    breaker.permit(OFF, "t", A)
    breaker.permit(OFF, "t", A)
    assert breaker.statistics().circuits == ()
    probe.failed("503")  # an ordinary failure now
    fail(breaker, 3)
    breaker.permit(DEFAULT, "t", A).abandoned()
    fail(breaker, 1)
    assert refusal(breaker).retry_after_ms == 30_000


def test_a_changed_policy_applies_from_the_next_event_on(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    fail(breaker, 1, policy=CircuitBreakerPolicy(consecutive_failures=4, open_ms=5_000))
    assert refusal(breaker).retry_after_ms == 5_000
    clock.now += 5
    patient = CircuitBreakerPolicy(open_ms=60_000, max_open_ms=8_000)
    breaker.permit(patient, "t", A).failed("503")
    assert refusal(breaker).retry_after_ms == 8_000
    impatient = CircuitBreakerPolicy(max_open_ms=2_000)
    assert refusal(breaker, policy=impatient).retry_after_ms == 2_000
    clock.now += 2
    breaker.permit(impatient, "t", A).succeeded()


def test_a_clock_that_goes_back_never_keeps_it_open_for_longer(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 10
    for back_s in (20, 10_000, 1e9):
        clock.now -= back_s
        assert circuit(breaker).next_probe_in_ms == 30_000
        assert refusal(breaker).retry_after_ms == 30_000
    clock.now += 30
    probe = breaker.permit(DEFAULT, "t", A)
    clock.now -= 1e9
    probe.abandoned()
    breaker.permit(DEFAULT, "t", A).succeeded()


def test_a_clock_that_jumps_ahead_sends_one_probe(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 1e12
    breaker.permit(DEFAULT, "t", A)
    refusal(breaker)


@pytest.mark.parametrize("ms", [1, 10**12])
def test_the_shortest_and_the_longest_times_work(breaker: CircuitBreaker, clock: Clock, ms: int) -> None:
    policy = CircuitBreakerPolicy(consecutive_failures=1, open_ms=ms, max_open_ms=ms, window_ms=ms)
    fail(breaker, 1, policy=policy)
    error = refusal(breaker, policy=policy)
    assert f"next probe in {ms} ms" in error.message
    clock.now += ms / 1000
    breaker.permit(policy, "t", A)
    assert refusal(breaker, policy=policy).retry_after_ms == min(ms, 1000)
