"""Usage is counted at once and written soon, whatever the disk does."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked
from usage_disk import HOUR, Disk, add, in_file, now

from vastar_runtime.metering.batch import Totals
from vastar_runtime.metering.ledger import CLOSE_AFTER_S, FLUSH_INTERVAL_S, MAX_WAIT_S, UsageLog
from vastar_runtime.metering.store import UsageFileError

REQUESTS = "sum(requests)"
GROUPS = "count(*), sum(requests)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def disk(path: Path) -> Iterator[Disk]:
    disk = Disk(str(path))
    yield disk
    disk.let_go.set()
    disk.close()


@pytest.fixture
def log(disk: Disk) -> UsageLog:
    return UsageLog(disk, now)


async def happened(event: threading.Event) -> None:
    """It has happened in another thread."""
    assert await trio.to_thread.run_sync(event.wait, 30)
    event.clear()


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


async def test_a_file_that_cannot_be_used_is_said_once_and_costs_nothing_when_it_can_be_again(
    log: UsageLog, path: Path
) -> None:
    path.write_bytes(b"no database " * 1000)
    with capture_logs() as lines:
        for _ in range(3):
            add(log, prompt_tokens=2)
            await log.flush()
        path.unlink()
        add(log, "b", prompt_tokens=2)
        await log.flush()
        await log.flush()
    assert in_file(path, f"{GROUPS}, sum(prompt_tokens)") == (2, 4, 8)
    failed, again = lines
    assert (failed["log_level"], again["log_level"]) == ("warning", "info")
    assert failed["reason"].startswith(f"the usage file {path} cannot be used: it is no SQLite database; ")
    assert again == {"event": "usage is written again", "file": str(path), "log_level": "info"}


async def test_another_reason_is_said_again_and_the_present_one_can_be_asked_for(log: UsageLog, path: Path) -> None:
    assert log.problem is None
    with capture_logs() as lines:
        path.mkdir()
        for _ in range(2):
            add(log)
            await log.flush()
        assert log.problem == f"the usage file {path} cannot be used: it is a directory; choose another in [usage] file"
        path.rmdir()
        path.write_bytes(b"no database " * 1000)
        for _ in range(2):
            await log.flush()
        assert log.problem is not None
        assert "it is no SQLite database" in log.problem
        path.unlink()
        await log.flush()
    assert log.problem is None
    assert [line.get("reason", "")[-40:] for line in lines] == [
        "is a directory; choose another in [usage] file"[-40:],
        "move it away, or choose another in [usage] file"[-40:],
        "",
    ]


async def test_a_file_that_cannot_be_used_is_tried_again_after_longer_and_longer_pauses(
    log: UsageLog, disk: Disk, path: Path, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    path.mkdir()
    nursery.start_soon(log.flush_forever)
    add(log)
    for pause_s in (0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
        await wait_all_tasks_blocked()
        mock_clock.jump(pause_s - 0.1)
        await wait_all_tasks_blocked()
        assert not disk.begun.is_set()
        mock_clock.jump(0.2)
        await happened(disk.begun)
        while log._write is not None:
            await trio.lowlevel.checkpoint()
    path.rmdir()
    await wait_all_tasks_blocked()
    mock_clock.jump(10.1)
    await happened(disk.begun)
    await log.flush()
    assert in_file(path, REQUESTS) == (1,)


async def test_a_disk_that_hangs_is_waited_for_in_one_thread_and_nothing_is_written_twice(
    log: UsageLog, disk: Disk, path: Path, mock_clock: MockClock
) -> None:
    disk.let_go.clear()
    with capture_logs() as lines:
        for attempt in range(4):
            add(log, f"model-{attempt}", prompt_tokens=1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(log.flush)
                if not attempt:
                    await happened(disk.begun)
                await wait_all_tasks_blocked()
                mock_clock.jump(MAX_WAIT_S + 0.1)
        assert not disk.begun.is_set()
        assert await log.totals("acme", 0) == Totals(4, 0)
        disk.let_go.set()
        await log.flush()
    assert in_file(path, GROUPS) == (4, 4)
    assert [line["event"] for line in lines] == [
        "usage is not written; it is kept in memory and tried again",
        "usage is written again",
    ]
    assert lines[0]["reason"] == f"the disk of {path} takes longer than {MAX_WAIT_S:g} s"


async def test_a_disk_that_does_not_read_is_an_error_after_a_while(
    log: UsageLog, disk: Disk, path: Path, mock_clock: MockClock
) -> None:
    disk.reading_waits.clear()

    async def ask() -> None:
        with pytest.raises(UsageFileError, match=f"its disk takes longer than {MAX_WAIT_S:g} s"):
            await log.totals("acme", 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await happened(disk.reading)
        mock_clock.jump(MAX_WAIT_S + 0.1)
    disk.reading_waits.set()


async def test_a_batch_that_is_on_its_way_counts_once(log: UsageLog, disk: Disk, mock_clock: MockClock) -> None:
    disk.let_go.clear()
    add(log, prompt_tokens=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.flush)
        await happened(disk.begun)
        assert await log.totals("acme", 0) == Totals(10, 0)
        mock_clock.jump(MAX_WAIT_S + 0.1)  # it is not waited for any more
        await wait_all_tasks_blocked()
        assert await log.totals("acme", 0) == Totals(10, 0)
        disk.let_go.set()
        await trio.to_thread.run_sync(disk.written.wait, 30)
        assert log._write is not None
        assert await log.totals("acme", 0) == Totals(10, 0)
    await log.flush()
    assert await log.totals("acme", 0) == Totals(10, 0)


async def test_a_process_that_can_start_no_thread_keeps_everything(
    log: UsageLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with capture_logs() as lines:
        with monkeypatch.context() as patched:
            patched.setattr(trio.to_thread, "run_sync", no_thread)
            for _ in range(2):
                add(log, prompt_tokens=5)
                await log.flush()
            with pytest.raises(UsageFileError, match="can't start new thread"):
                await log.totals("acme", 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(log.flush_forever)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        await log.flush()
    assert in_file(path, GROUPS) == (1, 2)
    assert lines[0]["reason"] == "can't start new thread"


async def test_a_disk_that_hung_and_then_failed_has_lost_nothing(
    log: UsageLog, disk: Disk, path: Path, mock_clock: MockClock
) -> None:
    path.mkdir()
    disk.let_go.clear()
    add(log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.flush)
        await happened(disk.begun)
        add(log)
        mock_clock.jump(MAX_WAIT_S + 0.1)
    disk.let_go.set()
    await log.flush()
    path.rmdir()
    await log.flush()
    assert in_file(path, GROUPS) == (1, 2)


async def test_a_disk_that_hangs_does_not_keep_the_daemon_from_ending(
    log: UsageLog, disk: Disk, mock_clock: MockClock
) -> None:
    disk.let_go.clear()
    add(log)
    daemon = trio.CancelScope()

    async def run() -> None:
        with daemon:
            await log.flush_forever()

    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await wait_all_tasks_blocked()
            mock_clock.jump(FLUSH_INTERVAL_S)
            await happened(disk.begun)
            add(log)
            daemon.cancel()
            for _ in range(2):  # for the one under way, and for the last one
                await wait_all_tasks_blocked()
                mock_clock.jump(MAX_WAIT_S + 0.1)
    assert lines[-1] == {"event": "usage lost: it could not be written", "requests": 2, "log_level": "warning"}


async def test_a_mistake_of_ours_costs_one_batch_and_not_those_after_it(log: UsageLog, disk: Disk, path: Path) -> None:
    disk.mistake = ZeroDivisionError()
    add(log, "poison")
    with capture_logs() as lines:
        await log.flush()
    assert [(line["event"], line["requests"]) for line in lines] == [("internal error; usage lost", 1)]
    disk.mistake = None
    add(log)
    await log.flush()
    assert in_file(path, REQUESTS) == (1,)
