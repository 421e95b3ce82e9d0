"""Circuits that open by the share of failures in a sliding window."""

from collections import deque

import pytest
from clocks import Clock
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.config.policy import CircuitBreakerPolicy
from vastar_runtime.errors import RequestError
from vastar_runtime.policies.circuit_breaker import CircuitBreaker
from vastar_runtime.policies.failure_window import PARTS, FailureWindow

A = "https://a.example"
HALF = CircuitBreakerPolicy(consecutive_failures=None, failure_rate=0.5, window_ms=10_000, minimum_requests=20)


def send(breaker: CircuitBreaker, results: str, policy: CircuitBreakerPolicy = HALF) -> None:
    """A request for each letter: F fails, S succeeds."""
    for result in results:
        permit = breaker.permit(policy, "t", A)
        permit.failed("503") if result == "F" else permit.succeeded()


def is_open(breaker: CircuitBreaker) -> bool:
    return breaker.statistics().not_closed == 1


def test_half_of_twenty_requests_open_it(breaker: CircuitBreaker) -> None:
    send(breaker, "SF" * 9 + "S")
    assert not is_open(breaker)
    send(breaker, "F")
    assert is_open(breaker)


def test_fewer_requests_than_the_minimum_say_nothing(breaker: CircuitBreaker) -> None:
    send(breaker, "F" * 19)
    assert not is_open(breaker)
    send(breaker, "F")
    assert is_open(breaker)


def test_a_smaller_share_does_not_open_it(breaker: CircuitBreaker) -> None:
    send(breaker, "SSF" * 500)
    assert not is_open(breaker)


def test_only_a_failure_opens_it(breaker: CircuitBreaker) -> None:
    send(breaker, "F" * 19 + "S")
    assert not is_open(breaker), "the twentieth request says that the upstream works"
    send(breaker, "F")
    assert is_open(breaker)


def test_a_share_of_one_opens_it_when_all_fail(breaker: CircuitBreaker) -> None:
    policy = CircuitBreakerPolicy(consecutive_failures=None, failure_rate=1.0, minimum_requests=1)
    send(breaker, "F", policy)
    assert is_open(breaker)


def test_what_the_window_has_left_behind_does_not_count(breaker: CircuitBreaker, clock: Clock) -> None:
    send(breaker, "F" * 19)
    clock.now += 10
    send(breaker, "F" * 19)
    assert not is_open(breaker)
    clock.now += 5
    send(breaker, "F")
    assert is_open(breaker)


def test_old_successes_leave_the_window_too(breaker: CircuitBreaker, clock: Clock) -> None:
    send(breaker, "S" * 1000)
    clock.now += 10
    send(breaker, "F" * 20)
    assert is_open(breaker)


def test_what_is_abandoned_is_not_in_the_window(breaker: CircuitBreaker) -> None:
    send(breaker, "F" * 19)
    for _ in range(50):
        breaker.permit(HALF, "t", A).abandoned()
    assert not is_open(breaker)


def test_in_a_row_or_by_share_whichever_comes_first(breaker: CircuitBreaker, clock: Clock) -> None:
    both = CircuitBreakerPolicy(consecutive_failures=5, failure_rate=0.5, minimum_requests=20)
    send(breaker, "F" * 5, both)
    assert is_open(breaker)
    clock.now += 30
    send(breaker, "S" + "SF" * 9 + "S", both)
    assert not is_open(breaker)
    send(breaker, "F", both)
    assert is_open(breaker)


def test_a_probe_that_succeeds_empties_the_window(breaker: CircuitBreaker, clock: Clock) -> None:
    policy = CircuitBreakerPolicy(consecutive_failures=None, failure_rate=0.5, window_ms=10**9, minimum_requests=20)
    send(breaker, "F" * 20, policy)
    clock.now += 30
    send(breaker, "S" + "F" * 19, policy)
    assert not is_open(breaker)
    send(breaker, "F", policy)
    assert is_open(breaker)


def test_late_results_are_not_in_the_window(breaker: CircuitBreaker, clock: Clock) -> None:
    late = [breaker.permit(HALF, "t", A) for _ in range(100)]
    send(breaker, "F" * 20)
    clock.now += 30
    send(breaker, "S")
    for permit in late:
        permit.failed("too late")
    send(breaker, "F" * 19)
    assert not is_open(breaker)


def test_a_clock_that_goes_back_neither_empties_the_window_nor_keeps_it_full(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    send(breaker, "F" * 19)
    clock.now -= 600
    send(breaker, "F")
    assert is_open(breaker)
    clock.now += 30
    send(breaker, "S" + "F" * 19)
    clock.now -= 300
    send(breaker, "S")
    clock.now += 10
    send(breaker, "F")
    assert not is_open(breaker)


def test_a_window_whose_length_changes_keeps_what_it_holds(breaker: CircuitBreaker, clock: Clock) -> None:
    send(breaker, "F" * 15)
    longer = CircuitBreakerPolicy(consecutive_failures=None, failure_rate=0.5, window_ms=60_000, minimum_requests=20)
    send(breaker, "F" * 4, longer)
    clock.now += 50
    with pytest.raises(RequestError):
        send(breaker, "FF", longer)
    assert is_open(breaker)


@given(
    window_ms=st.integers(1, 100_000),
    counts=st.lists(st.tuples(st.integers(0, 3000), st.booleans()), min_size=1, max_size=100),
)
def test_the_window_holds_nine_tenths_of_its_length_at_least_and_all_of_it_at_most(
    window_ms: int, counts: list[tuple[int, bool]]
) -> None:
    window, part_ns = FailureWindow(), window_ms * 10**6 // PARTS
    now_ns = 0
    seen: deque[tuple[int, bool]] = deque()
    for pause_ms, failed in counts:
        now_ns += pause_ms * 10**6
        window.count(now_ns, window_ms * 10**6, failed=failed)
        seen.append((now_ns, failed))
        within = [failed for at_ns, failed in seen if at_ns > now_ns - part_ns * PARTS]
        surely = [failed for at_ns, failed in seen if at_ns > now_ns - part_ns * (PARTS - 1)]
        assert len(surely) <= window.requests <= len(within)
        assert sum(surely) <= window.failures <= sum(within)
        assert window.failures <= window.requests
