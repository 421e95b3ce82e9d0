"""What requests use, from what they ask for to the usage that is kept."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import trio

from vastar_runtime.config import Settings

from .answered import Used
from .asked import Asked
from .ledger import UsageLog
from .prices import Prices

# What is killed loses what it has not recorded: this, and then the usage log's own interval.
RUNNING_INTERVAL_S = 0.4
RECORDED_PER_TURN = 64


class Recorded(NamedTuple):
    """What was counted of a request.

    Attributes:
        cost_nano: in 10**-9 of the currency.
    """

    origin: str
    used: Used
    cost_nano: int


class Running(Protocol):
    """A request whose answer goes on for a while."""

    def record_so_far(self) -> None:
        """Count what it has used by now."""


def limits_tokens(settings: Settings) -> bool:
    """Whether there is any limit or budget of tokens."""
    in_scopes = any(change.stage == "token_limit" for scope in settings.scopes for change in scope.changes)
    return bool(settings.budgets) or in_scopes or settings.policy.token_limit.limits_anything


class Metering:
    """What all requests share.

    Args:
        usage: where it is counted; None: nowhere.

    Attributes:
        running: those whose answers are under way.
        is_needed: somebody wants to know, or is limited; else nothing is read.
    """

    def __init__(self, usage: UsageLog | None = None) -> None:
        self.running: set[Running] = set()
        self._usage = usage if usage is not None else UsageLog(None)
        self.is_needed = True
        self._prices = Prices()
        self._begun = trio.Event()

    def configure(self, settings: Settings) -> None:
        """Other prices from the next request's end on; and whom the settings name is counted by that name."""
        self._prices = Prices(settings.prices)
        self.is_needed = self._usage.is_kept or limits_tokens(settings)
        named = [budget.tenant for budget in settings.budgets]
        named += [scope.tenant for scope in settings.scopes if scope.tenant is not None]
        for rule in settings.access:
            named += rule.tenants
        self._usage.keep_names(tenant for tenant in named if "*" not in tenant)

    async def record_running(self) -> None:
        """Count what answers under way have used so far, again and again, until cancelled."""
        while True:
            await self._begun.wait()
            await trio.sleep(RUNNING_INTERVAL_S)
            for number, running in enumerate(list(self.running), 1):
                if running in self.running:
                    running.record_so_far()
                if number % RECORDED_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()
            if not self.running:
                self._begun = trio.Event()

    def begins(self, running: Running) -> None:
        """Something of its answer has come; it is to leave ``running`` at its end."""
        self.running.add(running)
        self._begun.set()

    def estimated_cost_nano(self, asked: Asked, origin: str, completion_tokens: int) -> int:
        """What a request will cost, as far as can be told before, in 10**-9 of the currency."""
        return self._prices.cost_nano(
            asked.model,
            origin,
            prompt_tokens=asked.prompt_tokens,
            cached_prompt_tokens=0,
            completion_tokens=completion_tokens,
        )

    def count(self, tenant_id: str, origin: str) -> None:
        """Count a request that was sent, and has nothing to do with language models."""
        self._usage.add(tenant_id, origin, "")

    def record(self, tenant_id: str, origin: str, used: Used, instead_of: Recorded | None = None) -> Recorded:
        """Count a request that was sent.

        Args:
            instead_of: what was counted of it before.
        """
        if instead_of is not None:
            if instead_of.used == used and instead_of.origin == origin:
                return instead_of
            self._add(tenant_id, instead_of, -1)
        cost_nano = self._prices.cost_nano(
            used.model,
            origin,
            prompt_tokens=used.prompt_tokens,
            cached_prompt_tokens=used.cached_prompt_tokens,
            completion_tokens=used.completion_tokens,
        )
        recorded = Recorded(origin, used, cost_nano)
        self._add(tenant_id, recorded, 1)
        return recorded

    def _add(self, tenant_id: str, recorded: Recorded, times: int) -> None:
        origin, used, cost_nano = recorded
        self._usage.add(
            tenant_id,
            origin,
            used.model,
            prompt_tokens=times * used.prompt_tokens,
            cached_prompt_tokens=times * used.cached_prompt_tokens,
            completion_tokens=times * used.completion_tokens,
            cost_nano=times * cost_nano,
            is_estimated=used.is_estimated,
            requests=times,
        )
