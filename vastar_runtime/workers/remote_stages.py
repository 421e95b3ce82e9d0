"""A worker's stages: what they keep is the supervisor's, so that limits and circuits hold over all workers.

A request that no limit holds back, to an origin without failures, asks and tells nobody anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import trio

from vastar_runtime.config import Policies, Settings
from vastar_runtime.config.policy import RateLimitPolicy
from vastar_runtime.policies.spending import Spending
from vastar_runtime.policies.token_bucket import Taken

from .channel import Channel
from .messages import Circuits, Count, Counted, GiveBack, Take, Tokens
from .remote_admission import RemoteAdmission
from .remote_allowances import RemoteAllowances
from .remote_circuits import RemoteCircuitBreaker
from .remote_retries import RemoteRetryBudget


class RemoteRateLimiter:
    """The stage: the supervisor has every bucket."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def take(self, policy: RateLimitPolicy, tenant_id: str, origin: str) -> Taken | None:
        """See RateLimiter."""
        if policy.per_tenant is None and policy.per_origin is None and policy.per_tenant_and_origin is None:
            return None
        tokens: Tokens = await self._channel.ask(
            Take(policy, tenant_id, origin), lambda tokens: self._channel.tell(GiveBack(tokens.buckets))
        )
        return Taken(tokens.buckets)

    async def give_back(self, taken: Taken | None) -> None:
        """See RateLimiter; never waits."""
        if taken is not None:
            self._channel.tell(GiveBack(taken.buckets))


class RemoteStages:
    """All of them, for a worker's pipeline.

    Args:
        channel: to the supervisor. ``answer`` and ``hear`` are for what comes from there.
        clock: seconds, monotonic.
    """

    def __init__(self, settings: Settings, channel: Channel, clock: Callable[[], float] = trio.current_time) -> None:
        numbers = itertools.count(1)
        self.admission = RemoteAdmission(settings, channel, numbers)
        self.rate_limiter = RemoteRateLimiter(channel)
        self.circuit_breaker = RemoteCircuitBreaker(channel, numbers, clock)
        self.retry_budget = RemoteRetryBudget(channel, numbers)
        self.spending = Spending(settings, RemoteAllowances(channel), clock)

    async def configure(self, settings: Settings, policies: Policies) -> None:
        """See Stages; never waits."""
        self.admission.configure(settings, policies)
        await self.spending.configure(settings, policies)

    def answer(self, question: Count) -> Counted:
        """What is under way here."""
        active = self.retry_budget.active
        return Counted(
            running=self.admission.running,
            admitted=self.admission.admitted,
            active=active.total(),
            with_origins=tuple(active[origin] for origin in question.origins),
        )

    def hear(self, news: Circuits) -> None:
        """What is held against which circuit."""
        self.circuit_breaker.hear(news)
