"""Secrets in files that others replace, write anew, or take away while requests ask for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import structlog
import trio
from credentials_under_test import ORIGIN, credential, injection, refusal, running, state, until, value, write_long_ago
from trio.testing import MockClock

from vastar_runtime.credentials import Credentials, file_looks
from vastar_runtime.credentials.credentials import FILE_LOOK_S, FILE_TIMEOUT_S
from vastar_runtime.credentials.file_looks import FileLooks
from vastar_runtime.credentials.file_reading import Reading, Signature
from vastar_runtime.credentials.file_source import FileSource


class Disk:
    """Counts rounds; looks at some paths hang until they are let go."""

    def __init__(self) -> None:
        self.rounds = 0
        self.hanging: set[str] = set()
        self.in_it = 0
        self.let_go = threading.Event()
        self._look = file_looks.look
        self._look_at = FileLooks.look_at

    async def look_at(self, looks: FileLooks, files: Iterable[FileSource], limit_s: float) -> None:
        await self._look_at(looks, files, limit_s)
        self.rounds += 1

    def look(self, path: str, known: Signature | None) -> Reading | None:
        if path in self.hanging:
            self.in_it += 1
            assert self.let_go.wait(30)
        return self._look(path, known)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(file_looks, "look", disk.look)
    monkeypatch.setattr(FileLooks, "look_at", lambda *arguments: disk.look_at(*arguments))
    yield disk
    disk.let_go.set()


async def looked(disk: Disk, clock: MockClock) -> None:
    """Once more, after the time for it."""
    await trio.testing.wait_all_tasks_blocked()  # it has gone to sleep
    before = disk.rounds
    clock.jump(FILE_LOOK_S)
    await until(lambda: disk.rounds > before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secret"


async def test_a_file_is_read_when_configured_and_when_it_is_replaced(
    path: Path, disk: Disk, mock_clock: MockClock
) -> None:
    write_long_ago(path, "sk-1\n")
    async with running(credential(file=str(path))) as credentials:
        assert value(credentials) == "sk-1"
        write_long_ago(path, "sk-22\n")
        await looked(disk, mock_clock)
        assert value(credentials) == "sk-22"
        assert await injection(credentials).ready() == b"sk-22"


async def test_half_of_a_secret_that_is_written_in_place_is_never_used(
    path: Path, disk: Disk, mock_clock: MockClock
) -> None:
    write_long_ago(path, "sk-old\n")
    with structlog.testing.capture_logs() as lines:
        async with running(credential(file=str(path))) as credentials:
            for number in range(3):
                before = value(credentials)
                with path.open("wb", buffering=0) as file:
                    await looked(disk, mock_clock)
                    assert value(credentials) == before
                    file.write(b"sk-")
                    await looked(disk, mock_clock)
                    assert value(credentials) == before
                    file.write(b"new-%d\n" % number)
                await looked(disk, mock_clock)
                assert value(credentials) == before
                await looked(disk, mock_clock)
                assert value(credentials) == f"sk-new-{number}"
    assert [line["event"] for line in lines] == ["credential ready"] * 4


async def test_a_file_that_is_taken_away_leaves_its_last_secret(path: Path, disk: Disk, mock_clock: MockClock) -> None:
    write_long_ago(path, "sk-1")
    with structlog.testing.capture_logs() as lines:
        async with running(credential(file=str(path))) as credentials:
            path.unlink()
            for _ in range(4):
                await looked(disk, mock_clock)
                assert value(credentials) == "sk-1"
            found = state(credentials)
            assert (found.is_usable, found.problem) == (True, f"the file {path} is missing")
            write_long_ago(path, "sk-2")
            await looked(disk, mock_clock)
            assert (value(credentials), state(credentials).problem) == ("sk-2", None)
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("info", "credential ready"),
        ("warning", "credential not read again"),
        ("info", "credential ready"),
    ]
    assert lines[1]["reason"] == f"the file {path} is missing"


@pytest.mark.parametrize("content", ["", "a\nb", "ä", "s" * 20_000, "s" * 100_000])
async def test_what_is_no_secret_does_not_replace_one(
    content: str, path: Path, disk: Disk, mock_clock: MockClock
) -> None:
    write_long_ago(path, "sk-1")
    async with running(credential(file=str(path))) as credentials:
        write_long_ago(path, content)
        for _ in range(3):
            await looked(disk, mock_clock)
            assert value(credentials) == "sk-1"
        assert state(credentials).problem is not None


async def test_without_its_file_at_the_start_requests_are_refused_until_it_is_there(
    path: Path, disk: Disk, mock_clock: MockClock
) -> None:
    async with running(credential(file=str(path))) as credentials:
        assert value(credentials) is None
        assert await refusal(credentials) == f"the file {path} is missing"
        path.mkdir()
        await looked(disk, mock_clock)
        assert await refusal(credentials) == f"the file {path} is a directory"
        path.rmdir()
        write_long_ago(path, "sk-1")
        await looked(disk, mock_clock)
        assert value(credentials) == "sk-1"


async def test_a_start_waits_for_a_file_that_was_written_just_now_until_it_has_stayed_the_same(
    path: Path, disk: Disk, mock_clock: MockClock
) -> None:
    path.write_text("sk-")
    os.utime(path, (4_000_000_000, 4_000_000_000))  # however long it takes to get there
    credentials = Credentials({})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(credentials.configure, [credential(file=str(path))])
        await until(lambda: disk.rounds)
        path.write_text("sk-1")
        os.utime(path, (4_000_000_000, 4_000_000_000))
        await looked(disk, mock_clock)
        assert credentials.for_request("tenant", ORIGIN) == ()
        await looked(disk, mock_clock)
    assert value(credentials) == "sk-1"


async def test_a_start_does_not_wait_longer_than_a_second(path: Path, disk: Disk, mock_clock: MockClock) -> None:
    credentials = Credentials({})
    path.write_text("sk-0")
    os.utime(path, (4_000_000_000, 4_000_000_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(credentials.configure, [credential(file=str(path))])
        await until(lambda: disk.rounds)
        for number in range(1, 4):  # it does not stay the same
            path.write_text(f"sk-{number}")
            os.utime(path, (4_000_000_000, 4_000_000_000))
            await looked(disk, mock_clock)
    assert await refusal(credentials) == f"the file {path} has not been read yet"


async def test_one_file_that_hangs_keeps_neither_a_start_nor_the_other_files_waiting(
    path: Path, tmp_path: Path, disk: Disk, mock_clock: MockClock
) -> None:
    files = [tmp_path / f"{number}" for number in range(4)]
    for file in files:
        write_long_ago(file, f"sk-{file.name}")
    disk.hanging.add(str(files[1]))
    named = [credential(f"c{file.name}", file=str(file)) for file in files]
    async with running() as credentials:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(credentials.configure, named)
            await until(lambda: disk.in_it)
            mock_clock.jump(0.5)
            await until(lambda: disk.rounds)
            await looked(disk, mock_clock)
        assert [value(credentials, one.name) for one in named] == ["sk-0", None, "sk-2", "sk-3"]
        assert await refusal(credentials, "c1") == f"the file {files[1]} cannot be read: no answer within 0.5 s"
        write_long_ago(files[3], "sk-new")
        for _ in range(3):
            await looked(disk, mock_clock)
        assert value(credentials, "c3") == "sk-new"
        assert disk.in_it == 1
        disk.let_go.set()
        while value(credentials, "c1") is None:
            await looked(disk, mock_clock)
        assert value(credentials, "c1") == "sk-1"


async def test_a_file_that_hangs_later_leaves_its_last_secret(path: Path, disk: Disk, mock_clock: MockClock) -> None:
    write_long_ago(path, "sk-1")
    async with running(credential(file=str(path))) as credentials:
        disk.hanging.add(str(path))
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(FILE_LOOK_S)
        await until(lambda: disk.in_it)
        mock_clock.jump(FILE_TIMEOUT_S)
        await until(lambda: state(credentials).problem)
        assert state(credentials).problem == f"the file {path} cannot be read: no answer within 1 s"
        assert value(credentials) == "sk-1"


async def test_without_threads_the_last_secret_is_used(
    path: Path, disk: Disk, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    write_long_ago(path, "sk-1")
    async with running(credential(file=str(path))) as credentials:
        with monkeypatch.context() as patch:
            patch.setattr(trio.to_thread, "run_sync", refused)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(FILE_LOOK_S)
            await until(lambda: state(credentials).problem)
        assert state(credentials).problem == f"the file {path} cannot be read: can't start new thread"
        assert value(credentials) == "sk-1"
        await looked(disk, mock_clock)
        assert state(credentials).problem is None


async def test_without_files_nobody_looks_for_any(disk: Disk, autojump_clock: MockClock) -> None:
    async with running(credential(env="KEY"), environ={"KEY": "sk-1"}) as credentials:
        await trio.sleep(3600)
        assert disk.rounds == 0
        assert value(credentials) == "sk-1"


# --- in time as it passes ---


def in_place(path: Path, content: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(content[:5])
        file.write(content[5:])


def by_rename(path: Path, content: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(content)
    other.rename(path)


def by_link(path: Path, content: bytes) -> None:
    """As Kubernetes does."""
    directory = path.with_name(content.decode().strip())
    directory.mkdir()
    (directory / "key").write_bytes(content)
    link = path.with_name("..new")
    link.symlink_to(directory)
    link.rename(path.with_name("..data"))
    if not path.is_symlink():
        path.symlink_to("..data/key")


@pytest.mark.unmeasured
@pytest.mark.parametrize("write", [in_place, by_rename, by_link])
async def test_whoever_asks_all_the_time_gets_the_old_secret_or_the_new_one_soon(
    write: Callable[[Path, bytes], None], path: Path
) -> None:
    written = ["secret-0"]
    write(path, b"secret-0\n")
    asked: list[str] = []
    async with running(credential(file=str(path))) as credentials:
        await until(lambda: value(credentials))  # an overloaded machine may take longer than a start waits

        async def ask() -> None:
            while True:
                found = value(credentials)
                assert found == (await injection(credentials).ready()).decode()
                assert found in written[-2:]
                if not asked or asked[-1] != found:
                    asked.append(found)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            for number in range(1, 4):
                written.append(f"secret-{number}")
                began_at = trio.current_time()
                await trio.to_thread.run_sync(write, path, b"secret-%d\n" % number)
                await until(lambda: asked and asked[-1] == written[-1])
                assert trio.current_time() - began_at < 10  # twice FILE_LOOK_S, on a machine that is not overloaded
            nursery.cancel_scope.cancel()
    assert asked == written
