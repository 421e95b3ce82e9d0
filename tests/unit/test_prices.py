"""What tokens cost: the first price that matches, exactly, rounded up."""

from __future__ import annotations

import pytest

from vastar_runtime.config import Price
from vastar_runtime.metering.prices import Prices

OPENAI = "https://api.openai.com"
NANO = 10**9


def cost(
    prices: Prices, model: str, origin: str = OPENAI, prompt: int = 0, cached: int = 0, completion: int = 0
) -> int:
    return prices.cost_nano(
        model, origin, prompt_tokens=prompt, cached_prompt_tokens=cached, completion_tokens=completion
    )


def test_without_a_price_nothing_costs() -> None:
    assert cost(Prices(), "gpt-4o", prompt=10**6) == 0
    assert cost(Prices((Price(model="o3", prompt_per_million=1.0),)), "gpt-4o", prompt=10**6) == 0


def test_the_first_that_matches_model_and_origin_holds() -> None:
    prices = Prices(
        (
            Price(model="gpt-4o-mini*", origin=OPENAI, prompt_per_million=0.15, completion_per_million=0.6),
            Price(model="gpt-4o*", origin="https://*.openai.com", prompt_per_million=2.5, completion_per_million=10.0),
            Price(model="*", prompt_per_million=1.0),
        )
    )
    million = 10**6
    assert cost(prices, "gpt-4o-mini-2024-07-18", prompt=million, completion=million) == 750_000_000
    assert cost(prices, "gpt-4o-2024-08-06", prompt=million, completion=million) == 12.5 * NANO
    assert cost(prices, "gpt-4o-mini", "https://eu.openai.com", prompt=million) == 2.5 * NANO
    assert cost(prices, "gpt-4o-mini", "https://other.example", prompt=million, completion=million) == NANO


@pytest.mark.parametrize(
    ("cached_price", "cached", "expected"),
    [(None, 400, 1000 * 2500), (0.25, 400, 600 * 2500 + 400 * 250), (0.25, 5000, 1000 * 250), (0.0, 1000, 0)],
)
def test_what_came_from_the_cache_has_its_own_price(cached_price: float | None, cached: int, expected: int) -> None:
    prices = Prices((Price(model="*", prompt_per_million=2.5, cached_prompt_per_million=cached_price),))
    assert cost(prices, "m", prompt=1000, cached=cached) == expected


def test_a_part_of_a_nano_unit_is_one() -> None:
    prices = Prices((Price(model="*", prompt_per_million=0.000001, completion_per_million=0.0375),))
    assert cost(prices, "m", prompt=1) == 1
    assert cost(prices, "m", prompt=1000) == 1
    assert cost(prices, "m", completion=1) == 38
    assert cost(prices, "m", completion=1000) == 37_500
