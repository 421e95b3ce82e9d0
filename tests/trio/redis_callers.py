"""A process of callers that share one limit through Redis; prints when how much was used, by the machine's clock.

Arguments: the socket, the window in seconds, the number of callers, for how long they go on, a seed.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import structlog
import trio
from redis_server import RedisServer, limits_of, per_tenant, tokens

from vastar_runtime.policies.allowance import AllowanceRefused
from vastar_runtime.shared.redis_limits import RedisLimits
from vastar_runtime.shared.unavailable import LimitsUnavailable

LIMIT = 100
RECOVERY_S = 2.0
PAUSE_S = 0.05


async def call(limits: RedisLimits, period_s: int, dice: random.Random, ends_at_s: float) -> None:
    """Requests, one after the other; some are broken off."""
    while trio.current_time() < ends_at_s:
        estimate = dice.randrange(1, 9)
        try:
            decision = await limits.allowances.reserve([per_tenant(LIMIT, period_s=period_s)], tokens(estimate))
        except LimitsUnavailable:
            await trio.sleep(PAUSE_S)
            continue
        if isinstance(decision, AllowanceRefused):
            await trio.sleep(min(decision.retry_after_ms / 1000, PAUSE_S) * dice.uniform(0.5, 1))
            continue
        await trio.sleep(dice.choice([0, 0.01, 0.3, 1.0]) * dice.random())
        used = dice.choice([0, estimate, estimate, estimate, dice.randint(0, estimate)])
        sys.stdout.write(f"{time.monotonic_ns()} {used}\n")
        limits.allowances.settle(decision, tokens(used))


async def main(socket: str, period_s: int, callers: int, lasts_s: float, seed: int) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    server = RedisServer(Path(socket).parent)
    ends_at_s = trio.current_time() + lasts_s
    async with (
        limits_of(server, daemon=str(seed), timeout_s=1.0, recovery_s=RECOVERY_S, waits=False) as limits,
        trio.open_nursery() as nursery,
    ):
        for number in range(callers):
            nursery.start_soon(call, limits, period_s, random.Random(f"{seed} {number}"), ends_at_s)


if __name__ == "__main__":
    path, window, count, duration, number = sys.argv[1:]
    trio.run(main, path, int(window), int(count), float(duration), int(number))
