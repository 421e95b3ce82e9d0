"""What completions used, by model: tokens, and what those cost by a table of prices that the user has."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from .chat import MAX_TOKENS, Usage
from .config import check_type
from .price_table import Price, Prices, exact_sum, load_prices

__all__ = ["ModelUsage", "Price", "UsageTracker", "load_prices"]

# Models are what answers say they are. Beyond so many, the rest are one.
MAX_MODELS = 1000
OTHER_MODELS = "(other models)"
UNNAMED_MODEL = "(unnamed model)"
_MAX_NAME_CHARACTERS = 128


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What the completions of one model used.

    Attributes:
        requests: how many there were.
        untold_requests: of them, those whose usage the API did not tell; no token of theirs is counted.
        cached_prompt_tokens: of the prompt's.
        price: None: there is none for this model, and nobody knows what it cost.
    """

    model: str
    requests: int = 0
    untold_requests: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    price: Price | None = None

    @property
    def cost(self) -> Decimal | None:
        """What the counted tokens cost, exactly, in the currency of the price; None: there is no price."""
        if self.price is None:
            return None
        return self.price.cost(self.prompt_tokens, self.cached_prompt_tokens, self.completion_tokens)


class UsageTracker:
    """Adds up what completions used. One may serve several connectors, and threads.

    A connector counts a completion when it has ended, if anything of it came. One that failed before, and was asked
    for again perhaps, is not counted: nobody tells what it cost.

    Args:
        prices: by model. A name stands for the model and for its dated versions ("gpt-4o-mini" for
            "gpt-4o-mini-2024-07-18", not for "gpt-4o-mini-tts"), one that ends in "*" for all that begin so; the
            longest that fits holds. Or a function from a model's name to its price, or None; what it raises is logged,
            and the model has no price. None: no model has one.

    Raises:
        ConnectorException: INVALID_REQUEST, a price that cannot be used.
        TypeError: a price or a name of another type.
    """

    def __init__(self, prices: Mapping[str, Price] | Callable[[str], Price | None] | None = None) -> None:
        self._price_of = prices if callable(prices) else Prices(prices or {}).price_of
        # Python may collect a stream that was dropped wherever this thread is just now, in the midst of counting too,
        # and what came of it is to be counted: to count is to append, which waits for nobody.
        self._uncounted: deque[tuple[str, Price | None, Usage | None]] = deque()
        self._lock = threading.RLock()
        self._is_counting = False
        self._models: dict[str, ModelUsage] = {}

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> UsageTracker:
        """A tracker with the prices of a YAML or JSON file; see ``load_prices``."""
        return cls(load_prices(path))

    def __repr__(self) -> str:
        return f"<UsageTracker of {len(self.models)} models>"

    def add(self, model: str, usage: Usage | None) -> None:
        """One completion.

        Args:
            model: its name, as the answer says it.
            usage: None: the API did not tell it.
        """
        check_type("model", model, str)
        check_type("usage", usage, Usage, type(None))
        name = _shown(model)
        known = self._models.get(name)
        self._uncounted.append((name, self._price(model) if known is None else known.price, usage))
        while self._uncounted and not self._is_counting and self._lock.acquire(blocking=False):
            try:
                self._count()
            finally:
                self._lock.release()

    def add_usage(self, prompt_tokens: int, completion_tokens: int, model: str) -> None:
        """One completion that used so many tokens.

        Raises:
            ValueError: a number below 0, or beyond any use.
            TypeError: an argument of another type.
        """
        for name, count in (("prompt_tokens", prompt_tokens), ("completion_tokens", completion_tokens)):
            check_type(name, count, int)
            if not 0 <= count <= MAX_TOKENS:
                raise ValueError(f"{name} must be from 0 to {MAX_TOKENS}")
        self.add(model, Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens))

    @property
    def models(self) -> tuple[ModelUsage, ...]:
        """What each model used, by name."""
        with self._lock:
            self._count()
            models = self._models.copy()
        return tuple(models[name] for name in sorted(models))

    @property
    def total_prompt_tokens(self) -> int:
        """Of all models."""
        return sum(model.prompt_tokens for model in self.models)

    @property
    def total_completion_tokens(self) -> int:
        """Of all models."""
        return sum(model.completion_tokens for model in self.models)

    @property
    def total_costs(self) -> dict[str, Decimal]:
        """What all models cost, by currency; those without a price are in none of them."""
        return _costs(self.models)

    def reset(self) -> None:
        """Forget what was counted."""
        with self._lock:
            self._uncounted.clear()
            self._models.clear()

    def report(self) -> str:
        """A line for each model, and one for the total of several; "" when nothing was counted."""
        models = self.models
        lines = [f"{model.model}: {_used(model)}, {_cost_words((model,))}" for model in models]
        if len(models) > 1:
            total = ModelUsage(model="", **{name: sum(getattr(m, name) for m in models) for name in _COUNTS})
            lines.append(f"total: {_used(total)}, {_cost_words(models)}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The same for programs, in types that JSON has; costs are decimal numbers as text, null without a price."""
        models = self.models
        return {
            "models": [
                {"model": model.model}
                | {name: getattr(model, name) for name in _COUNTS}
                | {
                    "cost": None if model.cost is None else decimal_text(model.cost),
                    "currency": None if model.price is None else model.price.currency,
                }
                for model in models
            ],
            "total_costs": {currency: decimal_text(cost) for currency, cost in _costs(models).items()},
            "models_without_price": [model.model for model in models if model.price is None],
        }

    def _count(self) -> None:
        """Count what waits for it. With the lock; in the midst of itself it does nothing."""
        if self._is_counting:
            return
        self._is_counting = True
        try:
            while self._uncounted:
                name, price, usage = self._uncounted.popleft()
                if name not in self._models and len(self._models) >= MAX_MODELS:
                    name, price = OTHER_MODELS, None
                before = self._models.get(name) or ModelUsage(model=name, price=price)
                self._models[name] = _with_one_more(before, usage)
        finally:
            self._is_counting = False

    def _price(self, model: str) -> Price | None:
        name = model[:_MAX_NAME_CHARACTERS]
        try:
            price = self._price_of(model)
            check_type(f"the price of {name!r}", price, Price, type(None))
        except Exception:  # the user's function: an answer that came is not lost for it
            import logging

            logging.getLogger(__name__).warning(
                "no price for %r: the function that gives prices failed", name, exc_info=True
            )
            return None
        return price


_COUNTS = ("requests", "untold_requests", "prompt_tokens", "cached_prompt_tokens", "completion_tokens")


def _with_one_more(before: ModelUsage, usage: Usage | None) -> ModelUsage:
    told = usage or Usage()
    return msgspec.structs.replace(
        before,
        requests=before.requests + 1,
        untold_requests=before.untold_requests + (usage is None),
        prompt_tokens=before.prompt_tokens + told.prompt_tokens,
        cached_prompt_tokens=before.cached_prompt_tokens + min(told.cached_prompt_tokens, told.prompt_tokens),
        completion_tokens=before.completion_tokens + told.completion_tokens,
    )


def _costs(models: tuple[ModelUsage, ...]) -> dict[str, Decimal]:
    amounts: dict[str, list[Decimal]] = {}
    for model in models:
        if model.price is not None and model.cost is not None:
            amounts.setdefault(model.price.currency, []).append(model.cost)
    return {currency: exact_sum(costs) for currency, costs in amounts.items()}


def _used(model: ModelUsage) -> str:
    requests = "1 request" if model.requests == 1 else f"{model.requests:,} requests"
    untold = f" ({model.untold_requests:,} of unknown usage)" if model.untold_requests else ""
    cached = f" ({model.cached_prompt_tokens:,} cached)" if model.cached_prompt_tokens else ""
    return (
        f"{requests}{untold}, {_tokens(model.prompt_tokens, 'prompt')}{cached}, "
        f"{_tokens(model.completion_tokens, 'completion')}"
    )


def _tokens(number: int, kind: str) -> str:
    return f"{number:,} {kind} {'token' if number == 1 else 'tokens'}"


def _cost_words(models: tuple[ModelUsage, ...]) -> str:
    costs = _costs(models)
    is_partial = any(model.untold_requests or model.price is None for model in models)
    if not costs:
        return "cost unknown (no price)"
    known = " + ".join(f"{decimal_text(cost)} {currency}" for currency, cost in costs.items())
    return f"cost {'at least ' if is_partial else ''}{known}"


def decimal_text(amount: Decimal) -> str:
    """An amount of money without exponent, with two decimals at least."""
    text = f"{amount:f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def _shown(model: str) -> str:
    """A name that came from elsewhere; it must not drive a terminal, nor fill memory."""
    name = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in model[:_MAX_NAME_CHARACTERS])
    return name or UNNAMED_MODEL
