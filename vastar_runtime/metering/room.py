"""Room in a usage file that has grown as large as it may: what was used long ago is summed up, and at last dropped."""

from __future__ import annotations

import sqlite3
import time

import structlog

from .batch import HOURS_PER_DAY, OTHER, SECONDS_PER_HOUR
from .rows import COUNTS, insert, signed, sum_of, whole

log = structlog.get_logger()

# So much of the file is made free at a time, or as much as can be in so long; writing waits for it.
FREE_PART = 1 / 20
MAX_MAKING_S = 1.0

_NOT_SUMMED_UP = f"(hour % {HOURS_PER_DAY} <> 0 OR origin <> '{OTHER}' OR model <> '{OTHER}')"
_SUMS = ", ".join(map(sum_of, COUNTS))
_OF_HOURS = "FROM usage WHERE hour BETWEEN ? AND ?"


class Room:
    """Of the file of one store."""

    def __init__(self) -> None:
        self._summed_up_before = 0  # this hour
        self._may_log = True

    def make(self, connection: sqlite3.Connection, unix_s: float) -> bool:
        """Whether there is room now: whatever a tenant's models and origins were on the oldest days is one row of each
        of those; where all days are summed up, the oldest one is dropped, but never today.

        Raises:
            sqlite3.Error: it is the disk that has no room; or the file cannot be used.
        """
        most = _number(connection, "max_page_count")
        if _free(connection, most) * 2 > most:
            return False  # it is not the file that is full
        before = _free(connection, most)
        deadline = time.monotonic() + MAX_MAKING_S
        while (day := self._oldest(connection)) is not None:
            self._sum_up(connection, day)
            free = _free(connection, most)
            if free >= most * FREE_PART or (free > before and time.monotonic() > deadline):
                break
        if _free(connection, most) <= before:
            self._drop_oldest(connection, int(unix_s) // SECONDS_PER_HOUR // HOURS_PER_DAY)
        return _free(connection, most) > before

    def _oldest(self, connection: sqlite3.Connection) -> int | None:
        """The first day that is not summed up."""
        ((hour,),) = connection.execute(
            f"SELECT CAST(min(hour) AS INTEGER) FROM usage WHERE hour >= ? AND {_NOT_SUMMED_UP}",  # noqa: S608
            (self._summed_up_before,),
        ).fetchall()
        return None if hour is None else int(hour) // HOURS_PER_DAY

    def _sum_up(self, connection: sqlite3.Connection, day: int) -> None:
        """A tenant's day in its first hour: the totals of the day and of its month are as they were."""
        if self._may_log:
            self._may_log = False
            log.warning("the usage file is full: models and origins of the oldest days are counted together")
        hours = (day * HOURS_PER_DAY, (day + 1) * HOURS_PER_DAY - 1)
        connection.execute("BEGIN IMMEDIATE")
        rows = connection.execute(f"SELECT tenant, {_SUMS} {_OF_HOURS} GROUP BY tenant", hours).fetchall()
        connection.execute(f"DELETE {_OF_HOURS}", hours)
        insert(
            connection,
            [
                (
                    hours[0],
                    tenant,
                    OTHER,
                    OTHER,
                    *(signed(whole(*halves[index : index + 2])) for index in range(0, len(halves), 2)),
                )
                for tenant, *halves in rows
            ],
        )
        connection.execute("COMMIT")
        self._summed_up_before = hours[1] + 1

    def _drop_oldest(self, connection: sqlite3.Connection, today: int) -> None:
        ((hour,),) = connection.execute("SELECT CAST(min(hour) AS INTEGER) FROM usage").fetchall()
        if hour is None or hour // HOURS_PER_DAY >= today:
            return
        log.warning("the usage file is full: its oldest day is dropped", unix_day=hour // HOURS_PER_DAY)
        connection.execute("DELETE FROM usage WHERE hour < ?", ((hour // HOURS_PER_DAY + 1) * HOURS_PER_DAY,))


def _free(connection: sqlite3.Connection, most: int) -> int:
    """Pages that can be filled."""
    return most - _number(connection, "page_count") + _number(connection, "freelist_count")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    ((number,),) = connection.execute(f"PRAGMA {pragma}").fetchall()
    return int(number)
