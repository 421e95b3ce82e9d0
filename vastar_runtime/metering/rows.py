"""The table, and how counts and names are kept in its columns."""

from __future__ import annotations

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

ADD = ", ".join(f"{name} = max(min({name} + excluded.{name}, {MAX_COUNT}), -{MAX_COUNT})" for name in COUNTS)
"""What an upsert does where there is a row. A sum of more than 64 bits becomes a real number, beyond MAX_COUNT."""


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
