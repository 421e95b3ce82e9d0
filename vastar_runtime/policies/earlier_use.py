"""What budgets begin with: what was used in their day or month before this process counted it.

A ledger that is asked knows what this process has used, too, as soon as that is recorded. So the larger of both counts
holds: what the ledger says, and what was counted here. While it does not answer, what was counted here is all that is
known; nothing is refused for that, and it is asked again until it answers. Such a late answer has in it what requests
under way have recorded so far: that counts twice when they end, once for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import structlog
import trio

from vastar_runtime.telemetry.log import clean, without_quotations

from .allowance import Allowance, UsedBefore

log = structlog.get_logger()

# The first request of a budget waits for what was used before for so long.
USED_BEFORE_TIMEOUT_S = 1.0
# Then it is asked for when a request comes, not more often than this, and requests wait for so long.
ASK_AGAIN_S = 1.0
AGAIN_WAIT_S = 0.1
# Where other processes record, they may be as late as this, once what kept the ledger has gone: until then it is asked
# on after its first answer.
RECORDED_AFTER_S = 15.0


class EarlierUse:
    """Asks for it.

    Args:
        used_before: None: there was none.
    """

    def __init__(self, used_before: UsedBefore | None) -> None:
        self._used_before = used_before
        self._may_log = True

    @property
    def is_none(self) -> bool:
        """There is nothing to ask about."""
        return self._used_before is None

    async def of(self, allowance: Allowance, since_unix_s: int) -> int | None:
        """What was used of this allowance since then; None: nobody says, which is logged once until somebody does."""
        assert self._used_before is not None
        reason = f"no answer within {USED_BEFORE_TIMEOUT_S:.0f} s"
        with trio.move_on_after(USED_BEFORE_TIMEOUT_S):
            try:
                amount = await self._used_before(allowance.key, since_unix_s)
            except Exception as error:  # whatever keeps the ledger: requests are not refused for it
                reason = f"{type(error).__name__}: {error}"
            else:
                self._may_log = True
                return amount.of(allowance.unit)
        if self._may_log:
            self._may_log = False
            log.warning(
                "a budget begins with what is known here, until what was used before can be had",
                budget=clean(allowance.key.name),
                tenant=clean(allowance.key.tenant_id or ""),
                error=clean(without_quotations(reason)),
            )
        return None


class Question:
    """What was used of one allowance: asked in the background, again and again, until there is an answer for good."""

    __slots__ = ("_asking", "_earlier_use", "_has_failed", "_is_answered", "_next_at_s", "_sure_at_s")

    def __init__(self, earlier_use: EarlierUse) -> None:
        self._earlier_use = earlier_use
        self._asking: trio.Event | None = None
        self._is_answered = self._has_failed = False
        self._next_at_s = self._sure_at_s = -math.inf

    @property
    def is_done(self) -> bool:
        """There is nothing more to ask."""
        return self._is_answered and self._asking is None and trio.current_time() >= self._sure_at_s

    async def ask(self, allowance: Allowance, since_unix_s: int, learn: Callable[[int], None]) -> None:
        """Have it asked, if it is time to, and wait for a first answer, a short time only.

        Args:
            learn: is told each answer when it comes, whoever waits then; it must not raise anything.
        """
        if self._asking is None:
            if trio.current_time() < self._next_at_s:
                return
            self._asking = trio.Event()
            trio.lowlevel.spawn_system_task(
                self._ask, self._asking, allowance, since_unix_s, learn, name="use before the start"
            )
        if self._is_answered:
            return
        asking = self._asking
        if not self._has_failed:
            await asking.wait()
            return
        with trio.move_on_after(AGAIN_WAIT_S):
            await asking.wait()

    async def _ask(
        self, asking: trio.Event, allowance: Allowance, since_unix_s: int, learn: Callable[[int], None]
    ) -> None:
        try:
            used = await self._earlier_use.of(allowance, since_unix_s)
            if used is None:
                self._has_failed = True
            else:
                if not self._is_answered and self._has_failed:
                    self._sure_at_s = trio.current_time() + RECORDED_AFTER_S
                self._is_answered = True
                learn(used)
        finally:
            self._next_at_s = trio.current_time() + ASK_AGAIN_S
            self._asking = None
            asking.set()
