"""What the daemon reads from its usage file: beside whoever writes it, and without making anything."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from .batch import Totals
from .rows import clamped, sum_of, whole
from .usage_file import faults, open_to_read, resting

# One look for each hour, however many other tenants there are in it.
_TOTALS = f"""WITH RECURSIVE hours (hour) AS (SELECT ? UNION ALL SELECT hour + 1 FROM hours WHERE hour < ? LIMIT ?)
    SELECT {sum_of("prompt_tokens")}, {sum_of("completion_tokens")}, {sum_of("cost_nano")}
    FROM hours CROSS JOIN usage ON usage.hour = hours.hour WHERE usage.tenant = ?"""  # noqa: S608 - no foreign text
_MOST_HOURS = 100_000  # eleven years; a clock that was wrong once must not have us look for longer
# For the tenants: writing waits for so long, once.
_TENANTS_S = 0.5
_MOST_TENANTS = 65_536
_ROWS_PER_LOOK = 1_000

Found = TypeVar("Found")


def read_file(path: str, read: Callable[[sqlite3.Connection], Found]) -> Found | None:
    """What ``read`` finds; None: there is no file, or nothing was ever in it.

    Raises:
        UsageFileError: it cannot be read.
    """
    with faults(path):
        before = resting(path)
        if before is not None:
            try:
                found = _read(path, read, is_at_rest=True)
            except sqlite3.Error:
                if resting(path) == before:
                    raise
            else:
                if resting(path) == before:
                    return found
        # Somebody writes it, or has begun to meanwhile.
        return _read(path, read, is_at_rest=False)


def _read(path: str, read: Callable[[sqlite3.Connection], Found], *, is_at_rest: bool) -> Found | None:
    connection = open_to_read(path, is_at_rest=is_at_rest)
    if connection is None:
        return None
    with contextlib.closing(connection):
        return read(connection)


def oldest_and_newest(connection: sqlite3.Connection) -> tuple[int, int]:
    """The hours that the file has."""
    ((oldest,),) = connection.execute("SELECT CAST(min(hour) AS INTEGER) FROM usage").fetchall()
    ((newest,),) = connection.execute("SELECT CAST(max(hour) AS INTEGER) FROM usage").fetchall()
    return oldest or 0, newest or 0


def totals_in(connection: sqlite3.Connection, tenant: str, since_hour: int, hours: tuple[int, int]) -> Totals:
    """What a tenant, as it is named there, has used from this hour on.

    Args:
        hours: the oldest and the newest one.
    """
    oldest, newest = hours
    first = clamped(max(since_hour, oldest))
    ((*tokens, cost_high, cost_low),) = connection.execute(_TOTALS, (first, newest, _MOST_HOURS, tenant)).fetchall()
    prompt_high, prompt_low, completion_high, completion_low = tokens
    return Totals(whole(prompt_high, prompt_low) + whole(completion_high, completion_low), whole(cost_high, cost_low))


def tenants_in(connection: sqlite3.Connection) -> Mapping[str, int]:
    """Tenants by the number of hours that they are in, from the newest one back, as many as can be read."""
    deadline = time.monotonic() + _TENANTS_S
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    found: dict[str, int] = {}
    rows = connection.execute("SELECT hour, CAST(tenant AS TEXT) FROM usage ORDER BY hour DESC, tenant DESC")
    last: tuple[object, str] | None = None
    while part := rows.fetchmany(_ROWS_PER_LOOK):
        for hour, tenant in part:
            if (hour, tenant) != last:
                last = (hour, tenant)
                found[tenant] = found.get(tenant, 0) + 1
        if time.monotonic() > deadline or len(found) >= _MOST_TENANTS:
            break
    rows.close()
    return found
