"""Usage as a table for a terminal."""

import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

from vastar_runtime.metering.report import By, Group, Report

from .printing import printable

NANO = 10**9
_MAX_NAME_CHARACTERS = 256
_GAP = "  "
_MIN_NAME_COLUMNS = 12
_MAX_NAME_COLUMNS = 60
_MIN_BAR_COLUMNS = 6
_MAX_BAR_COLUMNS = 24
_EIGHTHS = "▏▎▍▌▋▊▉█"
_UNITS = "kMGTPEZY"
_ESTIMATED = "~"
_NO_NAME = "(none)"


class _Row(NamedTuple):
    """One line: the name, the numbers as they are shown, and how much of the longest bar it has."""

    name: str
    numbers: list[str]
    share: float | None


def table(report: Report, *, by: By, currency: str, columns: int, is_unicode: bool) -> Iterator[str]:
    """The lines of a table with at least one group.

    Args:
        columns: as wide as it may be; from 80 on everything fits.
        is_unicode: the terminal takes more characters than ASCII.
    """
    has_cost = report.total.cost_nano > 0
    titles = ["requests", "prompt", "completion", "total", *([f"cost {currency}"] if has_cost else [])]
    decimals = _decimals(report.total.cost_nano)
    measure = _measure(report.total)
    largest = max(map(measure, report.groups))

    def rows(number: Callable[[int], str]) -> list[_Row]:
        def row(group: Group, share: float | None) -> _Row:
            mark = _ESTIMATED if group.estimated_requests else ""
            tokens = (group.prompt_tokens, group.completion_tokens, group.tokens)
            numbers = [number(group.requests), *(f"{mark}{number(count)}" for count in tokens)]
            if has_cost:
                numbers.append(f"{mark}{_cost(group.cost_nano, decimals, number)}")
            return _Row(printable(group.name or _NO_NAME, _MAX_NAME_CHARACTERS), numbers, share)

        return [
            *(row(group, measure(group) / largest if largest else 0.0) for group in report.groups),
            row(report.total, None),
        ]

    for number in (_exact, _short):
        shown = rows(number)
        widths = [max(len(title), *(len(row.numbers[at]) for row in shown)) for at, title in enumerate(titles)]
        left = columns - sum(widths) - len(_GAP) * (len(titles) + 1)
        longest = max(_MIN_NAME_COLUMNS, min(max(_width(row.name) for row in shown), _MAX_NAME_COLUMNS))
        if left >= min(longest, 2 * _MIN_NAME_COLUMNS) + _MIN_BAR_COLUMNS:
            break
    names = max(min(longest, left - _MIN_BAR_COLUMNS), _MIN_NAME_COLUMNS)
    bars = min(max(left - names, _MIN_BAR_COLUMNS), _MAX_BAR_COLUMNS)
    for row in (_Row(by.value, titles, None), *shown):
        name = _cut(row.name, names, "…" if is_unicode else "...")
        cells = [name, *(cell.rjust(width) for cell, width in zip(row.numbers, widths, strict=True))]
        cells.append("share" if row.numbers is titles else _bar(row.share, bars, is_unicode))
        yield _GAP.join(cells).rstrip()
        if row is shown[-2] and report.more:
            yield f"({report.more:,} more{', earlier' if by is By.DAY else ''})"
    if report.total.estimated_requests:
        yield ""
        yield f"{_ESTIMATED} {_estimated(report.total.estimated_requests)}"


def decimal(cost_nano: int, decimals: int | None = None) -> str:
    """Money as a decimal number.

    Args:
        decimals: rounded to so many; None: exact, and no more of them than there are.
    """
    if decimals is None:
        return f"{cost_nano // NANO}.{cost_nano % NANO:09d}".rstrip("0").removesuffix(".")
    unit = 10 ** (9 - decimals)
    rounded = (cost_nano + unit // 2) // unit
    return f"{rounded // 10**decimals:,}.{rounded % 10**decimals:0{decimals}d}"


def _estimated(requests: int) -> str:
    whose = "the answer to 1 request" if requests == 1 else f"the answers to {requests:,} requests"
    return f"estimated in part: {whose} did not tell the tokens used"


def _decimals(total_nano: int) -> int:
    """How many of them tell the parts of this sum apart."""
    if total_nano >= 100 * NANO:
        return 2
    if total_nano >= NANO // 10:
        return 4
    return 6 if total_nano >= NANO // 1000 else 9


def _cost(cost_nano: int, decimals: int, number: Callable[[int], str]) -> str:
    if number is _short and cost_nano >= 10_000 * NANO:
        return _short(cost_nano // NANO)
    return decimal(cost_nano, decimals)


def _measure(total: Group) -> Callable[[Group], int]:
    """What shares are shares of: the first of these that there is any of."""
    if total.cost_nano:
        return lambda group: group.cost_nano
    if total.tokens:
        return lambda group: group.tokens
    return lambda group: group.requests


def _exact(number: int) -> str:
    return f"{number:,}"


def _short(number: int) -> str:
    """In three digits and a unit; up to 9,999 exact."""
    if number < 10_000:
        return _exact(number)
    for power, unit in enumerate(_UNITS, 1):
        text = f"{number / 1000**power:.3g}"
        if float(text) < 1000 or unit == _UNITS[-1]:
            return f"{text}{unit}"
    raise AssertionError("the last unit is for all")


def _bar(share: float | None, columns: int, is_unicode: bool) -> str:
    """Something is seen of everything that is more than nothing."""
    if not share:
        return ""
    if not is_unicode:
        return "#" * max(1, round(share * columns))
    whole, eighths = divmod(max(1, round(share * columns * 8)), 8)
    return _EIGHTHS[-1] * whole + (_EIGHTHS[eighths - 1] if eighths else "")


def _width(text: str) -> int:
    return sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):  # drawn over the one before it
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _cut(text: str, columns: int, ellipsis: str) -> str:
    """The text in exactly so many columns; where it is cut, that is seen."""
    if _width(text) > columns:
        left, kept = columns - len(ellipsis), []
        for character in text:
            left -= _columns_of(character)
            if left < 0:
                break
            kept.append(character)
        text = "".join(kept) + ellipsis
    return text + " " * (columns - _width(text))
