"""When commands are called: at once, before their output is too old, and again after a failure; never all together."""

from __future__ import annotations

import itertools
import os
import subprocess
import threading
from pathlib import Path

import pytest
import structlog
import trio
from credentials_under_test import credential, injection, is_running, refusal, running, state, until, value
from trio.testing import MockClock

from vastar_runtime.config import Credential
from vastar_runtime.credentials import child as children
from vastar_runtime.credentials import program
from vastar_runtime.credentials.credentials import MAX_COMMANDS
from vastar_runtime.credentials.errors import Unusable
from vastar_runtime.credentials.program import COMMAND_TIMEOUT_S, END_TIMEOUT_S, Program


def cat(path: Path, ttl_ms: int = 10_000) -> Credential:
    return credential(command=("/bin/cat", str(path)), ttl_ms=ttl_ms)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "printed"
    path.write_text("sk-1")
    return path


async def asleep() -> None:
    """Nothing is done until time has passed."""
    await trio.testing.wait_all_tasks_blocked(0.001)


async def test_the_next_output_is_fetched_before_the_last_one_is_too_old(path: Path, mock_clock: MockClock) -> None:
    async with running(cat(path)) as credentials:
        assert await injection(credentials).ready() == b"sk-1"
        path.write_text("sk-2")
        await asleep()
        mock_clock.jump(7.9)
        await asleep()
        assert value(credentials) == "sk-1"
        mock_clock.jump(0.1)
        assert value(credentials) == "sk-1"  # and no request waits
        await until(lambda: value(credentials) == "sk-2")


async def test_a_failed_refresh_leaves_the_last_output_until_it_is_too_old(path: Path, mock_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running(cat(path)) as credentials:
            assert await injection(credentials).ready() == b"sk-1"
            path.unlink()
            await asleep()
            mock_clock.jump(8)
            await until(lambda: state(credentials).problem)
            assert (value(credentials), await injection(credentials).ready()) == ("sk-1", b"sk-1")
            assert state(credentials).is_usable
            mock_clock.jump(1.9)
            assert value(credentials) == "sk-1"
            mock_clock.jump(0.1)
            assert value(credentials) is None
            assert await refusal(credentials) == "its command ended with status 1"
            await until(lambda: len(lines) == 3)
            path.write_text("sk-2")
            await asleep()
            mock_clock.jump(4)
            await until(lambda: value(credentials) == "sk-2")
    assert [line["event"] for line in lines] == [
        "credential ready",
        "credential not read again",
        "credential cannot be used",
        "credential ready",
    ]


async def test_requests_wait_for_a_refresh_that_takes_longer_than_its_output_may_be_used(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with running(cat(fifo)) as credentials:
        await trio.to_thread.run_sync(fifo.write_text, "sk-1")
        assert await injection(credentials).ready() == b"sk-1"
        await asleep()
        mock_clock.jump(8)
        mock_clock.jump(2)
        assert value(credentials) is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(injection(credentials).ready)
            await trio.to_thread.run_sync(fifo.write_text, "sk-2")
        assert value(credentials) == "sk-2"


async def test_failures_are_tried_again_after_longer_and_longer_pauses(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    calls: list[float] = []

    async def output(self: Program) -> bytes:
        await trio.lowlevel.checkpoint()
        calls.append(trio.current_time())
        if len(calls) in (8, 9):
            return b"sk-1"
        raise Unusable("ended with status 1")

    monkeypatch.setattr(Program, "output", output)
    async with running(credential(command=("/x",), ttl_ms=100_000)):
        await trio.sleep(1000)
    pauses = [round(later - earlier, 6) for earlier, later in itertools.pairwise(calls)]
    assert pauses[:12] == [2, 4, 8, 16, 30, 30, 30, 80, 80, 2, 4, 8]


async def test_however_short_the_time_is_a_command_is_called_once_a_second(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    calls = 0

    async def output(self: Program) -> bytes:
        await trio.lowlevel.checkpoint()
        nonlocal calls
        calls += 1
        return b"sk-1"

    monkeypatch.setattr(Program, "output", output)
    async with running(credential(command=("/x",), ttl_ms=1)) as credentials:
        await trio.sleep(10.5)
        assert value(credentials) is None
        assert await injection(credentials).ready() == b"sk-1"
    assert calls == 12


async def test_of_many_commands_only_some_run_at_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    now, most, calls = 0, 0, 0

    async def output(self: Program) -> bytes:
        nonlocal now, most, calls
        now += 1
        calls += 1
        most = max(most, now)
        await trio.sleep(1)
        now -= 1
        return b"sk-1"

    monkeypatch.setattr(Program, "output", output)
    async with running(*(credential(f"c{number}", command=("/x",)) for number in range(100))) as credentials:
        await injection(credentials, "c99").ready()
        await trio.sleep(10)
    assert (most, calls) == (MAX_COMMANDS, 100)


async def test_a_process_that_cannot_be_killed_has_no_second_one_beside_it(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setattr(children, "_kill", lambda popen: None)  # another user's
    read = program._read
    pids: list[int] = []

    async def then_read(child: children.Child) -> bytes:
        pids.append(child.popen.pid)
        return await read(child)

    monkeypatch.setattr(program, "_read", then_read)
    async with running(cat(fifo)) as credentials:
        await until(lambda: pids)
        writer = await trio.to_thread.run_sync(lambda: fifo.open("w"))
        mock_clock.jump(COMMAND_TIMEOUT_S)
        await asleep()
        mock_clock.jump(END_TIMEOUT_S)
        assert await refusal(credentials) == "its command took longer than 10 s"
        await asleep()
        mock_clock.jump(2)
        await until(lambda: "killed" in str(state(credentials).problem))
        assert await refusal(credentials) == "its command took too long, and does not end though it was killed"
        await trio.to_thread.run_sync(writer.close)
        await until(lambda: not is_running(pids[0]))
        await asleep()
        mock_clock.jump(4)
        await trio.to_thread.run_sync(fifo.write_text, "sk-1")
        await until(lambda: value(credentials) == "sk-1")
        assert len(pids) == 2


async def test_a_start_that_hangs_is_given_up_and_what_it_starts_later_is_ended(
    path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    in_popen: list[bool] = []

    def hangs(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        in_popen.append(True)
        assert let_go.wait(30)
        process: subprocess.Popen[bytes] = popen(["/bin/sleep", "1000"], **options)  # type: ignore[call-overload]
        started.append(process)
        return process

    try:
        async with running(cat(path)) as credentials:
            with monkeypatch.context() as patch:
                patch.setattr(subprocess, "Popen", hangs)
                await until(lambda: in_popen)
                mock_clock.jump(COMMAND_TIMEOUT_S)
                await asleep()
                mock_clock.jump(END_TIMEOUT_S)
                assert await refusal(credentials) == "its command took longer than 10 s"
                await asleep()
                mock_clock.jump(2)
                await asleep()
                mock_clock.jump(COMMAND_TIMEOUT_S)  # the thread of the first one is waited for
                await asleep()
                let_go.set()
                await until(lambda: started and started[0].returncode is not None)
            assert not is_running(started[0].pid)
            mock_clock.jump(4)
            await until(lambda: value(credentials) == "sk-1")
        assert len(started) == 1
    finally:
        let_go.set()
