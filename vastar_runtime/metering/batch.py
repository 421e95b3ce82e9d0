"""What was counted and is not on the disk yet; in bounded memory, whatever names clients think of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

# What is in one batch before it is summed up more coarsely.
MAX_BATCH_KEYS = 16_384
# In the file, where rows of at most 1,000 bytes are packed; as long as models' names are in the log. A longer one ends
# in its hash: no two tenants become one.
MAX_NAME_CHARACTERS = 128
MAX_NAME_BYTES = 256
_HASH_CHARACTERS = 32
OTHER = "(other)"

SECONDS_PER_HOUR = 3600
HOURS_PER_DAY = 24


class UsageKey(NamedTuple):
    """What is counted apart.

    Attributes:
        hour: Unix time in hours.
        tenant_id, origin, model: as clients and upstreams name them; at most MAX_NAME_CHARACTERS.
    """

    hour: int
    tenant_id: str
    origin: str
    model: str


class UsageCounts:
    """Sums of requests; below 0 where they take back what was counted under another key or in another hour.

    Attributes:
        estimated_requests: those among them whose tokens are an estimate.
        cached_prompt_tokens: those among the prompt's that the upstream had in its cache.
        cost_nano: in 1e-9 of the configured currency.
    """

    __slots__ = (
        "cached_prompt_tokens",
        "completion_tokens",
        "cost_nano",
        "estimated_requests",
        "prompt_tokens",
        "requests",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.estimated_requests = 0
        self.prompt_tokens = 0
        self.cached_prompt_tokens = 0
        self.completion_tokens = 0
        self.cost_nano = 0

    def merge(self, other: UsageCounts) -> None:
        """Count what another one has counted, too."""
        self.requests += other.requests
        self.estimated_requests += other.estimated_requests
        self.prompt_tokens += other.prompt_tokens
        self.cached_prompt_tokens += other.cached_prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cost_nano += other.cost_nano


class Totals(NamedTuple):
    """What a tenant has used: tokens of prompts and completions, and money in 1e-9 of the configured currency."""

    tokens: int
    cost_nano: int


Batch = dict[UsageKey, UsageCounts]


def named(name: str) -> str:
    """A name as it is counted under."""
    if len(name) <= MAX_NAME_CHARACTERS and name.isascii():
        return name
    data = name.encode("utf-8", "surrogatepass")
    if len(name) <= MAX_NAME_CHARACTERS and len(data) <= MAX_NAME_BYTES:
        return name
    begin = data[: MAX_NAME_BYTES - _HASH_CHARACTERS - 1].decode("utf-8", "ignore")
    digest = hashlib.sha256(data).hexdigest()[:_HASH_CHARACTERS]
    return f"{begin[: MAX_NAME_CHARACTERS - _HASH_CHARACTERS - 1]}~{digest}"


def of_tenant(key: UsageKey, hour: int | None = None) -> UsageKey:
    """What all of a tenant's models and origins share."""
    return UsageKey(key.hour if hour is None else hour, key.tenant_id, OTHER, OTHER)


def merge(batch: Batch, other: Mapping[UsageKey, UsageCounts]) -> None:
    """Count what is in another batch in this one, too."""
    for key, counts in other.items():
        batch.setdefault(key, UsageCounts()).merge(counts)


def summed_up(batch: Batch, keeps_name: Callable[[str], bool]) -> Batch:
    """The same in fewer keys, half of MAX_BATCH_KEYS if that can be, with the days' and months' totals of those who
    keep their names; what is not on the disk for days is kept by tenant alone, at last by month but for the latest day.

    Args:
        keeps_name: of a tenant; those of the others are lost if nothing else helps.
    """
    last_day = max(key.hour for key in batch) // HOURS_PER_DAY if batch else 0

    def by_day(key: UsageKey) -> UsageKey:
        return of_tenant(key, key.hour - key.hour % HOURS_PER_DAY)

    def by_name(key: UsageKey) -> UsageKey:
        return by_day(key) if keeps_name(key.tenant_id) else by_day(key)._replace(tenant_id=OTHER)

    def by_month(key: UsageKey) -> UsageKey:
        if key.hour // HOURS_PER_DAY == last_day:
            return by_name(key)
        date = datetime.fromtimestamp(key.hour * SECONDS_PER_HOUR, UTC)
        return by_name(key)._replace(hour=key.hour - date.hour - (date.day - 1) * HOURS_PER_DAY)

    coarser: Callable[[UsageKey], UsageKey]
    for coarser in (of_tenant, by_day, by_name, by_month):
        fewer: Batch = {}
        for key, counts in batch.items():
            fewer.setdefault(coarser(key), UsageCounts()).merge(counts)
        batch = fewer
        if len(batch) <= MAX_BATCH_KEYS // 2:
            break
    return batch


def totals_of(batch: Mapping[UsageKey, UsageCounts], tenant_id: str, since_hour: int) -> Totals:
    """What a tenant has used from this hour on, according to this batch."""
    tokens = cost_nano = 0
    for key, counts in batch.items():
        if key.tenant_id == tenant_id and key.hour >= since_hour:
            tokens += counts.prompt_tokens + counts.completion_tokens
            cost_nano += counts.cost_nano
    return Totals(tokens, cost_nano)
