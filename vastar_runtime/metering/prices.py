"""What tokens cost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from vastar_runtime.config import Price
from vastar_runtime.config.origins import glob, parse_pattern, split_origin

# Models and origins are what clients and upstreams say they are.
MAX_REMEMBERED = 1024

_FREE = Price(model="*")
# A price for a million, of one token in 10**-12 of the currency; and that in 10**-9.
_PICO_PER_TOKEN = 10**6
_PICO_PER_NANO = 1000


class Prices:
    """The table of prices.

    Args:
        prices: the first that matches holds; what none matches is free.
    """

    def __init__(self, prices: Sequence[Price] = ()) -> None:
        self._prices = [(price, None if price.origin is None else parse_pattern(price.origin)) for price in prices]
        self._price_of = lru_cache(MAX_REMEMBERED)(self._find)

    def cost_nano(
        self, model: str, origin: str, *, prompt_tokens: int, cached_prompt_tokens: int, completion_tokens: int
    ) -> int:
        """In 10**-9 of the currency, rounded up.

        Args:
            cached_prompt_tokens: of the prompt's.
        """
        if not self._prices:
            return 0
        price = self._price_of(model, origin)
        cached_price = price.cached_prompt_per_million
        if cached_price is None:
            cached_price = price.prompt_per_million
        cached_prompt_tokens = min(cached_prompt_tokens, prompt_tokens)
        pico = (
            (prompt_tokens - cached_prompt_tokens) * round(price.prompt_per_million * _PICO_PER_TOKEN)
            + cached_prompt_tokens * round(cached_price * _PICO_PER_TOKEN)
            + completion_tokens * round(price.completion_per_million * _PICO_PER_TOKEN)
        )
        return -(-pico // _PICO_PER_NANO)

    def _find(self, model: str, origin: str) -> Price:
        target = split_origin(origin)
        for price, pattern in self._prices:
            if glob(price.model, model) and (pattern is None or pattern.matches(target)):
                return price
        return _FREE
