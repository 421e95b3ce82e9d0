"""What was counted and is not on the disk yet; in bounded memory, whatever names clients think of."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple, Protocol

# Of one batch, and of what one process counts apart in one hour: so many rows an hour come into the file. A thousand
# tenants with three models at three origins fit.
MAX_BATCH_KEYS = 10_000
# On top of those: tenants whose other requests are counted together.
MAX_OTHER_TENANTS = 1_000
# As long as names may be in the log. What two longer ones have in common is one name.
MAX_NAME_CHARACTERS = 256
OTHER = "(other)"

SECONDS_PER_HOUR = 3600


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
    """Sums of requests.

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


class _Keys(Container[UsageKey], Protocol):
    def __len__(self) -> int: ...


def named(name: str) -> str:
    """A name as it is counted under."""
    return name if len(name) <= MAX_NAME_CHARACTERS else name[:MAX_NAME_CHARACTERS]


def fitting(key: UsageKey, keys: _Keys) -> UsageKey:
    """The key, if it is one of these or there is room for one more; else one that it shares with others.

    So there are never more than MAX_BATCH_KEYS + MAX_OTHER_TENANTS, and one for each hour.
    """
    if key in keys or len(keys) < MAX_BATCH_KEYS:
        return key
    of_tenant = UsageKey(key.hour, key.tenant_id, OTHER, OTHER)
    if of_tenant in keys or len(keys) < MAX_BATCH_KEYS + MAX_OTHER_TENANTS:
        return of_tenant
    return UsageKey(key.hour, OTHER, OTHER, OTHER)


def merge(batch: Batch, other: Mapping[UsageKey, UsageCounts]) -> None:
    """Count what is in another batch in this one, too."""
    for key, counts in other.items():
        batch.setdefault(fitting(key, batch), UsageCounts()).merge(counts)


def totals_of(batch: Mapping[UsageKey, UsageCounts], tenant_id: str, since_hour: int) -> Totals:
    """What a tenant has used from this hour on, according to this batch."""
    tokens = cost_nano = 0
    for key, counts in batch.items():
        if key.tenant_id == tenant_id and key.hour >= since_hour:
            tokens += counts.prompt_tokens + counts.completion_tokens
            cost_nano += counts.cost_nano
    return Totals(tokens, cost_nano)
