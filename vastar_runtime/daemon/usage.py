"""Where this process counts what requests use, and what budgets begin with."""

from __future__ import annotations

import os

import structlog

from vastar_runtime.config import Settings
from vastar_runtime.config.state import no_place, usage_path
from vastar_runtime.metering.ledger import UsageLog
from vastar_runtime.metering.store import UsageStore
from vastar_runtime.policies.allowance import AllowanceKey, Amount, UsedBefore

log = structlog.get_logger()


def usage_log(settings: Settings) -> UsageLog:
    """The one that the settings name."""
    path = usage_path(settings, os.environ)
    if path is None and settings.usage.file == "auto":
        log.warning(f"usage is not kept: {no_place(os.environ)}; name a file in [usage]")
    return UsageLog(None if path is None else UsageStore(path, keep_days=settings.usage.keep_days))


def used_before(usage: UsageLog) -> UsedBefore:
    """What a budget's tenant has used, according to the file."""

    async def totals(key: AllowanceKey, since_unix_s: int) -> Amount:
        tokens, cost_nano = await usage.totals(key.tenant_id or "", since_unix_s)
        return Amount(tokens, cost_nano)

    return totals
