"""The stages in their order: deadline, admission, rate limit, circuit breaker, retry.

The first two hold for a whole request. The others stand before every attempt, after redirects too, each time with
what is set for that origin. Rate limit before circuit breaker: where both refuse, the client learns of the limit; but
a request that an open circuit refuses gets its token back, as nothing was sent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import msgspec
import structlog
import trio

from vastar_runtime.config import Policies, Settings
from vastar_runtime.config.policy import DeadlinePolicy
from vastar_runtime.telemetry.log import clean, without_quotations

from .admission import Admission, AdmissionStatistics
from .circuit import State
from .circuit_breaker import CircuitBreaker, CircuitBreakerStatistics, CircuitStatistics
from .deadline import Deadline
from .passage import Passage
from .peer import Peer
from .rate_limit import RateLimiter, RateLimitStatistics
from .retry_budget import RetryBudget, RetryStatistics
from .token_bucket import LocalBackend

log = structlog.get_logger()


class PipelineStatistics(msgspec.Struct, frozen=True):
    """A snapshot of every stage that keeps something."""

    admission: AdmissionStatistics
    rate_limit: RateLimitStatistics
    circuit_breaker: CircuitBreakerStatistics
    retry: RetryStatistics


class Pipeline:
    """What the stages share and keep.

    Args:
        settings: ``configure`` replaces them.
        clock: monotonic seconds.
        unix_clock: Unix seconds.
        random: from 0 up to 1.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        clock: Callable[[], float] = trio.current_time,
        unix_clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        settings = settings or Settings()
        self.unix_clock = unix_clock
        self.random = random
        self._policies = Policies(settings)
        self.admission = Admission(
            max_concurrent=settings.admission.max_concurrent, max_queued=settings.admission.max_queued, clock=clock
        )
        self.rate_limiter = RateLimiter(LocalBackend(clock), clock)
        self.circuit_breaker = CircuitBreaker(clock, on_change=_log_circuit)
        self.retry_budget = RetryBudget()

    async def configure(self, settings: Settings, policies: Policies) -> None:
        """Use other settings from the next request on. What the stages have counted stays.

        Args:
            policies: those of these settings; for thousands of scopes it takes a while to make them.
        """
        self._policies = policies
        self.admission.configure(
            max_concurrent=settings.admission.max_concurrent,
            max_queued=settings.admission.max_queued,
            concurrency_for=policies.concurrency_for,
        )
        self.circuit_breaker.settle(policies)
        await self.rate_limiter.settle(policies)

    def passage(
        self,
        tenant_id: str,
        origin: str,
        *,
        deadline_at_ms: int,
        timeout_ms: float | None,
        peer: Peer | None = None,
    ) -> Passage:
        """A request's way through; its time begins to run.

        Args:
            origin: of its URL; "" for one that goes nowhere.
            deadline_at_ms, timeout_ms: see Deadline.
            peer: who asks; None: the kernel does not say.

        Raises:
            RequestError: Timeout, when its deadline has passed already.
        """
        policies = self._policies
        deadline = Deadline(
            deadline_at_ms=deadline_at_ms,
            timeout_ms=timeout_ms,
            # What goes nowhere is an operator's question; no limit may keep out who comes to put one right.
            policy=policies.policy_for(tenant_id, origin).deadline if origin else DeadlinePolicy(),
            unix_now_s=self.unix_clock(),
        )
        return Passage(self, policies, tenant_id, deadline, peer)

    def statistics(self) -> PipelineStatistics:
        """What each stage holds now, and has done so far."""
        return PipelineStatistics(
            admission=self.admission.statistics(),
            rate_limit=self.rate_limiter.statistics(),
            circuit_breaker=self.circuit_breaker.statistics(),
            retry=self.retry_budget.statistics(),
        )


def _log_circuit(circuit: CircuitStatistics) -> None:
    fields = {"origin": circuit.origin, "tenant": clean(circuit.tenant_id)}
    if circuit.state is State.CLOSED:
        log.info("circuit closed", **fields)
    else:
        log.warning(
            "circuit opened",
            **fields,
            failures=circuit.failures,
            next_probe_in_ms=circuit.next_probe_in_ms,
            error=clean(without_quotations(circuit.last_reason)),
        )
