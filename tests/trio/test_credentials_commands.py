"""Secrets that programs print: real processes, whatever they do, on a clock that the test moves."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import structlog
import trio
from credentials_under_test import credential, injection, is_running, refusal, running, state, until, value
from trio.testing import MockClock

from vastar_runtime.config import Credential
from vastar_runtime.credentials.program import COMMAND_TIMEOUT_S

SHELL = "/bin/sh"


def prints(script: str, name: str = "a", **changes: object) -> Credential:
    return credential(name, command=(SHELL, "-c", script), **changes)


async def written(path: Path) -> list[int]:
    """Process numbers, one a line, once the last line is whole."""
    await until(lambda: path.exists() and path.read_text().endswith("end\n"))
    return [int(line) for line in path.read_text().split()[:-1]]


async def test_a_start_does_not_wait_for_a_command_and_requests_do(tmp_path: Path, mock_clock: MockClock) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with structlog.testing.capture_logs() as lines:
        async with running(credential(command=("/bin/cat", str(fifo)))) as credentials:
            assert value(credentials) is None
            assert (state(credentials).is_usable, state(credentials).problem) == (False, None)
            answers: list[bytes] = []

            async def ask() -> None:
                answers.append(await injection(credentials).ready())

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                assert not answers
                await trio.to_thread.run_sync(fifo.write_text, "sk-1\n")
            assert answers == [b"sk-1"] * 3
            assert value(credentials) == "sk-1"
    assert lines == [{"log_level": "info", "event": "credential ready", "name": "a", "source": "command"}]


async def test_what_a_program_gets(mock_clock: MockClock) -> None:
    script = (
        "import os; null = os.stat('/dev/null').st_rdev; "
        "print(os.getcwd(), os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid(), os.environ['KEY'], "
        "'HOME' in os.environ, os.read(0, 1), os.fstat(0).st_rdev == null, os.fstat(2).st_rdev == null, "
        "sorted(os.listdir('/proc/self/fd'))[:4])"
    )
    command = (sys.executable, "-I", "-c", script)
    async with running(credential(command=command), environ={"KEY": "k"}) as credentials:
        expected = "/ True True k False b'' True True ['0', '1', '2', '3']"  # the last one is that of the list itself
        assert (await injection(credentials).ready()).decode() == expected


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo sk-live-1; exit 3", "ended with status 3"),
        ("echo sk-live-1; kill -SEGV $$", "was ended by SIGSEGV"),
        ("kill -37 $$", "was ended by signal 37"),
        ("", "printed nothing"),
        ("printf ' \\n\\n'", "printed nothing"),
        ("echo sk-live-1 >&2", "printed nothing"),
        ("echo sk-live-1; echo sk-live-2", "printed something that holds a line break"),
        ("printf 'sk\\000live'", "printed something that holds a control character"),
        ("printf 'sk\\377live'", "printed something that holds a character that is not ASCII"),
        ("head -c 20000 /dev/zero | tr '\\0' s", "printed something that is larger than 16 KiB"),
        ("exec cat /dev/zero", "printed more than 64 KiB"),
        ("cat /dev/zero; exit 0", "printed more than 64 KiB"),
    ],
)
async def test_a_program_that_prints_no_secret(script: str, problem: str, mock_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running(prints(script)) as credentials:
            assert await refusal(credentials) == f"its command {problem}"
            assert value(credentials) is None
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("credential cannot be used", f"its command {problem}")
    ]


async def test_a_program_that_cannot_be_run(tmp_path: Path, mock_clock: MockClock) -> None:
    no_program = tmp_path / "text"
    no_program.write_text("text")
    for path, problem in (
        (tmp_path / "missing", "No such file or directory"),
        (no_program, "Permission denied"),
        (tmp_path, "Permission denied"),
        (no_program / "below", "Not a directory"),
    ):
        async with running(credential(command=(str(path),))) as credentials:
            assert await refusal(credentials) == f"its command cannot be run: {problem}"
    no_program.chmod(0o700)
    async with running(credential(command=(str(no_program),))) as credentials:
        assert await refusal(credentials) == "its command cannot be run: Exec format error"
    async with running(credential(command=(SHELL, "-c", "exit", "x" * 200_000))) as credentials:
        assert await refusal(credentials) == "its command cannot be run: Argument list too long"


async def test_an_environment_that_no_process_can_have_is_not_quoted(mock_clock: MockClock) -> None:
    for environ in ({"KEY": "sk-\0live"}, {"KEY": "sk-\ud800live"}, {"K=EY": "sk-live"}):
        async with running(prints("echo sk-1"), environ=environ) as credentials:
            problem = await refusal(credentials)
            assert problem.startswith("its command cannot be run: its arguments or its environment")
            assert "live" not in problem


async def test_a_program_that_hangs_is_killed_with_what_it_started(tmp_path: Path, mock_clock: MockClock) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! >> {pids}; echo $$ >> {pids}; echo end >> {pids}; trap '' TERM; wait; sleep 1000"
    async with running(prints(script)) as credentials:
        both = await written(pids)
        assert all(map(is_running, both))
        mock_clock.jump(COMMAND_TIMEOUT_S)
        assert await refusal(credentials) == "its command took longer than 10 s"
        await until(lambda: not any(map(is_running, both)))


async def test_a_program_that_closes_its_output_and_stays_is_killed(tmp_path: Path, mock_clock: MockClock) -> None:
    pids = tmp_path / "pids"
    script = f"echo sk-1; exec >&-; echo $$ >> {pids}; echo end >> {pids}; exec sleep 1000"
    async with running(prints(script)) as credentials:
        pid = (await written(pids))[0]
        mock_clock.jump(COMMAND_TIMEOUT_S)
        assert await refusal(credentials) == "its command took longer than 10 s"
        assert not is_running(pid)


async def test_what_a_program_leaves_behind_is_not_waited_for_and_ended(tmp_path: Path, mock_clock: MockClock) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! >> {pids}; echo end >> {pids}; echo sk-1"
    async with running(prints(script)) as credentials:
        assert await injection(credentials).ready() == b"sk-1"
        pid = (await written(pids))[0]
        await until(lambda: not is_running(pid))


async def test_a_program_ends_with_the_daemon(tmp_path: Path, mock_clock: MockClock) -> None:
    pids = tmp_path / "pids"
    async with running(prints(f"echo $$ >> {pids}; echo end >> {pids}; exec sleep 1000")):
        pid = (await written(pids))[0]
        assert is_running(pid)
    assert not is_running(pid)


async def test_no_descriptor_is_left_open(mock_clock: MockClock) -> None:
    def open_ones() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_ones()
    for script in ("echo sk-1", "exit 1", "cat /dev/zero"):
        async with running(prints(script)) as credentials:
            await until(lambda: state(credentials).is_usable or state(credentials).problem)
    async with running(credential(command=("/missing",))) as credentials:
        await refusal(credentials)
    assert open_ones() == before


async def test_large_output_is_read_while_it_is_printed(mock_clock: MockClock) -> None:
    async with running(prints("head -c 16384 /dev/zero | tr '\\0' s; head -c 49000 /dev/zero | tr '\\0' ' '")) as found:
        assert await injection(found).ready() == b"s" * 16_384
