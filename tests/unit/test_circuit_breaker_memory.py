"""What circuits cost: nothing where nothing fails, and never more than the table."""

from clocks import Clock

from vastar_runtime.config.policy import CircuitBreakerPolicy
from vastar_runtime.errors import RequestError
from vastar_runtime.policies.bounded import MAX_KEYS
from vastar_runtime.policies.circuit_breaker import CircuitBreaker

A = "https://a.example"
DEFAULT = CircuitBreakerPolicy()
RATE = CircuitBreakerPolicy(consecutive_failures=None, failure_rate=0.5)


def fail(breaker: CircuitBreaker, tenant: str, times: int = 5) -> None:
    for _ in range(times):
        breaker.permit(DEFAULT, tenant, A).failed("503")


def is_refused(breaker: CircuitBreaker, tenant: str) -> bool:
    try:
        breaker.permit(DEFAULT, tenant, A).abandoned()
    except RequestError:
        return True
    return False


def test_where_nothing_fails_nothing_is_kept(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    for number in range(1000):
        breaker.permit(DEFAULT, str(number), A).succeeded()
        breaker.permit(DEFAULT, str(number), A).abandoned()
    assert breaker.statistics().tracked == 0


def test_a_success_after_failures_leaves_nothing(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    fail(breaker, "t", 4)
    assert breaker.statistics().tracked == 1
    breaker.permit(DEFAULT, "t", A).succeeded()
    assert breaker.statistics().tracked == 0


def test_open_circuits_are_not_forgotten_for_the_sake_of_others(clock: Clock) -> None:
    breaker = CircuitBreaker(clock, max_keys=4)
    for number in range(4):
        fail(breaker, f"open {number}")
    for number in range(1000):
        fail(breaker, f"other {number}", 10)
    statistics = breaker.statistics()
    assert (statistics.tracked, statistics.not_closed, statistics.opened) == (4, 4, 4)
    assert statistics.untracked == 10_000
    assert all(is_refused(breaker, f"open {number}") for number in range(4))
    assert not is_refused(breaker, "other 7"), "not tracked, so never refused"


def test_an_open_circuit_is_kept_for_as_long_again_as_it_was_open(clock: Clock) -> None:
    breaker = CircuitBreaker(clock, max_keys=1)
    fail(breaker, "open")
    clock.now += 59.999
    fail(breaker, "other")
    assert breaker.statistics().circuits[0].tenant_id == "open"
    clock.now += 0.001
    fail(breaker, "other")
    assert breaker.statistics().circuits[0].tenant_id == "other"


def test_a_circuit_whose_probe_is_under_way_is_never_forgotten(clock: Clock) -> None:
    breaker = CircuitBreaker(clock, max_keys=1)
    fail(breaker, "open")
    clock.now += 30
    probe = breaker.permit(DEFAULT, "open", A)
    clock.now += 1e9
    fail(breaker, "other")
    assert breaker.statistics().untracked == 5
    probe.failed("503")
    assert breaker.statistics().circuits[0].next_probe_in_ms == 60_000


def test_failures_of_a_closed_circuit_are_kept_while_they_say_something(clock: Clock) -> None:
    breaker = CircuitBreaker(clock, max_keys=1)
    fail(breaker, "t", 4)
    clock.now += 29.999
    fail(breaker, "other", 1)
    fail(breaker, "t", 1)
    assert is_refused(breaker, "t")

    breaker = CircuitBreaker(clock, max_keys=1)
    fail(breaker, "t", 4)
    clock.now += 30
    fail(breaker, "other", 1)
    fail(breaker, "t", 1)
    assert not is_refused(breaker, "t")


def test_with_room_old_failures_are_kept(clock: Clock) -> None:
    breaker = CircuitBreaker(clock, max_keys=2)
    fail(breaker, "t", 4)
    clock.now += 3600
    fail(breaker, "other", 1)
    fail(breaker, "t", 1)
    assert is_refused(breaker, "t")


def test_the_circuit_that_was_used_least_recently_makes_room(clock: Clock) -> None:
    breaker = CircuitBreaker(clock, max_keys=2)
    fail(breaker, "a", 4)
    fail(breaker, "b", 4)
    breaker.permit(DEFAULT, "a", A).abandoned()
    clock.now += 3600
    fail(breaker, "c", 1)
    fail(breaker, "a", 1)
    assert is_refused(breaker, "a")


def test_a_circuit_that_closed_again_makes_room_once_late_results_are_unlikely(clock: Clock) -> None:
    breaker = CircuitBreaker(clock, max_keys=1)
    fail(breaker, "t")
    clock.now += 30
    breaker.permit(DEFAULT, "t", A).succeeded()
    fail(breaker, "other")
    assert breaker.statistics().untracked == 5
    clock.now += 30
    breaker.permit(DEFAULT, "t", A).succeeded()
    fail(breaker, "other")
    assert is_refused(breaker, "other")


def test_counting_rates_of_any_number_of_tenants_stays_within_the_table(clock: Clock) -> None:
    breaker = CircuitBreaker(clock, max_keys=100)
    for number in range(20_000):
        clock.now += 1
        breaker.permit(RATE, str(number), A).succeeded()
    statistics = breaker.statistics()
    assert (statistics.tracked, statistics.untracked) == (100, 0)


def test_the_default_table_holds_as_many_as_it_says(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    for number in range(MAX_KEYS + 10):
        fail(breaker, str(number), 1)
    statistics = breaker.statistics()
    assert (statistics.tracked, statistics.untracked) == (MAX_KEYS, 10)
