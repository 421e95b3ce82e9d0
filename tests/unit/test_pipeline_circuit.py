"""What opens a tenant's circuit with an origin, what does not, and what an open one does."""

from __future__ import annotations

import pytest
import trio
from pipeline_requests import NO_RETRIES, ORIGIN, Head, Requests, Step, Upstream, failing, silent
from trio.testing import MockClock, wait_all_tasks_blocked

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import CircuitBreakerPolicy
from vastar_runtime.errors import Failure
from vastar_runtime.policies.circuit import State

OPENS: dict[str, tuple[Step, str]] = {
    "connect failure": (failing(Failure.UNSENT, "refused"), "refused"),
    "connect timeout": (failing(Failure.UNSENT, "took longer", ErrorClass.TIMEOUT), "took longer"),
    "rejected certificate": (failing(Failure.UNSENT, "rejected", ErrorClass.PERMANENT), "rejected"),
    "first-byte timeout": (failing(Failure.NO_HEAD_IN_TIME, "no head", ErrorClass.TIMEOUT), "no head"),
    "502": (502, "status 502"),
    "503": (503, "status 503"),
    "504": (504, "status 504"),
    "the request's own time limit": (silent, "no response head within the request's time limit"),
}
DOES_NOT: dict[str, Step] = {
    "lost after it was written": failing(Failure.LOST, "reset"),
    "no HTTP": failing(Failure.OTHER, "garbage"),
    **{str(status): status for status in (200, 204, 302, 400, 401, 404, 408, 429, 499, 500, 501, 505)},
}


@pytest.mark.parametrize(("step", "reason"), OPENS.values(), ids=OPENS.keys())
async def test_five_in_a_row_open_it(nursery: trio.Nursery, autojump_clock: MockClock, step: Step, reason: str) -> None:
    requests = Requests(nursery, retry=NO_RETRIES)
    upstream = Upstream(step)
    for number in range(5):
        assert requests.circuit() is State.CLOSED
        await requests.send(upstream, timeout_ms=1000)
        assert upstream.attempts == number + 1
    assert requests.circuit() is State.OPEN
    refused = await requests.send(upstream, timeout_ms=1000)
    assert refused.failure.error_class is ErrorClass.TRANSIENT
    message = refused.failure.message.replace("HTTP request failed: ", "")
    assert message == (
        f"circuit open for {ORIGIN}, next probe in {refused.failure.retry_after_ms} ms; last failure: {reason}"
    )
    assert 29_990 <= refused.failure.retry_after_ms <= 30_000
    assert (refused.attempts, upstream.attempts) == (0, 5)
    requests.nothing_is_held()


@pytest.mark.parametrize("step", DOES_NOT.values(), ids=DOES_NOT.keys())
async def test_nothing_else_opens_it(nursery: trio.Nursery, autojump_clock: MockClock, step: Step) -> None:
    requests = Requests(nursery, retry=NO_RETRIES, circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1))
    upstream = Upstream(step)
    for _ in range(10):
        await requests.send(upstream, timeout_ms=1000)
    assert upstream.attempts == 10
    assert requests.pipeline.statistics().circuit_breaker.opened == 0
    requests.nothing_is_held()


async def test_a_client_that_cancels_opens_no_circuit(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    requests = Requests(nursery, retry=NO_RETRIES, circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1))
    upstream = Upstream(silent)
    for _ in range(10):
        sent = await requests.start(upstream)
        await trio.sleep(100)
        sent.cancel()
        await wait_all_tasks_blocked()
        assert sent.is_cancelled
    assert upstream.attempts == 10
    assert requests.circuit() is State.CLOSED
    requests.nothing_is_held()


async def test_the_idle_time_of_a_request_without_a_limit_counts_too(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, retry=NO_RETRIES, circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1))
    sent = await requests.send(Upstream(silent), timeout_ms=None)
    assert "nothing moved for 60 s (deadline.idle_timeout_ms)" in sent.failure.message
    assert requests.circuit() is State.OPEN


