"""What a request waits for and what it does not: pauses that lead nowhere, slots that others could use, time spent in
a queue."""

from __future__ import annotations

import pytest
import trio
from pipeline_requests import NO_RETRIES, ORIGIN, Head, Requests, Step, Upstream, failing, hourly, silent
from trio.testing import MockClock, wait_all_tasks_blocked

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import Admission, Settings
from vastar_runtime.config.policy import (
    CircuitBreakerPolicy,
    ConcurrencyPolicy,
    DeadlinePolicy,
    Policy,
    RetryPolicy,
)
from vastar_runtime.errors import Failure
from vastar_runtime.policies.circuit import State

OTHER = "https://other.test"
SOON, IN_NINE_SECONDS = Head(503, body="soon"), Head(503, ((b"retry-after", b"9"),), "in nine seconds")
REFUSED = failing(Failure.UNSENT, "refused")
AT_FIRST = CircuitBreakerPolicy(consecutive_failures=1)


# --- pauses that lead nowhere ---


@pytest.mark.parametrize("outcome", [SOON, IN_NINE_SECONDS, REFUSED], ids=["backoff", "Retry-After", "error"])
async def test_an_answer_that_opens_the_circuit_is_delivered_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock, outcome: Step
) -> None:
    requests = Requests(nursery, circuit_breaker=AT_FIRST, rate_limit=hourly(5), random=lambda: 0.999)
    upstream = Upstream(outcome, 200)
    began_at_s = trio.current_time()
    sent = await requests.send(upstream)
    assert (sent.head or sent.error, sent.attempts) == (outcome, 1)
    assert sent.ended_at_s == began_at_s
    found = requests.pipeline.statistics()
    assert (found.retry.retried, found.retry.denied, found.rate_limit.admitted) == (0, 0, 1)
    requests.nothing_is_held()


@pytest.mark.parametrize(("open_ms", "attempts"), [(8_900, 2), (9_100, 1)])
async def test_a_pause_that_lasts_longer_than_the_circuit_is_open_is_waited_for(
    nursery: trio.Nursery, autojump_clock: MockClock, open_ms: int, attempts: int
) -> None:
    requests = Requests(nursery, circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1, open_ms=open_ms))
    sent = await requests.send(Upstream(IN_NINE_SECONDS, 200))
    assert (sent.status, sent.attempts) == ((200, 2) if attempts == 2 else (503, 1))


async def test_a_circuit_that_another_request_opens_during_the_pause_leaves_what_came(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, circuit_breaker=CircuitBreakerPolicy(consecutive_failures=2))
    upstream = Upstream(IN_NINE_SECONDS, 503)
    waiting = await requests.start(upstream)
    await trio.sleep(1)
    assert (await requests.send(upstream, may_repeat=False)).status == 503
    assert requests.circuit() is State.OPEN
    await trio.sleep(10)
    assert (waiting.head, waiting.attempts) == (IN_NINE_SECONDS, 1)
    requests.nothing_is_held()


# --- what is held during a pause ---


async def test_while_a_request_waits_after_an_error_others_may_use_its_slot(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, retry=RetryPolicy(first_backoff_ms=5000), random=lambda: 0.999)
    upstream = Upstream(REFUSED, 200, slots=1)
    waiting = await requests.start(upstream)
    following = await requests.start(upstream)
    assert (following.status, waiting.done.is_set()) == (200, False)
    await trio.sleep(5)
    assert (waiting.status, waiting.attempts) == (200, 2)
    requests.nothing_is_held()


async def test_an_answer_is_kept_until_another_attempt_may_really_be_made(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, rate_limit=hourly(2))
    upstream = Upstream(IN_NINE_SECONDS, 200, slots=1)
    waiting = await requests.start(upstream)
    following = await requests.start(upstream)
    await trio.sleep(8)
    assert (waiting.done.is_set(), following.done.is_set()) == (False, False)
    await trio.sleep(2)
    assert (waiting.head, waiting.attempts) == (IN_NINE_SECONDS, 1), "the other one has the last token"
    assert following.status == 200
    requests.nothing_is_held()


@pytest.mark.parametrize("after_s", [0.5, 3], ids=["while it lets go", "during the pause"])
async def test_a_request_cancelled_after_an_error_leaves_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock, after_s: float
) -> None:
    requests = Requests(nursery, retry=RetryPolicy(first_backoff_ms=5000), rate_limit=hourly(5), random=lambda: 0.999)
    upstream = Upstream(REFUSED, 200, slots=1, discard_s=1)
    waiting = await requests.start(upstream)
    await trio.sleep(after_s)
    waiting.cancel()
    await wait_all_tasks_blocked()
    assert (waiting.is_cancelled, waiting.attempts) == (True, 1)
    requests.nothing_is_held()
    assert (await requests.start(upstream)).status == 200
    assert await requests.tokens(Upstream(200)) == 5 - 2


