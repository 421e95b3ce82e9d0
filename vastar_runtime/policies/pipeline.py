"""The stages in their order: deadline, access, admission, egress, token limits and budgets, rate limit, circuit
breaker, retry.

The first three hold for a whole request, and so does what token limits and budgets reserve for it. The others stand
before every attempt, after redirects too, each time with what is set for that origin. Rate limit before circuit
breaker: where both refuse, the client learns of the limit; but a request that an open circuit refuses gets its token
back, as nothing was sent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import trio

from vastar_runtime.config import Policies, Settings
from vastar_runtime.config.policy import DeadlinePolicy

from .access import Access
from .alarm import Cancellable
from .deadline import Deadline
from .passage import Passage
from .peer import Peer
from .stages import LocalStages, PipelineStatistics, Stages


class Pipeline:
    """What the stages share and keep.

    Args:
        settings: ``configure`` replaces them.
        stages: None: those of a process that counts for itself.
        clock: monotonic seconds.
        unix_clock: Unix seconds.
        random: from 0 up to 1.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        stages: Stages | None = None,
        clock: Callable[[], float] = trio.current_time,
        unix_clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        settings = settings or Settings()
        self.unix_clock = unix_clock
        self.random = random
        self.access = Access(settings.access)
        self._policies = Policies(settings)
        self._stages = stages if stages is not None else LocalStages(settings, clock, unix_clock=unix_clock)
        self.admission = self._stages.admission
        self.rate_limiter = self._stages.rate_limiter
        self.circuit_breaker = self._stages.circuit_breaker
        self.retry_budget = self._stages.retry_budget
        self.spending = self._stages.spending

    async def configure(self, settings: Settings, policies: Policies) -> None:
        """Use other settings from the next request on. What the stages have counted stays.

        Args:
            policies: those of these settings; for thousands of scopes it takes a while to make them.
        """
        self._policies = policies
        self.access = Access(settings.access)
        await self._stages.configure(settings, policies)

    def passage(
        self,
        tenant_id: str,
        origin: str,
        *,
        deadline_at_ms: int,
        timeout_ms: float | None,
        peer: Peer | None = None,
        scope: Cancellable | None = None,
    ) -> Passage:
        """A request's way through; its time begins to run.

        Args:
            origin: of its URL; "" for one that goes nowhere.
            deadline_at_ms, timeout_ms, scope: see Deadline.
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
            scope=scope,
        )
        return Passage(self, policies, tenant_id, deadline, peer)

    def statistics(self) -> PipelineStatistics:
        """What each stage holds now, and has done so far; only where they are this process's own."""
        assert isinstance(self._stages, LocalStages)
        return self._stages.statistics()
