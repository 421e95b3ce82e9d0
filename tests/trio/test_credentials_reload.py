"""Another configuration: what stays the same keeps its value, what is new is read, requests under way lose nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog
import trio
from credentials_under_test import ORIGIN, credential, injection, refusal, running, state, until, value, write_long_ago
from trio.testing import MockClock

from vastar_runtime.credentials import CredentialError, Credentials, file_looks


async def test_a_command_whose_place_is_the_same_is_not_called_again(tmp_path: Path, mock_clock: MockClock) -> None:
    calls = tmp_path / "calls"
    command = ("/bin/sh", "-c", f"echo x >> {calls}; echo sk-1")
    async with running(credential(command=command)) as credentials:
        assert await injection(credentials).ready() == b"sk-1"
        changed = credential(command=command, scheme="Token", override=True, origins=(ORIGIN, "https://b.example"))
        await credentials.configure([credential("b", env="B"), changed])
        assert value(credentials) == "Token sk-1"
        await credentials.configure([credential("b", command=command)])
        assert await injection(credentials, "b").ready() == b"sk-1"
    assert calls.read_text() == "x\nx\n"


async def test_files_and_variables_are_read_before_configure_returns(tmp_path: Path, mock_clock: MockClock) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_long_ago(one, "sk-1")
    write_long_ago(two, "sk-2")
    async with running(credential(file=str(one)), environ={"B": "sk-b"}) as credentials:
        await credentials.configure([credential(file=str(two)), credential("b", env="B")])
        assert (value(credentials), value(credentials, "b")) == ("sk-2", "sk-b")
        assert [(found.name, found.source) for found in credentials.statistics()] == [("a", "file"), ("b", "env")]


async def test_a_file_that_stays_configured_keeps_its_last_secret_though_it_is_gone(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    path = tmp_path / "secret"
    write_long_ago(path, "sk-1")
    async with running(credential(file=str(path))) as credentials:
        path.unlink()
        await credentials.configure([credential(file=str(path), override=True)])
        assert value(credentials) == "sk-1"
        await credentials.configure([])
        await credentials.configure([credential(file=str(path))])
        assert await refusal(credentials) == f"the file {path} is missing"


async def test_a_request_keeps_what_it_has_and_gets_what_it_waits_for(tmp_path: Path, mock_clock: MockClock) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    environ = {"A": "sk-a"}
    command = ("/bin/cat", str(fifo))
    async with running(credential(env="A"), credential("b", command=command), environ=environ) as credentials:
        has, waits = injection(credentials), injection(credentials, "b")
        await credentials.configure([])
        assert credentials.for_request("tenant", ORIGIN) == ()
        assert has.value() == b"sk-a"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits.ready)
            await trio.to_thread.run_sync(fifo.write_text, "sk-b")
        assert waits.value() == b"sk-b"
        mock_clock.jump(400)
        assert waits.value() is None
        with pytest.raises(CredentialError, match="'b' cannot be used: its command is not called any more"):
            await waits.ready()


async def test_what_was_configured_before_the_task_runs_is_kept_current_by_it(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    path = tmp_path / "secret"
    write_long_ago(path, "sk-1")
    credentials = Credentials({})
    await credentials.configure([credential(file=str(path)), credential("b", command=("/bin/echo", "sk-b"))])
    assert (value(credentials), value(credentials, "b")) == ("sk-1", None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(credentials.run)
        assert await injection(credentials, "b").ready() == b"sk-b"
        write_long_ago(path, "sk-2")
        await trio.testing.wait_all_tasks_blocked(0.001)
        mock_clock.jump(1)
        await until(lambda: value(credentials) == "sk-2")
        nursery.cancel_scope.cancel()


async def test_files_that_are_configured_later_are_watched(tmp_path: Path, mock_clock: MockClock) -> None:
    path = tmp_path / "secret"
    write_long_ago(path, "sk-1")
    async with running() as credentials:
        await trio.testing.wait_all_tasks_blocked()
        await credentials.configure([credential(file=str(path))])
        write_long_ago(path, "sk-2")
        await trio.testing.wait_all_tasks_blocked(0.001)
        mock_clock.jump(1)
        await until(lambda: value(credentials) == "sk-2")


async def test_of_two_reloads_at_once_the_later_one_holds(tmp_path: Path, mock_clock: MockClock) -> None:
    path = tmp_path / "secret"
    path.write_text("sk-1")
    os.utime(path, (4_000_000_000, 4_000_000_000))
    async with running(environ={"A": "sk-a"}) as credentials, trio.open_nursery() as nursery:
        nursery.start_soon(credentials.configure, [credential(file=str(path))])
        await trio.testing.wait_all_tasks_blocked(0.001)  # the file was written just now: it waits
        nursery.start_soon(credentials.configure, [credential(env="A")])
        while not credentials.for_request("tenant", ORIGIN):
            mock_clock.jump(0.1)
            await trio.testing.wait_all_tasks_blocked(0.001)
        await until(lambda: state(credentials).source == "env")
    assert value(credentials) == "sk-a"


async def test_a_reload_that_is_cancelled_changes_nothing(tmp_path: Path, mock_clock: MockClock) -> None:
    path = tmp_path / "secret"
    path.write_text("sk-1")
    os.utime(path, (4_000_000_000, 4_000_000_000))
    with structlog.testing.capture_logs() as lines:
        async with running(credential(env="A"), environ={"A": "sk-a"}) as credentials:
            with trio.move_on_after(0.1):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(credentials.configure, [credential(file=str(path))])
                    await trio.testing.wait_all_tasks_blocked(0.001)
                    mock_clock.jump(0.1)
            assert value(credentials) == "sk-a"
            assert state(credentials).source == "env"
    assert len(lines) == 1


async def test_a_thousand_files_take_one_thread_a_look(tmp_path: Path, mock_clock: MockClock) -> None:
    async with running() as credentials:
        for number in range(1000):
            write_long_ago(tmp_path / str(number), f"sk-{number}")
        await credentials.configure(
            [credential(f"c{number}", file=str(tmp_path / str(number))) for number in range(1000)]
        )
        assert value(credentials, "c999") == "sk-999"
        write_long_ago(tmp_path / "500", "sk-new")
        await trio.testing.wait_all_tasks_blocked(0.001)
        mock_clock.jump(1)
        await until(lambda: value(credentials, "c500") == "sk-new")
    assert file_looks.MAX_HANGING < 1000
