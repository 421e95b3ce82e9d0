"""What clients think of must fill neither memory nor disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from usage_disk import HOUR, Disk, add, in_file, now

from vastar_runtime.metering import batch
from vastar_runtime.metering.batch import OTHER, Totals
from vastar_runtime.metering.ledger import UsageLog
from vastar_runtime.metering.rows import MAX_COUNT

REQUESTS = "sum(requests)"
GROUPS = "count(*), sum(requests)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def disk(path: Path) -> Iterator[Disk]:
    disk = Disk(str(path))
    yield disk
    disk.close()


@pytest.fixture
def log(disk: Disk) -> UsageLog:
    return UsageLog(disk, now)


async def test_names_without_end_are_counted_together_in_bounded_memory(
    log: UsageLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_BATCH_KEYS", 20)
    monkeypatch.setattr(batch, "MAX_OTHER_TENANTS", 5)
    for number in range(30):
        add(log, f"model-{number}", prompt_tokens=1)
    for number in range(10):
        add(log, tenant=f"tenant-{number}", prompt_tokens=1)
    for _ in range(2):
        add(log, "model-0", prompt_tokens=1)
    await log.flush()
    assert in_file(path, f"{GROUPS}, sum(prompt_tokens)") == (26, 42, 42)
    assert in_file(path, REQUESTS, f"tenant = 'acme' AND model = '{OTHER}' AND origin = '{OTHER}'") == (10,)
    assert in_file(path, REQUESTS, "model = 'model-0'") == (3,)
    assert in_file(path, REQUESTS, "tenant = 'tenant-3'") == (1,)
    assert in_file(path, REQUESTS, f"tenant = '{OTHER}'") == (6,)


async def test_new_names_in_every_batch_do_not_fill_the_disk(
    log: UsageLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_BATCH_KEYS", 20)
    for number in range(10):
        for model in range(7):
            add(log, f"{number}-{model}")
        await log.flush()
    assert in_file(path, GROUPS) == (21, 70)


async def test_hours_without_a_disk_are_kept_in_bounded_memory(
    disk: Disk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_BATCH_KEYS", 20)
    monkeypatch.setattr(batch, "MAX_OTHER_TENANTS", 5)
    path.mkdir()
    clock = [HOUR * 3600.0]
    log = UsageLog(disk, lambda: clock[0])
    for _ in range(10):
        clock[0] += 3600
        for model in range(7):
            add(log, f"model-{model}")
            await log.flush()
    assert len(log._batch) <= 20 + 5 + 10
    path.rmdir()
    await log.flush()
    assert in_file(path, "sum(requests), count(DISTINCT hour)") == (70, 10)


async def test_names_are_cut_where_those_of_the_log_are(log: UsageLog, path: Path) -> None:
    for end in ("a", "b"):
        add(log, "m" * 10_000 + end, tenant="t" * 257)
    await log.flush()
    assert in_file(path, "count(*), length(model), length(tenant)") == (1, 256, 256)
    assert await log.totals("t" * 500, 0) == Totals(0, 0)


async def test_counts_that_cannot_be_are_the_nearest_that_can(log: UsageLog, path: Path) -> None:
    add(log, prompt_tokens=-5, completion_tokens=10**30, cost_nano=-1, cached_prompt_tokens=-1)
    add(log, prompt_tokens=7)
    await log.flush()
    columns = "prompt_tokens, completion_tokens, cost_nano, cached_prompt_tokens"
    assert in_file(path, columns) == (7, MAX_COUNT, 0, 0)
