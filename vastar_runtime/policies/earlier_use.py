"""What budgets begin with: what was used in their day or month before this process counted it."""

from __future__ import annotations

import structlog
import trio

from vastar_runtime.telemetry.log import clean, without_quotations

from .allowance import Allowance, UsedBefore

log = structlog.get_logger()

# A budget whose use before the start is not known by then begins with none: requests wait for it.
USED_BEFORE_TIMEOUT_S = 1.0


class EarlierUse:
    """Asks for it, and does without an answer.

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

    async def of(self, allowance: Allowance, since_unix_s: int) -> int:
        """What was used of this allowance since then; 0 where nobody says, which is logged once until somebody does."""
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
                "use before the start is not known, budgets begin with none",
                budget=clean(allowance.key.name),
                tenant=clean(allowance.key.tenant_id or ""),
                error=clean(without_quotations(reason)),
            )
        return 0
