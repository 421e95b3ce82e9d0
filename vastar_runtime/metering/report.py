"""What was used, read from the file for a person: sums by model, tenant or day."""

from __future__ import annotations

import os
import sqlite3
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from .batch import SECONDS_PER_HOUR, named
from .reading import read_file
from .rows import COUNTS, clamped, stored_name, sum_of, whole
from .usage_file import fault

# For the largest file that a daemon writes; a file of somebody else may have us count for ever.
MAX_READING_S = 60.0
_INSTRUCTIONS_PER_LOOK = 1_000_000  # of SQLite's; some 10 ms
_SECONDS_PER_DAY = 86_400
_LAST_DAY = 2_932_896  # the last one that a date has a name for


class By(StrEnum):
    """What the requests of one group have in common."""

    MODEL = "model"
    TENANT = "tenant"
    DAY = "day"


class Group(msgspec.Struct, frozen=True):
    """What the requests of one group used.

    Attributes:
        name: of the model or tenant, as a client or an upstream chose it; a day of UTC (``2026-11-01``).
        estimated_requests: those among them whose tokens are an estimate.
        cached_prompt_tokens: those among the prompt's that the upstream had in its cache.
        cost_nano: in 1e-9 of the currency.
    """

    name: str
    requests: int = 0
    estimated_requests: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano: int = 0

    @property
    def tokens(self) -> int:
        """Of prompts and completions."""
        return self.prompt_tokens + self.completion_tokens


class Report(msgspec.Struct, frozen=True):
    """What was used, group by group.

    Attributes:
        groups: by cost and then tokens, the largest first; days in their order.
        more: how many groups there are besides: smaller ones, or earlier days.
        total: of all of them.
    """

    groups: tuple[Group, ...] = ()
    more: int = 0
    total: Group = Group("total")


def first_hour(since_unix_s: float) -> int:
    """The hour with this time in it: usage is kept by the hour."""
    return int(since_unix_s) // SECONDS_PER_HOUR


def read_report(path: str, *, since_hour: int, by: By, tenant_id: str | None, most_groups: int) -> Report | None:
    """Sum up what is in the file, while a daemon may write it; None: there is no file.

    Args:
        tenant_id: of this tenant alone; None: of all.

    Raises:
        UsageFileError: it cannot be read.
    """
    report = read_file(path, lambda connection: _read_in_time(connection, path, since_hour, by, tenant_id, most_groups))
    return Report() if report is None and os.path.exists(path) else report


def _read_in_time(
    connection: sqlite3.Connection, path: str, since_hour: int, by: By, tenant_id: str | None, most_groups: int
) -> Report:
    deadline = time.monotonic() + MAX_READING_S
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _INSTRUCTIONS_PER_LOOK)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    try:
        return _read(connection, since_hour, by, tenant_id, most_groups)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        if time.monotonic() < deadline:  # Ctrl-C: the handler cannot raise it
            raise KeyboardInterrupt from error
        raise fault(path, f"reading it took longer than {MAX_READING_S:g} s; ask for less") from error


def _read(connection: sqlite3.Connection, since_hour: int, by: By, tenant_id: str | None, most_groups: int) -> Report:
    name = "CAST(hour AS INTEGER) / 24" if by is By.DAY else by.value
    order = "1 DESC" if by is By.DAY else "total(cost_nano) DESC, total(prompt_tokens + completion_tokens) DESC, 1"
    rows_wanted = "FROM usage WHERE hour >= ?"
    values: list[int | str] = [clamped(since_hour)]
    if tenant_id is not None:
        rows_wanted += " AND tenant = ?"
        values.append(stored_name(named(tenant_id)))
    sums = ", ".join(map(sum_of, COUNTS))
    connection.execute("BEGIN")  # all of it at one moment
    # No foreign text is in the statements.
    (total,) = connection.execute(f"SELECT 'total', {sums} {rows_wanted}", values).fetchall()
    ((count,),) = connection.execute(f"SELECT count(DISTINCT {name}) {rows_wanted}", values).fetchall()
    rows = connection.execute(
        f"SELECT {name}, {sums} {rows_wanted} GROUP BY 1 ORDER BY {order} LIMIT ?",
        [*values, most_groups],
    ).fetchall()
    groups = [_group(row, by) for row in rows]
    if by is By.DAY:
        groups.reverse()
    return Report(tuple(groups), count - len(groups), _group(total, None))


def _group(row: tuple[Any, ...], by: By | None) -> Group:
    name, *halves = row
    # Below 0: what is counted elsewhere was taken back here.
    sums = (max(whole(*halves[index : index + 2]), 0) for index in range(0, len(halves), 2))
    return Group(_day(name) if by is By.DAY else str(name), *sums)


def _day(number: int | None) -> str:
    """None, and days that there are not: of a file that somebody else has written to."""
    seconds = min(max(number or 0, 0), _LAST_DAY) * _SECONDS_PER_DAY
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