# --- retries of one request ---


async def test_the_number_of_retries_is_for_all_redirects_of_a_request_together(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, retry=RetryPolicy(max_retries=3))
    hops = (
        Upstream(503, 302),
        Upstream(503, 302, origin=OTHER),
        Upstream(503, origin="https://third.test"),
    )
    sent = await requests.send(*hops)
    assert ([hop.attempts for hop in hops], sent.status, sent.attempts) == ([2, 2, 2], 503, 6)
    assert (await requests.send(Upstream(503, origin="https://fourth.test"))).attempts == 4, "each request has its own"
    requests.nothing_is_held()


# --- time that was not spent with the upstream ---


async def test_requests_that_spent_their_time_in_our_queue_do_not_open_the_circuit(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Whoever is let in has less than half of its time left, and the upstream none of the blame."""
    requests = Requests(
        nursery,
        retry=NO_RETRIES,
        concurrency=ConcurrencyPolicy(max_per_tenant=1),
        circuit_breaker=CircuitBreakerPolicy(consecutive_failures=2),
    )
    upstream = Upstream(200, takes_s=2)
    first = await requests.start(upstream, timeout_ms=400)
    queued = [await requests.start(upstream, timeout_ms=700) for _ in range(6)]
    await trio.sleep(1)
    assert first.failure.error_class is ErrorClass.TIMEOUT
    assert [sent.failure.error_class for sent in queued] == [ErrorClass.TIMEOUT] * 6
    assert [sent.attempts for sent in queued].count(1) >= 1, "one of them was sent, with 300 ms left"
    assert requests.circuit() is State.CLOSED
    requests.nothing_is_held()


@pytest.mark.parametrize(("queued_s", "state"), [(0.49, State.OPEN), (0.51, State.CLOSED), (0.0, State.OPEN)])
async def test_the_upstream_is_to_blame_if_it_had_half_of_the_time(
    nursery: trio.Nursery, autojump_clock: MockClock, queued_s: float, state: State
) -> None:
    requests = Requests(
        nursery, retry=NO_RETRIES, circuit_breaker=AT_FIRST, concurrency=ConcurrencyPolicy(max_per_tenant=1)
    )
    first = await requests.start(Upstream(200, takes_s=queued_s, origin=OTHER))
    sent = await requests.send(Upstream(silent), timeout_ms=1000)
    assert first.status == 200
    assert (sent.failure.error_class, sent.attempts) == (ErrorClass.TIMEOUT, 1)
    assert requests.circuit() is state
    requests.nothing_is_held()


@pytest.mark.parametrize(("in_pool_s", "state"), [(0.4, State.OPEN), (0.6, State.CLOSED)])
async def test_waiting_for_a_connection_of_ours_is_no_time_of_the_upstream_s(
    nursery: trio.Nursery, autojump_clock: MockClock, in_pool_s: float, state: State
) -> None:
    requests = Requests(nursery, retry=NO_RETRIES, circuit_breaker=AT_FIRST)
    upstream = Upstream(200, silent, takes_s=in_pool_s, slots=1)
    await requests.start(upstream)
    sent = await requests.send(upstream, timeout_ms=1000)
    assert (sent.failure.error_class, sent.attempts, upstream.attempts) == (ErrorClass.TIMEOUT, 1, 2)
    assert requests.circuit() is state
    requests.nothing_is_held()


async def test_requests_that_wait_on_a_hung_upstream_from_the_start_open_the_circuit(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, retry=NO_RETRIES)
    upstream = Upstream(silent)
    waiting = [await requests.start(upstream, timeout_ms=700) for _ in range(6)]
    await trio.sleep(1)
    assert [sent.failure.error_class for sent in waiting] == [ErrorClass.TIMEOUT] * 6
    assert requests.circuit() is State.OPEN


async def test_the_last_attempt_of_several_is_to_blame_for_its_own_time_alone(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, circuit_breaker=CircuitBreakerPolicy(consecutive_failures=2))
    sent = await requests.send(Upstream(IN_NINE_SECONDS, silent), timeout_ms=10_000)
    assert (sent.failure.error_class, sent.attempts) == (ErrorClass.TIMEOUT, 2)
    assert requests.circuit() is State.CLOSED


@pytest.mark.parametrize(
    "limits", [DeadlinePolicy(idle_timeout_ms=5000), DeadlinePolicy(max_duration_ms=5000)], ids=["idle", "longest"]
)
async def test_limits_of_the_configuration_count_like_the_client_s(
    nursery: trio.Nursery, autojump_clock: MockClock, limits: DeadlinePolicy
) -> None:
    requests = Requests(nursery, retry=NO_RETRIES, circuit_breaker=AT_FIRST, deadline=limits)
    sent = await requests.send(Upstream(silent), timeout_ms=None)
    assert sent.failure.error_class is ErrorClass.TIMEOUT
    assert requests.circuit() is State.OPEN


async def test_an_idle_limit_counts_however_long_the_request_waited_in_the_queue(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """It began to run anew when the request was let in: all of it was the upstream's."""
    requests = Requests(
        nursery,
        retry=NO_RETRIES,
        circuit_breaker=AT_FIRST,
        deadline=DeadlinePolicy(idle_timeout_ms=5000),
        concurrency=ConcurrencyPolicy(max_per_tenant=1),
    )
    first = await requests.start(Upstream(200, takes_s=4, origin=OTHER))
    upstream = Upstream(200, takes_s=6)
    sent = await requests.start(upstream, timeout_ms=None)
    await trio.sleep(10)
    assert first.status == 200
    assert (sent.failure.error_class, sent.attempts) == (ErrorClass.TIMEOUT, 1)
    assert requests.circuit() is State.OPEN


# --- patience in the queue ---


async def test_a_request_without_a_limit_of_its_own_is_refused_at_once_if_it_would_wait_for_longer_than_the_idle_time(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    limits = Policy(deadline=DeadlinePolicy(idle_timeout_ms=15_000))
    requests = Requests(nursery, Settings(admission=Admission(max_concurrent=1), policy=limits))
    upstream = Upstream(200, takes_s=10)
    for _ in range(16):  # from then on it is known how long one takes
        await requests.send(upstream)
    running = await requests.start(upstream)
    hopeful = await requests.start(upstream, timeout_ms=None)  # about 10 s
    hopeless = await requests.start(upstream, timeout_ms=None)  # about 20 s
    patient = await requests.start(upstream, timeout_ms=60_000)
    assert hopeless.failure.error_class is ErrorClass.RATE_LIMITED
    assert hopeless.failure.retry_after_ms == 20_000
    assert [sent.done.is_set() for sent in (hopeful, patient)] == [False, False]
    await trio.sleep(31)
    assert (running.status, hopeful.status, patient.status) == (200, 200, 200)
    requests.nothing_is_held()


# --- an upstream that accepts and resets ---


@pytest.mark.parametrize("failure", [Failure.LOST, Failure.OTHER])
async def test_an_open_circuit_sends_an_upstream_that_accepts_and_resets_one_probe_an_opening(
    nursery: trio.Nursery, autojump_clock: MockClock, failure: Failure
) -> None:
    requests = Requests(nursery)
    upstream = Upstream(*[503] * 5, failing(failure, "reset"))
    for _ in range(5):
        await requests.send(upstream, may_repeat=False)
    assert upstream.attempts == 5
    began_at_s = trio.current_time()
    for _ in range(1000):
        await trio.sleep(1)
        await requests.send(upstream)
    # At 30 s, and after each pause of twice the length, up to five minutes.
    assert [round(at_s - began_at_s) for at_s in upstream.asked_at_s[5:]] == pytest.approx(
        [30, 90, 210, 450, 750], abs=6
    )
    (circuit,) = requests.pipeline.statistics().circuit_breaker.circuits
    assert (circuit.origin, circuit.last_reason) == (ORIGIN, "HTTP request failed: reset")
    requests.nothing_is_held()


async def test_a_probe_that_hangs_is_followed_by_another_one_and_its_late_answer_is_delivered(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def late() -> Head:
        await trio.sleep(45)
        return Head(503, body="late")

    requests = Requests(nursery, retry=NO_RETRIES)
    upstream = Upstream(*[503] * 5, late, 200)
    for _ in range(5):
        await requests.send(upstream)
    await trio.sleep(30)
    probe = await requests.start(upstream)
    await trio.sleep(29)
    assert (await requests.start(upstream)).attempts == 0
    await trio.sleep(2)
    assert (await requests.start(upstream)).status == 200
    assert requests.circuit() is State.CLOSED
    await trio.sleep(20)
    assert (probe.head, requests.circuit()) == (Head(503, body="late"), State.CLOSED)
    requests.nothing_is_held()
