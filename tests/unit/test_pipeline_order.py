"""The order of the stages: who refuses first, what a refused or cancelled request has taken, what a retry holds."""

from __future__ import annotations

import pytest
import trio
from pipeline_requests import (
    NO_RETRIES,
    ORIGIN,
    Head,
    Requests,
    Upstream,
    failing,
    hourly,
    silent,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import Admission, Settings
from vastar_runtime.config.policy import CircuitBreakerPolicy, ConcurrencyPolicy, Rate, RateLimitPolicy
from vastar_runtime.errors import Failure
from vastar_runtime.policies.circuit import State

ONE_AT_A_TIME = ConcurrencyPolicy(max_per_tenant=1)
REFUSED = failing(Failure.UNSENT, "refused")


async def test_a_request_that_the_circuit_refuses_takes_no_token_of_the_rate_limit(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(
        nursery,
        retry=NO_RETRIES,
        rate_limit=hourly(10),
        circuit_breaker=CircuitBreakerPolicy(consecutive_failures=2, open_ms=30_000),
    )
    upstream = Upstream(503, 503, 200)
    assert [(await requests.send(upstream)).status for _ in range(2)] == [503, 503]
    for _ in range(20):
        refused = await requests.send(upstream)
        assert refused.failure.error_class is ErrorClass.TRANSIENT
        assert refused.failure.message.startswith(f"circuit open for {ORIGIN}, next probe in ")
        assert refused.attempts == 0
    assert upstream.attempts == 2
    await trio.sleep(30)
    assert await requests.tokens(upstream) == 10 - 2
    assert requests.pipeline.statistics().circuit_breaker.refused == 20
    requests.nothing_is_held()


async def test_a_request_that_the_rate_limit_refuses_does_not_become_the_probe(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(
        nursery,
        retry=NO_RETRIES,
        rate_limit=RateLimitPolicy(per_tenant_and_origin=Rate(1, 60)),
        circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1, open_ms=1000),
    )
    upstream = Upstream(503, 200)
    assert (await requests.send(upstream)).status == 503
    await trio.sleep(2)
    for _ in range(3):
        refused = await requests.send(upstream)
        assert refused.failure.error_class is ErrorClass.RATE_LIMITED
        assert 57_000 < refused.failure.retry_after_ms <= 58_000
        assert requests.circuit() is State.OPEN
    await trio.sleep(58)
    assert (await requests.send(upstream)).status == 200
    assert (requests.circuit(), upstream.attempts) == (State.CLOSED, 2)


async def test_where_limit_and_circuit_both_refuse_the_client_learns_of_the_limit(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(
        nursery,
        retry=NO_RETRIES,
        rate_limit=hourly(1),
        circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1),
    )
    upstream = Upstream(503)
    await requests.send(upstream)
    refused = await requests.send(upstream)
    assert (refused.failure.error_class, refused.attempts) == (ErrorClass.RATE_LIMITED, 0)
    assert requests.pipeline.statistics().circuit_breaker.refused == 0


async def test_a_request_cancelled_in_the_queue_frees_its_place_there_and_has_taken_no_token(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    limit = ConcurrencyPolicy(max_per_tenant=1, max_queued_per_tenant=1)
    requests = Requests(nursery, retry=NO_RETRIES, rate_limit=hourly(3), concurrency=limit)
    slow, quick = Upstream(200, takes_s=10), Upstream(200)
    first = await requests.start(slow)
    second = await requests.start(quick)
    refused = await requests.start(quick)
    assert refused.failure.error_class is ErrorClass.RATE_LIMITED
    assert "max_queued_per_tenant" in refused.failure.message
    second.cancel()
    await wait_all_tasks_blocked()
    third = await requests.start(quick)
    await trio.sleep(10)
    await wait_all_tasks_blocked()
    assert (first.status, second.is_cancelled, third.status) == (200, True, 200)
    assert (slow.attempts, quick.attempts, second.attempts) == (1, 1, 0)
    assert await requests.tokens(quick) == 1
    requests.nothing_is_held()


async def test_a_request_whose_time_passes_in_the_queue_says_so_and_counts_for_no_circuit(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(
        nursery,
        retry=NO_RETRIES,
        rate_limit=hourly(5),
        concurrency=ONE_AT_A_TIME,
        circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1),
    )
    first = await requests.start(Upstream(200, takes_s=10))
    late = await requests.send(Upstream(200), timeout_ms=1000)
    assert (late.failure.error_class, late.attempts) == (ErrorClass.TIMEOUT, 0)
    assert late.failure.message == (
        "HTTP request timed out: 1000 ms passed (timeout_ms) while waiting for its turn "
        "(concurrency.max_per_tenant, admission.max_concurrent)"
    )
    assert requests.circuit() is State.CLOSED
    await trio.sleep(10)
    assert first.status == 200
    assert await requests.tokens(Upstream(200)) == 4
    requests.nothing_is_held()


async def test_a_request_that_cannot_get_its_place_in_time_is_refused_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, Settings(admission=Admission(max_concurrent=1)))
    upstream = Upstream(200, takes_s=10)
    for _ in range(16):  # from then on it is known how long one takes
        await requests.send(upstream)
    running = await requests.start(upstream)
    hopeless = await requests.start(upstream, timeout_ms=9000)
    assert hopeless.failure.error_class is ErrorClass.RATE_LIMITED
    assert "the request has 9000 ms left" in hopeless.failure.message
    assert hopeless.failure.retry_after_ms == 10_000
    hopeful = await requests.start(upstream, timeout_ms=30_000)
    await trio.sleep(21)
    assert (running.status, hopeful.status) == (200, 200)


async def test_each_retry_takes_a_token_too(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    requests = Requests(nursery, rate_limit=hourly(10))
    sent = await requests.send(Upstream(503, 503, 200))
    assert (sent.status, sent.attempts) == (200, 3)
    assert await requests.tokens(Upstream(200)) == 10 - 3


@pytest.mark.parametrize("what", ["answer", "error"])
async def test_a_retry_that_the_rate_limit_refuses_leaves_what_came_before_it(
    nursery: trio.Nursery, autojump_clock: MockClock, what: str
) -> None:
    requests = Requests(nursery, rate_limit=hourly(2))
    second = Head(503, body="the second") if what == "answer" else failing(Failure.UNSENT, "the second")
    upstream = Upstream(503, second, 200)
    sent = await requests.send(upstream)
    if what == "answer":
        assert sent.head == second
    else:
        assert sent.error is second
    assert (sent.attempts, upstream.attempts) == (2, 2)
    assert (await requests.send(upstream)).failure.error_class is ErrorClass.RATE_LIMITED
    assert requests.pipeline.statistics().rate_limit.admitted == 2
    requests.nothing_is_held()


async def test_a_retry_that_finds_the_circuit_open_leaves_what_came_before_it_and_gives_its_token_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(
        nursery, rate_limit=hourly(5), circuit_breaker=CircuitBreakerPolicy(consecutive_failures=2, open_ms=1000)
    )
    upstream = Upstream(503, Head(503, body="the second"), 200)
    sent = await requests.send(upstream)
    assert (sent.head, sent.attempts) == (Head(503, body="the second"), 2)
    await trio.sleep(1)
    assert await requests.tokens(upstream) == 5 - 2
    requests.nothing_is_held()


async def test_a_request_that_waits_to_try_again_holds_its_place_until_it_is_cancelled(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, rate_limit=hourly(5), concurrency=ONE_AT_A_TIME)
    upstream = Upstream(Head(503, ((b"retry-after", b"9"),)), 200)
    waiting = await requests.start(upstream)
    following = await requests.start(upstream)
    await trio.sleep(8)
    found = requests.pipeline.statistics()
    assert (found.admission.running, found.admission.waiting) == (1, 1)
    assert (found.retry.active, found.retry.retrying) == (1, 1)
    waiting.cancel()
    await wait_all_tasks_blocked()
    assert (waiting.is_cancelled, waiting.attempts, following.status) == (True, 1, 200)
    requests.nothing_is_held()
    assert await requests.tokens(Upstream(200)) == 5 - 2


async def test_a_pause_that_would_last_past_the_deadline_is_not_begun(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery)
    first = Head(503, ((b"retry-after", b"9"),), "the first")
    sent = await requests.send(Upstream(first, 200), timeout_ms=8999)
    assert (sent.head, sent.attempts) == (first, 1)
    assert sent.ended_at_s < 1
    in_time = await requests.send(Upstream(first, 200), timeout_ms=9001)
    assert (in_time.status, in_time.attempts) == (200, 2)


async def test_the_time_limit_of_the_request_holds_for_all_attempts_together(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery)
    began_at_s = trio.current_time()
    upstream = Upstream(Head(503, ((b"retry-after", b"3"),)), silent)
    sent = await requests.send(upstream, timeout_ms=5000)
    assert (sent.failure.error_class, sent.attempts) == (ErrorClass.TIMEOUT, 2)
    assert "5000 ms passed (timeout_ms)" in sent.failure.message
    assert sent.ended_at_s - began_at_s == pytest.approx(5)
    requests.nothing_is_held()


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
async def test_a_request_that_never_got_a_slot_gives_its_token_back_and_its_circuit_counts_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock, how: str
) -> None:
    requests = Requests(
        nursery,
        retry=NO_RETRIES,
        rate_limit=hourly(6),
        circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1),
    )
    upstream = Upstream(200, takes_s=10, slots=1)
    first = await requests.start(upstream)
    others = [await requests.start(upstream, timeout_ms=1000 if how == "out of time" else None) for _ in range(5)]
    assert (await requests.start(upstream)).failure.error_class is ErrorClass.RATE_LIMITED  # they hold one each
    if how == "cancelled":
        for other in others:
            other.cancel()
    await trio.sleep(10)
    await wait_all_tasks_blocked()
    assert (first.status, upstream.attempts) == (200, 1)
    for other in others:
        assert other.attempts == 0
        assert other.is_cancelled if how == "cancelled" else other.failure.error_class is ErrorClass.TIMEOUT
    assert requests.circuit() is State.CLOSED
    assert await requests.tokens(Upstream(200)) == 5
    requests.nothing_is_held()


async def test_a_probe_that_never_got_a_slot_leaves_the_next_request_to_probe(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(
        nursery, retry=NO_RETRIES, circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1, open_ms=1000)
    )
    upstream = Upstream(silent, 503, 200, slots=2)
    blocking = await requests.start(upstream)
    await requests.send(upstream)
    assert requests.circuit() is State.OPEN
    other = Upstream(silent, origin=ORIGIN, slots=1)
    other.slots = trio.Semaphore(0)
    await trio.sleep(1)
    probe = await requests.start(other)
    assert requests.circuit() is State.HALF_OPEN
    probe.cancel()
    await wait_all_tasks_blocked()
    assert requests.circuit() is State.OPEN
    assert (await requests.send(upstream)).status == 200
    blocking.cancel()
    await wait_all_tasks_blocked()
    requests.nothing_is_held()


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
async def test_a_retry_that_ends_before_it_is_sent_gives_back_what_it_had_taken(
    nursery: trio.Nursery, autojump_clock: MockClock, how: str
) -> None:
    """It has its token, it is the probe, and the last answer's body is still being let go of."""
    requests = Requests(
        nursery, rate_limit=hourly(5), circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1, open_ms=500)
    )
    upstream = Upstream(Head(503, ((b"retry-after", b"1"),)), 200, discard_s=1)
    sent = await requests.start(upstream, timeout_ms=1500)
    await trio.sleep(1.25)
    assert requests.circuit() is State.HALF_OPEN
    if how == "cancelled":
        sent.cancel()
    await trio.sleep(1)
    assert sent.is_cancelled if how == "cancelled" else sent.failure.error_class is ErrorClass.TIMEOUT
    assert (sent.attempts, upstream.attempts) == (1, 1)
    requests.nothing_is_held()
    assert requests.pipeline.statistics().circuit_breaker.opened == 1
    assert await requests.tokens(Upstream(200)) == 5 - 1
