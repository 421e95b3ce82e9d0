"""Usage is counted at once and written soon, and totals are exact at any moment."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked
from usage_disk import HOUR, Disk, add, in_file, now
from usage_log_under_test import REQUESTS, disk, happened, log, path

from vastar_runtime.metering.batch import Totals
from vastar_runtime.metering.ledger import CLOSE_AFTER_S, FLUSH_INTERVAL_S, UsageLog
from vastar_runtime.metering.store import UsageFileError

__all__ = ["disk", "log", "path"]  # the fixtures


async def test_what_is_counted_is_written_half_a_second_later(
    log: UsageLog, disk: Disk, path: Path, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(log.flush_forever)
    add(log, prompt_tokens=5, completion_tokens=2, cost_nano=9)
    await wait_all_tasks_blocked()
    mock_clock.jump(FLUSH_INTERVAL_S - 0.01)
    await wait_all_tasks_blocked()
    assert not path.exists()
    add(log, cached_prompt_tokens=3, is_estimated=True)
    mock_clock.jump(0.02)
    await happened(disk.begun)
    await log.flush()
    assert in_file(path, "hour, requests, estimated_requests, prompt_tokens, cached_prompt_tokens") == (
        HOUR,
        2,
        1,
        5,
        3,
    )
    assert in_file(path, "completion_tokens, cost_nano") == (2, 9)


async def test_an_idle_daemon_holds_nothing_open_and_goes_on_with_the_next_request(
    log: UsageLog, disk: Disk, path: Path, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(log.flush_forever)
    for count in (1, 2):
        add(log)
        await wait_all_tasks_blocked()
        mock_clock.jump(FLUSH_INTERVAL_S)
        await happened(disk.begun)
        await log.flush()
        assert in_file(path, REQUESTS) == (count,)
        await wait_all_tasks_blocked()
        mock_clock.jump(CLOSE_AFTER_S)
        await happened(disk.closed)
        await log.flush()
        assert os.listdir(path.parent) == ["usage.db"]


async def test_the_last_requests_are_written_when_the_daemon_ends(log: UsageLog, path: Path) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.flush_forever)
        await wait_all_tasks_blocked()
        for _ in range(3):
            add(log)
        nursery.cancel_scope.cancel()
    assert in_file(path, REQUESTS) == (3,)
    assert os.listdir(path.parent) == ["usage.db"]


async def test_without_a_file_nothing_is_counted() -> None:
    log = UsageLog(None)
    add(log, prompt_tokens=5)
    await log.flush()
    await log.flush_forever()
    assert await log.totals("acme", 0) == Totals(0, 0)


async def test_the_hour_of_a_request_is_the_one_at_which_it_is_counted(disk: Disk, path: Path) -> None:
    clock = [HOUR * 3600 + 3599.9]
    log = UsageLog(disk, lambda: clock[0])
    add(log)
    clock[0] += 0.2
    add(log)
    await log.flush()
    assert in_file(path, "count(*), min(hour), max(hour)") == (2, HOUR, HOUR + 1)


async def test_totals_are_exact_at_the_moment_they_are_told(log: UsageLog, disk: Disk, path: Path) -> None:
    other = Disk(str(path))
    in_other = UsageLog(other, now)
    add(in_other, prompt_tokens=100)
    await in_other.flush()
    other.close()
    add(log, prompt_tokens=10, completion_tokens=1, cost_nano=3)
    add(log, tenant="somebody else", prompt_tokens=999)
    disk.reading_waits.clear()
    told: list[Totals] = []

    async def ask() -> None:
        told.append(await log.totals("acme", HOUR * 3600 + 3599))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await happened(disk.reading)
        add(log, completion_tokens=1, cost_nano=1)  # between the reading and the answer
        disk.reading_waits.set()
    assert told == [Totals(112, 4)]
    assert await log.totals("acme", (HOUR + 1) * 3600) == Totals(0, 0)


async def test_totals_with_a_file_that_cannot_be_read_are_an_error_and_nothing_is_said_of_writing(
    log: UsageLog, path: Path
) -> None:
    path.write_bytes(b"no database " * 1000)
    add(log, prompt_tokens=10, cost_nano=5)
    with capture_logs() as lines:
        with pytest.raises(UsageFileError, match="it is no SQLite database"):
            await log.totals("acme", 0)
        path.unlink()
        assert await log.totals("acme", 0) == Totals(10, 5)
    assert lines == []
    assert not path.exists()


async def test_totals_can_be_had_while_somebody_keeps_the_file_from_being_written(
    log: UsageLog, disk: Disk, path: Path
) -> None:
    add(log, prompt_tokens=100)
    await log.flush()
    add(log, prompt_tokens=10)
    tool = sqlite3.connect(path, isolation_level=None)
    tool.execute("BEGIN IMMEDIATE")
    async with trio.open_nursery() as nursery:
        disk.begun.clear()
        nursery.start_soon(log.flush)
        await happened(disk.begun)
        add(log, prompt_tokens=1)
        assert await log.totals("acme", 0) == Totals(111, 0)
        tool.execute("ROLLBACK")
    tool.close()
    await log.flush()
    assert await log.totals("acme", 0) == Totals(111, 0)


async def test_a_batch_that_is_written_after_the_file_was_read_is_not_missed(log: UsageLog, disk: Disk) -> None:
    add(log, prompt_tokens=100)
    await log.flush()
    add(log, prompt_tokens=10)
    disk.reading_waits.clear()
    told: list[Totals] = []

    async def ask() -> None:
        told.append(await log.totals("acme", 0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await happened(disk.reading)
        await log.flush()
        disk.reading_waits.set()
    assert told == [Totals(110, 0)]
