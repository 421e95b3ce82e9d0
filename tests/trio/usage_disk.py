"""A usage file on a disk that may hang, fail, or be waited for."""

import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path

from vastar_runtime.metering.batch import Totals, UsageCounts, UsageKey
from vastar_runtime.metering.ledger import UsageLog
from vastar_runtime.metering.store import UsageStore

HOUR = 496_000


def now() -> float:
    return HOUR * 3600.0 + 1.0


class Disk(UsageStore):
    """A store that a test can hold up.

    Attributes:
        begun, written, reading, closed: set when a write begins and has ended, when a read has read, and when the file
            was closed.
        let_go, reading_waits: cleared: writes hang, and reads, when they have read.
        mistake: raised by writes.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, unix_clock=now)
        self.begun, self.written, self.reading, self.closed = (threading.Event() for _ in range(4))
        self.let_go, self.reading_waits = threading.Event(), threading.Event()
        self.let_go.set()
        self.reading_waits.set()
        self.mistake: Exception | None = None

    def add(self, batch: Mapping[UsageKey, UsageCounts]) -> None:
        self.begun.set()
        assert self.let_go.wait(30)
        if self.mistake is not None:
            raise self.mistake
        super().add(batch)
        self.written.set()

    def totals(self, tenant_id: str, since_hour: int) -> tuple[Totals, int]:
        found = super().totals(tenant_id, since_hour)
        self.reading.set()
        assert self.reading_waits.wait(30)
        return found

    def close(self) -> None:
        super().close()
        self.closed.set()


def add(log: UsageLog, model: str = "a", tenant: str = "acme", **used: int) -> None:
    """Count one request."""
    log.add(tenant, "https://api.openai.com", model, **used)


def in_file(path: Path, expression: str, where: str = "1") -> tuple[object, ...]:
    """What a tool of somebody else finds."""
    connection = sqlite3.connect(path)
    try:
        (row,) = connection.execute(f"SELECT {expression} FROM usage WHERE {where}").fetchall()
        return tuple(row)
    finally:
        connection.close()
