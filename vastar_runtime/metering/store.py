"""Usage on the disk: one row for each hour, tenant, origin and model."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from .batch import SECONDS_PER_HOUR, Totals, UsageCounts, UsageKey
from .rows import ADD, COUNTS, clamped, stored_name, sum_of, whole
from .usage_file import Place, UsageFileError, faults, open_to_write, place_of

__all__ = ["UsageFileError", "UsageStore"]

_HOURS_PER_DAY = 24
# One statement for many rows: at each of its own, the thread would give the interpreter up and wait for it again.
# Measured, 100 rows beside a busy event loop: 0.2 ms (executemany: 12 ms, at times 200). Every SQLite takes 999 values.
_ROWS_PER_STATEMENT = 90
_ROW = f"({', '.join('?' * (4 + len(COUNTS)))})"
# One look for each hour, however many other tenants there are in it.
_TOTALS = f"""WITH RECURSIVE hours (hour) AS (SELECT ? UNION ALL SELECT hour + 1 FROM hours WHERE hour < ? LIMIT ?)
    SELECT {sum_of("prompt_tokens")}, {sum_of("completion_tokens")}, {sum_of("cost_nano")}
    FROM hours CROSS JOIN usage ON usage.hour = hours.hour WHERE usage.tenant = ?"""  # noqa: S608 - no foreign text
_MOST_HOURS = 100_000  # eleven years; a clock that was wrong once must not have us look for longer


class UsageStore:
    """The file, for one process of any number. Its methods wait for the disk: they are for a thread, any one.

    The connection is kept while there is something to write (measured, 100 rows: 0.2 ms; with opening and closing
    1.5 ms, and the disk has to sync each time) and closed by ``close`` when there is not: the file is then complete in
    itself, and can be copied, moved or deleted like any other.

    Args:
        path: absolute. Nothing is opened or made before the first batch.
        keep_days: rows that are older are deleted, at the first batch and once a day.
    """

    def __init__(self, path: str, *, keep_days: int = 400, unix_clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._keep_hours = keep_days * _HOURS_PER_DAY
        self._unix_clock = unix_clock
        self._tidied_hour: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._place: Place | None = None
        self._using = threading.Lock()  # a connection is for one thread at a time

    def add(self, batch: Mapping[UsageKey, UsageCounts]) -> None:
        """Add these counts to those in the file: all of them, or none.

        Raises:
            UsageFileError: none of them are in the file.
        """
        with self._use() as connection:
            self._tidy(connection)
            rows = [_row(key, counts) for key, counts in batch.items()]
            with _transaction(connection):
                for begin in range(0, len(rows), _ROWS_PER_STATEMENT):
                    part = rows[begin : begin + _ROWS_PER_STATEMENT]
                    connection.execute(
                        f"INSERT INTO usage VALUES {', '.join([_ROW] * len(part))} "  # noqa: S608 - no foreign text
                        f"ON CONFLICT DO UPDATE SET {ADD}",
                        [value for row in part for value in row],
                    )

    def totals(self, tenant_id: str, since_hour: int) -> Totals:
        """What a tenant has used from this hour on, according to the file.

        Raises:
            UsageFileError: that cannot be read.
        """
        with self._use() as connection:
            ((oldest,),) = connection.execute("SELECT CAST(min(hour) AS INTEGER) FROM usage").fetchall()
            ((newest,),) = connection.execute("SELECT CAST(max(hour) AS INTEGER) FROM usage").fetchall()
            first = clamped(max(since_hour, oldest or 0))
            ((*tokens, cost_high, cost_low),) = connection.execute(
                _TOTALS, (first, newest or 0, _MOST_HOURS, stored_name(tenant_id))
            ).fetchall()
        prompt_high, prompt_low, completion_high, completion_low = tokens
        return Totals(
            whole(prompt_high, prompt_low) + whole(completion_high, completion_low), whole(cost_high, cost_low)
        )

    def close(self) -> None:
        """Leave the file alone until the next batch, with everything in it and nothing beside it.

        Raises:
            UsageFileError: that went wrong; what was added is kept all the same.
        """
        with self._using, faults(self.path):
            self._close()

    @contextlib.contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """A connection to what is at the path now. After a fault it is closed: the next one begins anew."""
        with self._using, faults(self.path):
            if self._connection is not None and not self._is_in_place():
                self._close()  # SQLite sees that its file has gone, and touches nothing at the path
            if self._connection is None:
                self._connection = open_to_write(self.path, self._place)
                self._place = place_of(self.path)
            try:
                yield self._connection
            except BaseException:
                self._close()
                raise

    def _is_in_place(self) -> bool:
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return self._place is not None and self._place.get("") == (found.st_dev, found.st_ino)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _tidy(self, connection: sqlite3.Connection) -> None:
        """Delete what is too old, a day in each transaction, so that other processes do not wait for long."""
        hour = int(self._unix_clock()) // SECONDS_PER_HOUR
        if self._tidied_hour is not None and 0 <= hour - self._tidied_hour < _HOURS_PER_DAY:
            return
        first = hour - self._keep_hours
        deleted = 1
        while deleted > 0:
            ((oldest,),) = connection.execute("SELECT CAST(min(hour) AS INTEGER) FROM usage").fetchall()
            if oldest is None or oldest >= first:
                break
            before = min(oldest + _HOURS_PER_DAY, first)
            deleted = connection.execute("DELETE FROM usage WHERE hour < ?", (before,)).rowcount
        self._tidied_hour = hour


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Whole or not at all; from its beginning on no other process writes. Without a commit, closing undoes it."""
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")


def _row(key: UsageKey, counts: UsageCounts) -> tuple[int | str, ...]:
    return (
        clamped(key.hour),
        stored_name(key.tenant_id),
        stored_name(key.origin),
        stored_name(key.model),
        *(clamped(getattr(counts, name)) for name in COUNTS),
    )
