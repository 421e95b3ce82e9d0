"""The table, and how counts and names are kept in its columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

# One statement for many rows: at each of its own, the thread would give the interpreter up and wait for it again.
# Measured, 100 rows beside a busy event loop: 0.2 ms (executemany: 12 ms, at times 200). Every SQLite takes 999 values.
_ROWS_PER_STATEMENT = 90

COUNTS = (
    "requests",
    "estimated_requests",
    "prompt_tokens",
    "cached_prompt_tokens",
    "completion_tokens",
    "cost_nano",
)
"""The columns that are summed up; fields of UsageCounts."""

MAX_COUNT = 2**63 - 1  # an SQLite integer

TABLE = f"""CREATE TABLE usage (
    hour INTEGER NOT NULL, tenant TEXT NOT NULL, origin TEXT NOT NULL, model TEXT NOT NULL,
    {", ".join(f"{name} INTEGER NOT NULL" for name in COUNTS)},
    PRIMARY KEY (hour, tenant, origin, model)
) WITHOUT ROWID"""

_ROW = f"({', '.join('?' * (4 + len(COUNTS)))})"
_ADD = ", ".join(f"{name} = max(min({name} + excluded.{name}, {MAX_COUNT}), -{MAX_COUNT})" for name in COUNTS)
"""What an upsert does where there is a row. A sum of more than 64 bits becomes a real number, beyond MAX_COUNT."""


def insert(connection: sqlite3.Connection, rows: Sequence[tuple[int | str, ...]]) -> None:
    """Add these to those that are there; a row is the values of all columns."""
    for begin in range(0, len(rows), _ROWS_PER_STATEMENT):
        part = rows[begin : begin + _ROWS_PER_STATEMENT]
        connection.execute(
            f"INSERT INTO usage VALUES {', '.join([_ROW] * len(part))} "  # noqa: S608 - no foreign text
            f"ON CONFLICT DO UPDATE SET {_ADD}",
            [value for row in part for value in row],
        )


def clamped(number: int) -> int:
    """The nearest one from 0 on that can be kept."""
    return min(max(number, 0), MAX_COUNT)


def signed(count: int) -> int:
    """The nearest one that can be kept; a count may take back what was counted before."""
    return min(max(count, -MAX_COUNT), MAX_COUNT)


def stored_name(name: str) -> str:
    """A name as it is in the file, where half a surrogate pair is no text, and tools end one at a NUL."""
    return name.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def sum_of(column: str) -> str:
    """Two expressions for a SELECT, and for ``whole``: a sum of more than 64 bits is an error in SQLite."""
    return f"sum(CAST({column} AS INTEGER) / 4294967296), sum(CAST({column} AS INTEGER) % 4294967296)"


def whole(high: int | None, low: int | None) -> int:
    """The sum, from the values of ``sum_of``; of no rows it is 0."""
    return ((high or 0) << 32) + (low or 0)