async def test_each_attempt_counts_also_those_of_one_request(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    requests = Requests(nursery)
    upstream = Upstream(503)
    first, second = await requests.send(upstream), await requests.send(upstream)
    assert (first.attempts, second.attempts, upstream.attempts) == (3, 2, 5)  # the sixth would not be sent
    assert (first.status, second.status) == (503, 503)
    assert requests.circuit() is State.OPEN


async def test_an_answer_in_between_begins_the_count_anew(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    requests = Requests(nursery, retry=NO_RETRIES)
    upstream = Upstream(*([503] * 4 + [500]) * 4)
    for _ in range(20):
        await requests.send(upstream)
    assert (upstream.attempts, requests.circuit()) == (20, State.CLOSED)


async def test_other_tenants_and_other_origins_have_circuits_of_their_own(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, retry=NO_RETRIES)
    bad, good = Upstream(503), Upstream(200, origin="https://other.test")
    for _ in range(5):
        await requests.send(bad)
    assert (await requests.send(bad)).attempts == 0
    assert (await requests.send(bad, tenant="other")).status == 503
    assert (await requests.send(good)).status == 200


async def test_one_probe_at_a_time_and_its_success_closes_the_circuit(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, retry=NO_RETRIES)
    upstream = Upstream(*[503] * 5, 200, takes_s=1)
    for _ in range(5):
        await requests.send(upstream)
    await trio.sleep(30)
    probe = await requests.start(upstream)
    for _ in range(10):
        refused = await requests.start(upstream)
        assert refused.failure.message == (
            f"circuit open for {ORIGIN}, next probe in 1000 ms unless the one under way succeeds; "
            "last failure: status 503"
        )
        assert refused.failure.retry_after_ms == 1000
    assert (upstream.attempts, requests.circuit()) == (6, State.HALF_OPEN)
    await trio.sleep(1)
    await wait_all_tasks_blocked()
    assert (probe.status, requests.circuit()) == (200, State.CLOSED)
    both = [await requests.start(upstream) for _ in range(2)]
    assert upstream.attempts == 8
    await trio.sleep(2)
    assert [sent.status for sent in both] == [200, 200]
    requests.nothing_is_held()


async def test_the_pause_between_probes_doubles_up_to_five_minutes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, retry=NO_RETRIES)
    upstream = Upstream(503)
    for _ in range(5):
        await requests.send(upstream)
    for pause_s in [30, 60, 120, 240, 300, 300]:
        await trio.sleep(pause_s - 1)
        assert (await requests.send(upstream)).attempts == 0
        await trio.sleep(1)
        assert (await requests.send(upstream)).attempts == 1


async def test_a_probe_that_fails_is_not_retried_as_its_own_failure_has_opened_the_circuit_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery)
    upstream = Upstream(*[503] * 5, Head(503, body="of the probe"))
    for _ in range(2):
        await requests.send(upstream)
    await trio.sleep(30)
    probe = await requests.send(upstream)
    assert (probe.head, probe.attempts) == (Head(503, body="of the probe"), 1)
    assert (await requests.send(upstream)).attempts == 0
    requests.nothing_is_held()


async def test_a_probe_that_says_nothing_lets_the_next_request_probe(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, retry=NO_RETRIES)
    upstream = Upstream(*[503] * 5, silent, 200)
    for _ in range(5):
        await requests.send(upstream)
    await trio.sleep(30)
    probe = await requests.start(upstream)
    probe.cancel()
    await wait_all_tasks_blocked()
    assert (probe.done.is_set(), requests.circuit()) == (True, State.OPEN)
    assert (await requests.send(upstream)).status == 200
    assert requests.circuit() is State.CLOSED


async def test_the_failure_after_a_redirect_counts_for_where_it_led(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, retry=NO_RETRIES, circuit_breaker=CircuitBreakerPolicy(consecutive_failures=1))
    first, second = Upstream(302), Upstream(503, origin="https://other.test")
    sent = await requests.send(first, second)
    assert (sent.status, sent.attempts) == (503, 2)
    (circuit,) = requests.pipeline.statistics().circuit_breaker.circuits
    assert circuit.origin == "https://other.test"
    refused = await requests.send(first, second)
    assert refused.failure.message.startswith("circuit open for https://other.test, ")
    assert (refused.attempts, first.attempts, second.attempts) == (1, 2, 1)
    requests.nothing_is_held()


async def test_switched_off_there_is_none(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    requests = Requests(nursery, retry=NO_RETRIES, circuit_breaker=CircuitBreakerPolicy(enabled=False))
    upstream = Upstream(503)
    for _ in range(100):
        await requests.send(upstream)
    assert upstream.attempts == 100
    assert requests.pipeline.statistics().circuit_breaker.tracked == 0
