"""All limits that are shared through one Redis."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

import trio

from vastar_runtime.policies.allowance import UsedBefore
from vastar_runtime.policies.local_allowances import LocalAllowances
from vastar_runtime.policies.token_bucket import LocalBackend

from .redis_address import RedisAddress
from .redis_allowances import RedisAllowances
from .redis_link import RECOVERY_S, REDIS_TIMEOUT_S, RedisLink
from .redis_rate_limits import RedisRateLimits
from .unavailable import Fail


class RedisLimits:
    """Rate limits and allowances over one connection; ``run`` keeps it.

    Args:
        prefix: daemons with the same one count together.
        daemon: its name, the same after a restart and no other daemon's: what ``used_before`` says is of this one.
        fail: what holds while Redis does not answer.
        used_before: what this daemon has used of a budget; see LocalAllowances.
        ssl_context: for rediss://; None: trusts the system's authorities.
        clock, unix_clock: of what is counted in this process while Redis does not answer.
        timeout_s, recovery_s: see RedisLink.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        prefix: str,
        daemon: str,
        fail: Fail,
        used_before: UsedBefore | None = None,
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = trio.current_time,
        unix_clock: Callable[[], float] = time.time,
        timeout_s: float = REDIS_TIMEOUT_S,
        recovery_s: float = RECOVERY_S,
    ) -> None:
        self._link = RedisLink(
            address,
            prefix=prefix,
            daemon=daemon,
            fail=fail,
            ssl_context=ssl_context,
            timeout_s=timeout_s,
            recovery_s=recovery_s,
        )
        self.rate_limits = RedisRateLimits(self._link, fail=fail, local=LocalBackend(clock))
        self.allowances = RedisAllowances(
            self._link,
            fail=fail,
            local=LocalAllowances(clock, unix_clock, used_before),
            used_before=used_before,
        )
        self._link.contributors += [self.rate_limits, self.allowances]

    @property
    def address(self) -> str:
        """Where Redis is."""
        return str(self._link.address)

    @property
    def reason(self) -> str | None:
        """Why Redis does not count at the moment; None: it does."""
        return self._link.reason

    @property
    def is_available(self) -> bool:
        """Whether Redis counts at the moment."""
        return self._link.is_available

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; started when Redis was reached for the first time, or was not.

        Cancel it last, after ``allowances.all_told`` with a time limit: what Redis was not told of a reservation counts
        as used in full.
        """
        await self._link.run(task_status=task_status)
