"""What tokens cost. No prices come with the package: they change, and a wrong one is worse than none."""

from __future__ import annotations

import decimal
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from .config import check_type, invalid
from .errors import ConnectorException
from .wire.messages import ErrorClass

_MILLION = 1_000_000
_MOST_PER_MILLION = Decimal(10) ** 9
_MOST_DECIMALS = 12
_MAX_CHARACTERS = 64
_MAX_CURRENCY_CHARACTERS = 16

# No product or sum of such prices and counts has more digits; the application's own context may round, or raise.
_EXACT = decimal.Context(
    prec=60, rounding=decimal.ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, clamp=0, traps=[InvalidOperation]
)

# How providers date the versions of a model: -2024-07-18, -20241022, -0613; and the version that is the last.
_VERSION = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|latest)", re.ASCII)


@dataclass(frozen=True)
class Price:
    """What a million tokens of a model cost.

    Attributes:
        input_per_million: of the prompt; a text ("0.15") and a float are read as the decimal number that they show,
            a float without what its arithmetic left behind the 12th decimal (0.1 + 0.2).
        output_per_million: of the completion.
        currency: only shown; amounts of two currencies are never added.
        cached_input_per_million: of the prompt what the API had in its cache; None: as the rest of it.

    Raises:
        ConnectorException: INVALID_REQUEST, a number below 0 or beyond any use, or an empty currency.
        TypeError: a value of another type.
    """

    input_per_million: Decimal | str | float
    output_per_million: Decimal | str | float
    currency: str = "USD"
    cached_input_per_million: Decimal | str | float | None = None

    def __post_init__(self) -> None:
        for name in ("input_per_million", "output_per_million", "cached_input_per_million"):
            value = getattr(self, name)
            if value is not None or name != "cached_input_per_million":
                object.__setattr__(self, name, _amount(name, value))
        check_type("currency", self.currency, str)
        is_name = self.currency.isprintable() and self.currency.strip()
        if not is_name or len(self.currency) > _MAX_CURRENCY_CHARACTERS:
            raise invalid("currency", self.currency, f"a name of at most {_MAX_CURRENCY_CHARACTERS} characters")

    def cost(self, prompt_tokens: int, cached_prompt_tokens: int, completion_tokens: int) -> Decimal:
        """What so many tokens cost.

        Args:
            cached_prompt_tokens: of the prompt's.
        """
        cached = self.input_per_million if self.cached_input_per_million is None else self.cached_input_per_million
        with decimal.localcontext(_EXACT):
            for_a_million = (
                Decimal(self.input_per_million) * (prompt_tokens - cached_prompt_tokens)
                + Decimal(cached) * cached_prompt_tokens
                + Decimal(self.output_per_million) * completion_tokens
            )
            return for_a_million / _MILLION


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Of amounts of money, whatever the application's decimal context is."""
    with decimal.localcontext(_EXACT):
        return sum(amounts, Decimal(0))


class Prices:
    """A table of prices by model; see ``UsageTracker`` for what a name in it stands for."""

    def __init__(self, table: Mapping[str, Price]) -> None:
        self._exact: dict[str, Price] = {}
        self._beginnings: list[tuple[str, Price]] = []
        for name, price in table.items():
            check_type("the name of a model", name, str)
            check_type(f"the price of {name!r}", price, Price)
            if name.endswith("*"):
                self._beginnings.append((name[:-1], price))
            else:
                self._exact[name] = price
        self._beginnings.sort(key=lambda item: len(item[0]), reverse=True)

    def price_of(self, model: str) -> Price | None:
        """Of the longest name that fits; None: none does."""
        if model in self._exact:
            return self._exact[model]
        best = max((name for name in self._exact if _is_version(name, model)), key=len, default=None)
        for beginning, price in self._beginnings:
            if model.startswith(beginning) and (best is None or len(beginning) > len(best)):
                return price
        return None if best is None else self._exact[best]


def load_prices(path: str | os.PathLike[str]) -> dict[str, Price]:
    """The prices in a YAML or JSON file: for each model the fields of ``Price``.

        gpt-4o-mini: {input_per_million: 0.15, output_per_million: 0.60}

    Raises:
        ConnectorException: INVALID_REQUEST, naming the file, the model, and what is wrong.
    """
    from .private_file import shown_path
    from .yaml_file import nearest, read_mapping, shown

    name = os.fspath(path)
    fields = ("input_per_million", "output_per_million", "currency", "cached_input_per_million")
    prices = {}
    for model, given in read_mapping(name, "prices").items():
        where = f"{shown_path(name)}: {shown(model)}"
        if not isinstance(given, dict):
            raise ConnectorException(f"{where}: a price has {', '.join(fields)}", ErrorClass.INVALID_REQUEST)
        for key in given:
            if key not in fields:
                raise ConnectorException(f"{where}: {nearest(key, fields)}", ErrorClass.INVALID_REQUEST)
        if str(model) in prices:  # one as a text, and one as a number
            raise ConnectorException(f"{where}: it is there twice; leave one of them", ErrorClass.INVALID_REQUEST)
        prices[str(model)] = _price(where, given)
    return prices


def _price(where: str, given: dict[str, Any]) -> Price:
    try:
        return Price(**given)
    except ConnectorException as error:
        raise ConnectorException(f"{where}: {error.message}", ErrorClass.INVALID_REQUEST) from error
    except TypeError as error:
        missing = [key for key in ("input_per_million", "output_per_million") if key not in given]
        reason = f"{missing[0]} is missing" if missing else str(error)
        raise ConnectorException(f"{where}: {reason}", ErrorClass.INVALID_REQUEST) from error


def _is_version(name: str, model: str) -> bool:
    return model.startswith(name) and _VERSION.fullmatch(model, len(name)) is not None


def _amount(name: str, value: object) -> Decimal:
    check_type(name, value, Decimal, str, int, float)
    with decimal.localcontext(_EXACT):
        amount = _decimal(value)
        exponent = amount.as_tuple().exponent
        if isinstance(exponent, int) and 0 <= amount <= _MOST_PER_MILLION and -exponent <= _MOST_DECIMALS:
            return amount or Decimal(0)  # not -0, nor one that would be shown with a million digits
    allowed = f"a number from 0 to {_MOST_PER_MILLION} with at most {_MOST_DECIMALS} decimals"
    is_long = isinstance(value, int) and abs(value) > _MOST_PER_MILLION  # one of 5,000 digits cannot be shown
    raise invalid(name, float("inf") if is_long else value, allowed)


def _decimal(value: object) -> Decimal:
    """The number that a value shows; NaN when it shows none."""
    if isinstance(value, (int, Decimal)):
        return Decimal(value)
    text = str(value)
    try:
        amount = Decimal(text if len(text) <= _MAX_CHARACTERS else "NaN")
    except InvalidOperation:
        return Decimal("NaN")
    if isinstance(value, float) and 1e-12 <= value <= 1e9:
        rounded = round(amount, _MOST_DECIMALS).normalize()
        return rounded if math.isclose(rounded, value) else amount
    return amount
