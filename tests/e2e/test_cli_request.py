"""``vastar-runtime request`` as a process: a real daemon, a real upstream, real pipes and terminals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from daemon_process import DaemonProcess, environment
from upstream import PATIENCE_S, Peer, always, echo, hold, sending, upstream

COMMAND = [sys.executable, "-m", "vastar_runtime", "request"]
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"


async def asked(
    running: DaemonProcess, *arguments: str, data: bytes = b"", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """The command from start to end."""
    options = {"capture_stdout": True, "capture_stderr": True, "stdin": data} | options
    with trio.fail_after(PATIENCE_S):
        return await trio.run_process(
            [*COMMAND, "--socket", running.socket_path, *arguments], env=environment(), check=False, **options
        )


@asynccontextmanager
async def asking(running: DaemonProcess, *arguments: str) -> AsyncIterator[trio.Process]:
    """The command while it runs."""
    process = await trio.lowlevel.open_process(
        [*COMMAND, "--socket", running.socket_path, *arguments],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        with trio.fail_after(PATIENCE_S):
            yield process
    finally:
        process.kill()
        await process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                await pipe.aclose()


async def test_a_body_of_standard_input_arrives_and_the_answer_is_told_as_json(running: DaemonProcess) -> None:
    async with upstream(echo) as up:
        done = await asked(
            running,
            "--json",
            "-X",
            "put",
            "-u",
            "me:pw",
            "--data-binary",
            "@-",
            f"{up.address}/p?q=1",
            data=b"a\r\n\xff",
        )
        assert (done.returncode, done.stderr) == (0, b"")
        told = json.loads(done.stdout)
        assert (told["status"], told["attempts"], told["error"]) == (200, 1, None)
        assert told["duration_ms"] >= told["first_byte_ms"] > 0
        heard = json.loads(told["body"])
        assert (heard["method"], heard["path"], heard["body"]) == ("PUT", "/p?q=1", "a\r\n\xff")
        assert ["authorization", "Basic bWU6cHc="] in heard["headers"]


async def test_a_file_of_more_than_a_frame_is_fetched_whole(running: DaemonProcess, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 11
    file = tmp_path / "answer"
    async with upstream(always(data)) as up:
        done = await asked(running, "-o", str(file), up.origin)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert file.read_bytes() == data


async def test_nobody_at_the_upstream_is_told_in_the_daemons_words(running: DaemonProcess) -> None:
    done = await asked(running, "http://127.0.0.1:1/")
    assert done.returncode == 11
    assert done.stderr.startswith(b"Error: HTTP request failed: cannot connect to 127.0.0.1:1: ")
    assert done.stderr.count(b"\n") == 1
    assert (await asked(running, "-X", "FLY", "http://127.0.0.1:1/")).returncode == 15


async def test_events_are_shown_as_they_come_until_ctrl_c_cancels_the_request(
    running: DaemonProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # see the mark "unmeasured", of signals
    gone = trio.Event()

    async def until_gone(peer: Peer) -> None:
        await hold(peer)
        gone.set()

    async with upstream(sending(EVENTS, then=until_gone)) as up, asking(running, up.origin) as process:
        assert process.stdout is not None
        assert await process.stdout.receive_some() == b"data: 1\n\n"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        await gone.wait()


async def test_a_reader_that_has_enough_ends_the_request_quietly(running: DaemonProcess) -> None:
    more = trio.Event()

    async def go_on(peer: Peer) -> None:
        await more.wait()
        await peer.send(b"9\r\ndata: 2\n\n\r\n")
        await hold(peer)

    async with upstream(sending(EVENTS, then=go_on)) as up, asking(running, up.origin) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert await process.stdout.receive_some() == b"data: 1\n\n"
        await process.stdout.aclose()
        more.set()
        assert await process.stderr.receive_some() == b""
        assert await process.wait() == 23


async def test_a_binary_body_is_not_shown_on_a_terminal(running: DaemonProcess) -> None:
    async with upstream(always(b"\x7fELF\0")) as up:
        ours, theirs = pty.openpty()
        try:
            done = await asked(running, up.origin, capture_stdout=False, stdout=theirs)
            assert done.returncode == 23
            assert done.stderr.startswith(b"Error: the body is binary")
            done = await asked(running, "-o", "-", up.origin, capture_stdout=False, stdout=theirs)
            assert done.returncode == 0
            assert await trio.to_thread.run_sync(partial(os.read, ours, 100)) == b"\x7fELF\0"
        finally:
            os.close(ours)
            os.close(theirs)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is full")
async def test_a_standard_error_that_cannot_be_written_costs_neither_the_answer_nor_the_exit_code(
    running: DaemonProcess,
) -> None:
    async with upstream(always(b"text")) as up:
        with open("/dev/full", "wb") as full:
            done = await asked(running, "-v", up.origin, capture_stderr=False, stderr=full)
            assert (done.returncode, done.stdout) == (0, b"text")
            assert (await asked(running, "-X", "FLY", up.origin, capture_stderr=False, stderr=full)).returncode == 15


async def test_the_reader_of_another_command_may_have_enough_as_well(running: DaemonProcess) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    try:
        with trio.fail_after(PATIENCE_S):
            done = await trio.run_process(
                [*COMMAND[:-1], "status", "--socket", running.socket_path],
                env=environment(),
                stdout=write_fd,
                capture_stderr=True,
                check=False,
            )
    finally:
        os.close(write_fd)
    assert (done.returncode, done.stderr) == (23, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is full")
async def test_a_full_disk_is_one_line(running: DaemonProcess) -> None:
    async with upstream(always(b"text")) as up:
        with open("/dev/full", "wb") as full:
            done = await asked(running, up.origin, capture_stdout=False, stdout=full)
        assert done.returncode == 23
        assert done.stderr == b"Error: cannot write the output: No space left on device\n"
