"""Usage that cannot be written at once is kept, told of, and written later."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked
from usage_disk import Disk, add, in_file
from usage_log_under_test import GROUPS, REQUESTS, disk, happened, log, path

from vastar_runtime.metering.batch import Totals
from vastar_runtime.metering.ledger import FLUSH_INTERVAL_S, MAX_WAIT_S, UsageLog
from vastar_runtime.metering.store import UsageFileError

__all__ = ["disk", "log", "path"]  # the fixtures


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
