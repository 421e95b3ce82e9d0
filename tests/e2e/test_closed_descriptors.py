"""Daemons that are begun with standard descriptors closed: their numbers must be no client's socket, which would get
the log."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command_place import COMMAND, TIMEOUT_S, place
from daemon_process import COMMAND as RUN
from daemon_process import starting

from vastar_runtime.cli.process import describe, title

CLOSED = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
EXISTING_NAME = [sys.executable, "-c", "from vastar_runtime.cli import run_daemon; run_daemon()"]


def idle_client(path: str | Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(TIMEOUT_S)
    client.connect(str(path))
    return client


def test_commands_without_them_start_daemons_that_log_into_their_file() -> None:
    with place() as runtime:
        for command in ("start", "restart", "stop"):
            client = None if command == "start" else idle_client(runtime.socket)
            done = subprocess.run(
                [*CLOSED, *COMMAND, command], env=runtime.environ, cwd=runtime.directory, timeout=TIMEOUT_S, check=False
            )
            assert done.returncode == 0, command
            if client is not None:
                with client:
                    assert client.recv(1000) == b"", "up to its end"
        assert not runtime.socket.exists()
        events = [line.split("event=")[1].split()[0] for line in runtime.log.read_text().splitlines()]
        assert events.count("started") == 2, events
        assert events[-1] == "stopped"


@pytest.mark.parametrize(("command", "workers"), [(EXISTING_NAME, 1), (RUN, 2)])
def test_a_daemon_and_its_workers_have_all_three_whoever_begins_it_without(command: list[str], workers: int) -> None:
    with starting("--workers", str(workers), command=[*CLOSED, *command]) as daemon:
        assert daemon.ready() == "ready"
        of_workers = f"{title(daemon.socket_path)} (worker "
        pids = [
            int(name) for name in os.listdir("/proc") if name.isdigit() and describe(int(name)).startswith(of_workers)
        ]
        assert len(pids) == (workers if workers > 1 else 0)
        for pid in (daemon.process.pid, *pids):
            assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == [os.devnull] * 3
        with idle_client(daemon.socket_path) as client:
            assert daemon.stop() == 0
            assert client.recv(1000) == b""
