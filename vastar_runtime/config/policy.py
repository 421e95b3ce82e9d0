"""What the stages of the pipeline are set to for one request: one frozen struct for each stage, defaults included.

The names are those of the file's tables and keys; None is the file's "none": no limit. The defaults change nothing
for users of the existing runtime but what it advertises: retries and circuit breakers are on.
"""

from __future__ import annotations

import msgspec

PERIODS_S = {"s": 1, "min": 60, "h": 3600}
_UNITS = {period_s: unit for unit, period_s in PERIODS_S.items()}


class Rate(msgspec.Struct, frozen=True):
    """So many requests, or tokens, in so long: "100/s", "60/min", "1000/h" in the file.

    Attributes:
        count: at least 1.
        period_s: one of PERIODS_S.
    """

    count: int
    period_s: int

    def __str__(self) -> str:
        """As the file has it."""
        return f"{self.count}/{_UNITS[self.period_s]}"


class DeadlinePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Time limits, in milliseconds.

    Attributes:
        max_duration_ms: of a whole request, its queueing, retries and body included; a client may ask for less.
        idle_timeout_ms: for a request without a deadline of its own: to the first byte, and between bytes.
        connect_timeout_ms: DNS, TCP, a proxy's tunnel and TLS, for each connection.
        first_byte_timeout_ms: from the request's last byte to the response head, for each attempt.
        between_bytes_timeout_ms: between two pieces of a body.
    """

    max_duration_ms: int | None = None
    idle_timeout_ms: int = 60_000
    connect_timeout_ms: int = 10_000
    first_byte_timeout_ms: int | None = None
    between_bytes_timeout_ms: int | None = None


class ConcurrencyPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests of one tenant may run, and wait, at once.

    Attributes:
        max_per_tenant: running.
        max_queued_per_tenant: waiting for one of those to end; 0 refuses at once.
    """

    max_per_tenant: int | None = None
    max_queued_per_tenant: int = 256


class EgressPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests may go. Rules are origins, as ``origins.parse_pattern`` takes them, and networks.

    Attributes:
        allow: the only places; None: all.
        deny: never these, whatever ``allow`` says.
        private: "deny": no address that is not a public one, unless ``allow`` has its network or that very address.
    """

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    private: str = "allow"

    @property
    def limits_anything(self) -> bool:
        """Whether any place is closed."""
        return self.allow is not None or bool(self.deny) or self.private == "deny"

    @property
    def limits_origins(self) -> bool:
        """Whether any is by its name."""
        return any("://" in rule for rule in (*(self.allow or ()), *self.deny))


class TokenLimitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How many tokens of language models may be used; a request must be within all three.

    Attributes:
        per_tenant: by one tenant, whatever the origin, in any so long a time.
        per_origin: with one origin, by all tenants together.
        per_tenant_and_origin: by one tenant with one origin.
        assumed_completion_tokens: what an answer is taken for, before it is there, if its request does not limit it.
    """

    per_tenant: Rate | None = None
    per_origin: Rate | None = None
    per_tenant_and_origin: Rate | None = None
    assumed_completion_tokens: int = 1024

    @property
    def limits_anything(self) -> bool:
        """Whether there is any of them."""
        return not (self.per_tenant is self.per_origin is self.per_tenant_and_origin is None)


class RateLimitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often requests may be sent upstream, retries included; a request must be within all three.

    Attributes:
        per_tenant: by one tenant, whatever the origin.
        per_origin: to one origin, by all tenants together.
        per_tenant_and_origin: by one tenant to one origin.
        per_tenant_burst, per_origin_burst, per_tenant_and_origin_burst: how many may come at once after a pause;
            None: as many as the rate's count.
    """

    per_tenant: Rate | None = None
    per_tenant_burst: int | None = None
    per_origin: Rate | None = None
    per_origin_burst: int | None = None
    per_tenant_and_origin: Rate | None = None
    per_tenant_and_origin_burst: int | None = None

    @property
    def limits_anything(self) -> bool:
        """Whether there is any of them."""
        return not (self.per_tenant is self.per_origin is self.per_tenant_and_origin is None)


class CircuitBreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When an origin is left alone for a while, for each tenant on its own.

    Attributes:
        enabled: False: never.
        consecutive_failures: opens the circuit; None: only the rate does.
        failure_rate: share of failures in the window, above 0 and at most 1, that opens the circuit; None: only
            consecutive failures do.
        window_ms: the sliding window of that share.
        minimum_requests: in the window, before the share says anything.
        open_ms: how long it stays open at first; doubled each time that a probe fails.
        max_open_ms: what doubling ends at.
    """

    enabled: bool = True
    consecutive_failures: int | None = 5
    failure_rate: float | None = None
    window_ms: int = 10_000
    minimum_requests: int = 20
    open_ms: int = 30_000
    max_open_ms: int = 300_000


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a failed attempt is made again.

    Attributes:
        max_retries: after the first attempt; 0: never.
        first_backoff_ms: the first pause is random between 0 and this; doubled with each retry.
        max_backoff_ms: what doubling ends at.
        max_retry_after_ms: an upstream's Retry-After up to this is waited for; a longer one is passed to the client.
        budget_ratio: retries under way, as a share of the requests under way with that origin.
        budget_minimum: so many retries may be under way in any case.
    """

    max_retries: int = 2
    first_backoff_ms: int = 100
    max_backoff_ms: int = 10_000
    max_retry_after_ms: int = 10_000
    budget_ratio: float = 0.2
    budget_minimum: int = 3


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """All that applies to one request: to a tenant and an origin."""

    deadline: DeadlinePolicy = DeadlinePolicy()
    concurrency: ConcurrencyPolicy = ConcurrencyPolicy()
    egress: EgressPolicy = EgressPolicy()
    token_limit: TokenLimitPolicy = TokenLimitPolicy()
    rate_limit: RateLimitPolicy = RateLimitPolicy()
    circuit_breaker: CircuitBreakerPolicy = CircuitBreakerPolicy()
    retry: RetryPolicy = RetryPolicy()
