"""What holds while the shared limits cannot be asked."""

from __future__ import annotations

from typing import Literal

from vastar_runtime.errors import RateLimited

from .redis_address import RedisAddress

# Of a refusal: Redis is tried four times as often.
UNAVAILABLE_RETRY_MS = 1000

# "open": nothing is limited; "closed": nothing is let through; "local": this process counts alone.
Fail = Literal["open", "closed", "local"]


class Unavailable(Exception):
    """Redis did not answer as it should.

    Attributes:
        reason: a few words, without the password.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LimitsUnavailable(RateLimited):
    """Nobody knows whether the request is within its limits, and the configuration says to refuse it then."""

    def __init__(self, address: RedisAddress, reason: str) -> None:
        super().__init__(
            f"limits cannot be checked: Redis at {address} does not answer ({reason}); "
            f'try again in {UNAVAILABLE_RETRY_MS} ms (shared_limits.fail = "closed")',
            retry_after_ms=UNAVAILABLE_RETRY_MS,
        )
