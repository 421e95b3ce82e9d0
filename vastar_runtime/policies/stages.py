"""The stages that keep something, together: what a request's way asks of them, and those of a process of its own."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec
import structlog

from vastar_runtime.config import Policies, Settings
from vastar_runtime.config.policy import CircuitBreakerPolicy, ConcurrencyPolicy, RateLimitPolicy, RetryPolicy
from vastar_runtime.telemetry.log import clean, without_quotations

from .admission import Admission
from .admission_statistics import AdmissionStatistics
from .allowance import AllowanceBackend, UsedBefore
from .circuit import State
from .circuit_breaker import CircuitBreaker, CircuitBreakerStatistics, CircuitStatistics
from .local_allowances import LocalAllowances
from .permit import CircuitKey, Permit
from .rate_limit import RateLimiter, RateLimitStatistics
from .retry_budget import RetryBudget, RetryStatistics
from .spending import Spending, SpendingStatistics
from .token_bucket import LocalBackend, RateLimitBackend, Taken

log = structlog.get_logger()


class HeldPlace(Protocol):
    """Leave to run."""

    def release(self) -> None:
        """Give it back; more than once does no harm."""


class AdmissionStage(Protocol):
    """How many may run: see Admission."""

    def try_enter(self, policy: ConcurrencyPolicy, tenant_id: str) -> HeldPlace | None:
        """Leave to run, if it is to be had at once."""

    async def enter(self, policy: ConcurrencyPolicy, tenant_id: str, remaining_s: float) -> HeldPlace:
        """Wait for leave to run."""


class RateLimitStage(Protocol):
    """How often they may be sent: see RateLimiter."""

    async def take(self, policy: RateLimitPolicy, tenant_id: str, origin: str) -> Taken | None:
        """Take a token of each limit that applies; None: none does."""

    async def give_back(self, taken: Taken | None) -> None:
        """The request was not sent after all."""


class CircuitStage(Protocol):
    """Whether the origin is left alone: see CircuitBreaker."""

    def permit(
        self, policy: CircuitBreakerPolicy, tenant_id: str, origin: str
    ) -> Permit | Coroutine[object, None, Permit]:
        """Leave to send a request; where another process knows, it is to be awaited."""

    def refuses_for_s(self, tenant_id: str, origin: str) -> float:
        """How long no request would get a permit, as far as is known."""


class HeldRetries(Protocol):
    """One request's part of its origin's budget: see RequestRetries."""

    def try_retry(self, policy: RetryPolicy) -> bool | Awaitable[bool]:
        """Take leave for one more attempt; where another process knows, it is to be awaited."""

    def retry_ended(self) -> None:
        """The retry has brought a head to deliver."""

    def leave(self) -> None:
        """It counts no longer: what the end of the ``with`` block does."""


class RetryStage(Protocol):
    """How many retries may be under way: see RetryBudget."""

    def request(self, origin: str) -> AbstractContextManager[HeldRetries]:
        """One request to this origin; it counts inside the ``with`` block."""


class Stages(Protocol):
    """All of them."""

    @property
    def admission(self) -> AdmissionStage: ...

    @property
    def rate_limiter(self) -> RateLimitStage: ...

    @property
    def circuit_breaker(self) -> CircuitStage: ...

    @property
    def retry_budget(self) -> RetryStage: ...

    @property
    def spending(self) -> Spending: ...

    async def configure(self, settings: Settings, policies: Policies) -> None:
        """Other settings hold from now on. What was counted stays."""


class PipelineStatistics(msgspec.Struct, frozen=True):
    """A snapshot of every stage that keeps something."""

    admission: AdmissionStatistics
    rate_limit: RateLimitStatistics
    circuit_breaker: CircuitBreakerStatistics
    retry: RetryStatistics
    spending: SpendingStatistics


class LocalStages:
    """Those of a process that counts for itself, and for others that ask it.

    Args:
        clock: monotonic seconds.
        unix_clock: Unix seconds.
        used_before: see LocalAllowances.
        rate_limits, allowances: where those are counted; None: here.
        on_forgotten: see CircuitBreaker.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        on_forgotten: Callable[[CircuitKey], None] | None = None,
        *,
        unix_clock: Callable[[], float] = time.time,
        used_before: UsedBefore | None = None,
        rate_limits: RateLimitBackend | None = None,
        allowances: AllowanceBackend | None = None,
    ) -> None:
        # Another process may have to be asked.
        self.waits = rate_limits is not None
        self.admission = Admission(
            max_concurrent=settings.admission.max_concurrent, max_queued=settings.admission.max_queued, clock=clock
        )
        self.rate_limiter = RateLimiter(LocalBackend(clock) if rate_limits is None else rate_limits, clock)
        self.circuit_breaker = CircuitBreaker(clock, on_change=_log_circuit, on_forgotten=on_forgotten)
        self.retry_budget = RetryBudget()
        if allowances is None:
            allowances = LocalAllowances(clock, unix_clock, used_before)
        self.spending = Spending(settings, allowances, clock)

    async def configure(self, settings: Settings, policies: Policies) -> None:
        """See Stages."""
        self.admission.configure(
            max_concurrent=settings.admission.max_concurrent,
            max_queued=settings.admission.max_queued,
            concurrency_for=policies.concurrency_for,
        )
        self.circuit_breaker.settle(policies)
        await self.rate_limiter.settle(policies)
        await self.spending.configure(settings, policies)

    def statistics(self) -> PipelineStatistics:
        """What each stage holds now, and has done so far."""
        return PipelineStatistics(
            admission=self.admission.statistics(),
            rate_limit=self.rate_limiter.statistics(),
            circuit_breaker=self.circuit_breaker.statistics(),
            retry=self.retry_budget.statistics(),
            spending=self.spending.statistics(),
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
