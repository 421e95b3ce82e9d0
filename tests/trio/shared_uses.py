"""What is used of an allowance in Redis, and how much Redis says that is."""

from __future__ import annotations

import msgspec
from redis_server import denied, got, tokens, told

from vastar_runtime.policies.allowance import Allowance
from vastar_runtime.shared.redis_limits import RedisLimits


async def use(limits: RedisLimits, allowance: Allowance, count: int) -> None:
    limits.allowances.settle(got(await limits.allowances.reserve([allowance], tokens(count))), tokens(count))
    await told(limits)


async def used_and_reserved(limits: RedisLimits, allowance: Allowance) -> tuple[int, int]:
    """As Redis counts them."""
    allowance = msgspec.structs.replace(allowance, limit=0)
    refused = denied(await limits.allowances.reserve([allowance], tokens(1)))
    return refused.used, refused.reserved
