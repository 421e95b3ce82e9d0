"""Usage on the disk: one row for each hour, tenant, origin and model."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from .batch import HOURS_PER_DAY, SECONDS_PER_HOUR, Totals, UsageCounts, UsageKey
from .reading import oldest_and_newest, read_file, tenants_in, totals_in
from .room import Room
from .rows import COUNTS, clamped, insert, signed, stored_name
from .usage_file import Place, UsageFileError, faults, open_to_write, place_of

__all__ = ["UsageFileError", "UsageStore"]


class UsageStore:
    """The file, for one process of any number. Its methods wait for the disk: they are for a thread, any one.

    The connection is kept while there is something to write (measured, 100 rows: 0.2 ms; with opening and closing
    1.5 ms, and the disk has to sync each time) and closed by ``close`` when there is not: the file is then complete in
    itself, and can be copied, moved or deleted like any other.

    Attributes:
        commits: batches that are in the file, of this store.

    Args:
        path: absolute. Nothing is opened or made before the first batch.
        keep_days: rows that are older are deleted, at the first batch and once a day.
    """

    def __init__(self, path: str, *, keep_days: int = 400, unix_clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._keep_hours = keep_days * HOURS_PER_DAY
        self._unix_clock = unix_clock
        self._tidied_hour: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._place: Place | None = None
        self._using = threading.Lock()  # a connection is for one thread at a time
        self._room = Room()
        self.commits = 0
        self._committing = threading.Lock()

    def add(self, batch: Mapping[UsageKey, UsageCounts]) -> None:
        """Add these counts to those in the file: all of them, or none.

        Raises:
            UsageFileError: none of them are in the file.
        """
        rows = [_row(key, counts) for key, counts in batch.items()]
        with self._use() as connection:
            self._tidy(connection)
            try:
                self._write(connection, rows)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if not self._room.make(connection, self._unix_clock()):
                    raise
                self._write(connection, rows)

    def totals(self, tenant_id: str, since_hour: int) -> tuple[Totals, int]:
        """What a tenant has used from this hour on, according to the file; and ``commits`` that are in that. It waits
        for nobody that writes, and makes nothing.

        Raises:
            UsageFileError: that cannot be read.
        """
        commits = self.commits

        def read(connection: sqlite3.Connection) -> tuple[Totals, int]:
            with self._committing:
                connection.execute("BEGIN")
                hours = oldest_and_newest(connection)  # from now on it is read as it is now
                commits = self.commits
            return totals_in(connection, stored_name(tenant_id), since_hour, hours), commits

        return read_file(self.path, read) or (Totals(0, 0), commits)

    def tenants(self) -> Mapping[str, int]:
        """Those that the file has, as they are named there, and in how many hours; the latest ones, as far as that
        can be read in a short time.

        Raises:
            UsageFileError: that cannot be read.
        """
        return read_file(self.path, tenants_in) or {}

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

    def _write(self, connection: sqlite3.Connection, rows: Sequence[tuple[int | str, ...]]) -> None:
        connection.execute(
            "BEGIN IMMEDIATE"
        )  # no other process writes from now on; without a commit, closing undoes it
        insert(connection, rows)
        with self._committing:
            connection.execute("COMMIT")
            self.commits += 1

    def _tidy(self, connection: sqlite3.Connection) -> None:
        """Delete what is too old, a day in each transaction, so that other processes do not wait for long."""
        hour = int(self._unix_clock()) // SECONDS_PER_HOUR
        if self._tidied_hour is not None and 0 <= hour - self._tidied_hour < HOURS_PER_DAY:
            return
        first = hour - self._keep_hours
        deleted = 1
        while deleted > 0:
            ((oldest,),) = connection.execute("SELECT CAST(min(hour) AS INTEGER) FROM usage").fetchall()
            if oldest is None or oldest >= first:
                break
            before = min(oldest + HOURS_PER_DAY, first)
            deleted = connection.execute("DELETE FROM usage WHERE hour < ?", (before,)).rowcount
        self._tidied_hour = hour


def _row(key: UsageKey, counts: UsageCounts) -> tuple[int | str, ...]:
    return (
        clamped(key.hour),
        stored_name(key.tenant_id),
        stored_name(key.origin),
        stored_name(key.model),
        *(signed(getattr(counts, name)) for name in COUNTS),
    )
