"""What requests use, from what they ask for to the usage that is kept."""

from __future__ import annotations

from vastar_runtime.config import Settings

from .answered import Used
from .asked import Asked
from .ledger import UsageLog
from .prices import Prices


class Metering:
    """What all requests share.

    Args:
        usage: where it is counted; None: nowhere.
    """

    def __init__(self, usage: UsageLog | None = None) -> None:
        self._usage = usage if usage is not None else UsageLog(None)
        self._prices = Prices()

    def configure(self, settings: Settings) -> None:
        """Other prices from the next request's end on."""
        self._prices = Prices(settings.prices)

    def estimated_cost_nano(self, asked: Asked, origin: str, completion_tokens: int) -> int:
        """What a request will cost, as far as can be told before, in 10**-9 of the currency."""
        return self._prices.cost_nano(
            asked.model,
            origin,
            prompt_tokens=asked.prompt_tokens,
            cached_prompt_tokens=0,
            completion_tokens=completion_tokens,
        )

    def record(self, tenant_id: str, origin: str, used: Used | None) -> int:
        """Count a request that was sent; what it cost, in 10**-9 of the currency.

        Args:
            used: None: it has nothing to do with language models.
        """
        if used is None:
            self._usage.add(tenant_id, origin, "")
            return 0
        cost_nano = self._prices.cost_nano(
            used.model,
            origin,
            prompt_tokens=used.prompt_tokens,
            cached_prompt_tokens=used.cached_prompt_tokens,
            completion_tokens=used.completion_tokens,
        )
        self._usage.add(
            tenant_id,
            origin,
            used.model,
            prompt_tokens=used.prompt_tokens,
            cached_prompt_tokens=used.cached_prompt_tokens,
            completion_tokens=used.completion_tokens,
            cost_nano=cost_nano,
            is_estimated=used.is_estimated,
        )
        return cost_nano
