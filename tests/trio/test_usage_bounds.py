"""What clients think of must fill neither memory nor disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from usage_disk import HOUR, Disk, add, in_file
from usage_log_under_test import GROUPS, REQUESTS, disk, log, path

from vastar_runtime.metering import batch, names
from vastar_runtime.metering.batch import OTHER, Totals
from vastar_runtime.metering.ledger import UsageLog
from vastar_runtime.metering.names import MAX_KEYS_OF_TENANT
from vastar_runtime.metering.rows import MAX_COUNT

__all__ = ["disk", "log", "path"]  # the fixtures


async def test_one_tenant_s_names_without_end_cost_no_other_tenant_its_own(log: UsageLog, path: Path) -> None:
    for number in range(10_000):
        add(log, f"m{number}", tenant="evil", prompt_tokens=1)
    add(log, tenant="victim", prompt_tokens=1000)
    for number in range(1500):
        add(log, tenant=f"evil-{number}", prompt_tokens=1)
    add(log, "gpt", tenant="another victim", prompt_tokens=5000)
    await log.flush()
    assert in_file(path, GROUPS, "tenant = 'evil'") == (MAX_KEYS_OF_TENANT + 1, 10_000)
    others = f"tenant = 'evil' AND model = '{OTHER}' AND origin = '{OTHER}'"
    assert in_file(path, REQUESTS, others) == (10_000 - MAX_KEYS_OF_TENANT,)
    assert in_file(path, "model, prompt_tokens", "tenant = 'victim'") == ("a", 1000)
    assert in_file(path, "model, prompt_tokens", "tenant = 'another victim'") == ("gpt", 5000)
    assert in_file(path, "count(*)", f"tenant = '{OTHER}'") == (0,)


async def test_tenants_without_end_cost_none_that_is_named_or_was_seen_before_its_own_name(
    disk: Disk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MAX_NEWCOMERS", 50)
    clock = [HOUR * 3600.0]
    earlier = UsageLog(disk, lambda: clock[0])
    add(earlier, tenant="of the file")
    await earlier.flush()
    log = UsageLog(disk, lambda: clock[0])
    log.keep_names(["configured", "t" * 200])
    add(log, tenant="seen")
    await log.flush()
    clock[0] += 3600
    for number in range(200):
        add(log, tenant=f"evil-{number}")
    for tenant in ("of the file", "configured", "t" * 200, "seen"):
        add(log, tenant=tenant, prompt_tokens=7)
    await log.flush()
    assert in_file(path, REQUESTS, f"tenant = '{OTHER}'") == (150,)
    for tenant in ("of the file", "configured", "t" * 200, "seen"):
        assert await log.totals(tenant, HOUR * 3600) == Totals(7, 0)


async def test_new_names_in_every_batch_do_not_fill_the_disk(
    log: UsageLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MAX_KEYS_OF_TENANT", 20)
    for number in range(10):
        for model in range(7):
            add(log, f"{number}-{model}")
        await log.flush()
    assert in_file(path, GROUPS) == (21, 70)


async def test_days_without_a_disk_are_kept_in_bounded_memory_and_no_total_is_lost(
    disk: Disk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_BATCH_KEYS", 40)
    monkeypatch.setattr(names, "MAX_KNOWN", 3)
    path.mkdir()
    clock = [HOUR * 3600.0]
    log = UsageLog(disk, lambda: clock[0])
    log.keep_names(["acme"])
    hours = 24 * 75
    for hour in range(hours):
        for model in range(3):
            add(log, f"model-{model}", prompt_tokens=hour + 1)
        add(log, tenant=f"evil-{hour}")
        if hour % 100 == 0:
            await log.flush()
        clock[0] += 3600
    assert len(log._batch) <= 40
    path.rmdir()
    await log.flush()
    assert in_file(path, REQUESTS) == (4 * hours,)
    september, today = 31 * 24 - HOUR % 24, (HOUR + hours - 1) // 24 * 24 - HOUR
    for since in (september, today):
        expected = sum(3 * (hour + 1) for hour in range(since, hours))
        assert await log.totals("acme", (HOUR + since) * 3600) == Totals(expected, 0)


async def test_names_are_cut_and_stay_different(log: UsageLog, path: Path) -> None:
    for end in ("a", "b"):
        add(log, "m" * 10_000 + end, tenant="t" * 200 + end, prompt_tokens=ord(end))
        add(log, "\U0001f600" * 100 + end, tenant="\U0001f600" * 128, prompt_tokens=1)
    await log.flush()
    assert in_file(path, "count(*), max(length(model)), max(length(tenant))") == (4, 128, 128)
    assert in_file(path, "max(length(CAST(tenant AS BLOB))) <= 256, max(length(CAST(model AS BLOB))) <= 256") == (1, 1)
    for end in ("a", "b"):
        assert await log.totals("t" * 200 + end, 0) == Totals(ord(end), 0)
    assert await log.totals("t" * 200, 0) == Totals(0, 0)


async def test_counts_that_cannot_be_are_the_nearest_that_can(log: UsageLog, path: Path) -> None:
    add(log, prompt_tokens=-(10**30), completion_tokens=10**30, cost_nano=-1, cached_prompt_tokens=-(10**30))
    add(log, prompt_tokens=7)
    await log.flush()
    columns = "prompt_tokens, completion_tokens, cost_nano, cached_prompt_tokens"
    assert in_file(path, columns) == (7 - MAX_COUNT, MAX_COUNT, -1, -MAX_COUNT)
    assert await log.totals("acme", 0) == Totals(7, 0)


async def test_a_request_that_is_counted_as_it_goes_on_is_one_request_and_what_is_told_at_last_holds(
    log: UsageLog, path: Path
) -> None:
    add(log, "asked", prompt_tokens=100, completion_tokens=10, cost_nano=9, is_estimated=True)
    await log.flush()
    add(log, "asked", requests=0, completion_tokens=30, cost_nano=3, is_estimated=True)
    assert await log.totals("acme", 0) == Totals(140, 12)
    assert in_file(path, "requests, estimated_requests") == (1, 1)
    back = {"prompt_tokens": -100, "completion_tokens": -40, "cost_nano": -12}
    add(log, "asked", requests=-1, is_estimated=True, **back)
    assert await log.totals("acme", 0) == Totals(0, 0)
    add(log, "told", prompt_tokens=80, completion_tokens=35, cost_nano=10)
    await log.flush()
    assert await log.totals("acme", 0) == Totals(115, 10)
    assert in_file(path, "sum(requests), sum(estimated_requests)") == (1, 0)
    assert in_file(path, "requests, prompt_tokens", "model = 'asked'") == (0, 0)
