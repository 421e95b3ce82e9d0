"""A retry storm does not happen: an upstream that fails for a minute under 200 requests a second, through all stages.

Before a circuit opens it is the retry budget that keeps the attempts down; once it is open, there are only probes.
"""

from __future__ import annotations

from random import Random

import pytest
import trio
from pipeline_requests import Head, Requests, Step, Upstream, failing
from trio.testing import MockClock

from vastar_runtime.config.policy import CircuitBreakerPolicy, RetryPolicy
from vastar_runtime.errors import Failure

pytestmark = pytest.mark.unmeasured

OFFERED_PER_S = 200
DURATION_S = 60
MOST = 1.25
BY_NUMBER = CircuitBreakerPolicy()
BY_RATE = CircuitBreakerPolicy(consecutive_failures=None, failure_rate=0.5)
OFF = CircuitBreakerPolicy(enabled=False)
REFUSED = failing(Failure.UNSENT, "refused")


class Storm:
    """Offers the requests, of so many tenants in turn.

    Attributes:
        worst: the most attempts by any moment before all circuits were open, as a multiple of what was offered by
            then; from the first tenth of a second on: until then a few retries, which the budget always allows, are a
            larger share of what are a few requests.
        attempts_when_open: made by the moment when the last tenant's circuit opened; None: that never came.
    """

    def __init__(self, nursery: trio.Nursery, tenants: int, breaker: CircuitBreakerPolicy, seed: int) -> None:
        self.requests = Requests(nursery, circuit_breaker=breaker, retry=RetryPolicy(), random=Random(seed).random)
        self.worst = 0.0
        self.offered = 0
        self.attempts_when_open: int | None = None
        self._tenants = tenants

    async def run(self, upstream: Upstream) -> None:
        began_at_s = trio.current_time()
        for number in range(OFFERED_PER_S * DURATION_S):
            await trio.sleep_until(began_at_s + number / OFFERED_PER_S)
            self._look(upstream)
            self.requests.start_soon(upstream, tenant=f"tenant {number % self._tenants}")
            self.offered += 1
        await trio.sleep(3 * upstream.takes_s + 1)
        self.requests.nothing_is_held()

    def _look(self, upstream: Upstream) -> None:
        if self.attempts_when_open is not None:
            return
        if self.offered >= OFFERED_PER_S / 10:
            self.worst = max(self.worst, upstream.attempts / self.offered)
        if self.requests.pipeline.circuit_breaker._openings >= self._tenants:
            self.attempts_when_open = upstream.attempts


@pytest.mark.parametrize(
    ("tenants", "breaker", "attempt_s", "step"),
    [
        (1, BY_NUMBER, 0.001, REFUSED),
        (1, BY_NUMBER, 1.0, 503),
        (1, BY_NUMBER, 10.0, failing(Failure.NO_HEAD_IN_TIME)),
        (10, BY_RATE, 1.0, 503),
        (200, BY_NUMBER, 10.0, 503),
    ],
)
@pytest.mark.timeout(120)
async def test_few_more_than_offered_until_the_circuits_open_and_then_only_probes(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    tenants: int,
    breaker: CircuitBreakerPolicy,
    attempt_s: float,
    step: Step,
) -> None:
    storm = Storm(nursery, tenants, breaker, seed=1)
    upstream = Upstream(step, takes_s=attempt_s)
    await storm.run(upstream)
    assert storm.worst <= MOST
    assert storm.attempts_when_open is not None
    found = storm.requests.pipeline.statistics().circuit_breaker
    assert found.not_closed == tenants
    probes = found.opened - tenants
    assert upstream.attempts - storm.attempts_when_open == probes
    assert tenants <= probes <= 2 * tenants  # after 30 s and, if there is time, 60 s later
    assert found.refused >= storm.offered - upstream.attempts


@pytest.mark.parametrize(
    ("tenants", "breaker", "step"), [(1, OFF, 503), (1, BY_NUMBER, 429), (200, BY_RATE, 503)], ids=str
)
@pytest.mark.timeout(120)
async def test_where_no_circuit_opens_the_retry_budget_alone_does_it(
    nursery: trio.Nursery, autojump_clock: MockClock, tenants: int, breaker: CircuitBreakerPolicy, step: Step
) -> None:
    """Answers of 429 open none; nor does a rate of failures for tenants that send less than minimum_requests."""
    storm = Storm(nursery, tenants, breaker, seed=1)
    upstream = Upstream(step, takes_s=0.05)
    await storm.run(upstream)
    assert storm.attempts_when_open is None
    assert 1.1 < upstream.attempts / storm.offered <= MOST
    assert storm.worst <= MOST
    found = storm.requests.pipeline.statistics()
    assert found.retry.retried == upstream.attempts - storm.offered
    assert found.circuit_breaker.opened == 0


async def test_when_the_upstream_is_well_again_one_probe_is_enough(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    storm = Storm(nursery, 1, BY_NUMBER, seed=1)
    well_again_at_s = trio.current_time() + 20

    async def answer() -> Head:
        return Head(200 if trio.current_time() >= well_again_at_s else 503)

    upstream = Upstream(answer)
    await storm.run(upstream)
    found = storm.requests.pipeline.statistics().circuit_breaker
    assert (found.opened, found.not_closed) == (1, 0)
    assert upstream.attempts > OFFERED_PER_S * (DURATION_S - 31)
