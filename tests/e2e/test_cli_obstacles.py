"""What the commands do about a socket that holds no healthy daemon of ours."""

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_place import Place, place

from connector_sdk.wire import ErrorClass, ExecuteResponse, encode_message
from vastar_runtime.cli.probe import State
from vastar_runtime.config.permissions import user_name


@pytest.fixture
def runtime() -> Iterator[Place]:
    with place() as opened:
        yield opened


@contextmanager
def listener(path: Path, answer: bytes) -> Iterator[None]:
    """This very process listens, and answers whatever comes."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if self.request.recv(65536):
                self.request.sendall(answer)

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


LEGACY = encode_message(
    ExecuteResponse(error_class=ErrorClass.INVALID_REQUEST, error_message="Invalid FlatBuffers message")
)


def test_the_existing_runtime_is_recognised_and_not_displaced(runtime: Place) -> None:
    with listener(runtime.socket, LEGACY):
        status = runtime.run("status")
        assert status.returncode == 1
        assert status.stdout == f"The existing runtime (PID {os.getpid()}) answers on {runtime.socket}\n"
        assert '"running":false,"state":"legacy"' in runtime.run("status", "--json").stdout
        start = runtime.run("start")
        assert start.returncode == 1
        assert start.stderr.startswith(
            f"Error: the existing runtime (PID {os.getpid()}) answers on {runtime.socket}; stop it first, or choose "
        )


def test_a_process_that_is_no_runtime_is_left_alone(runtime: Place) -> None:
    """This process listens on the socket; were it signalled, this test would not end."""
    with listener(runtime.socket, b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        assert runtime.probe().state is State.SILENT
        assert runtime.run("status").returncode == 1
        for command in ("start", "stop", "restart", "clean"):
            refused = runtime.run(command)
            assert refused.returncode == 1, command
            assert refused.stderr.count("\n") == 1
            said = refused.stderr
            assert "clean" not in said, "which would leave it alone"
            assert said.endswith("; choose another path with --socket\n" if command == "start" else ": left alone\n")
        assert json.loads(runtime.run("status", "--json").stdout)["running"] is False
        assert runtime.socket.exists()


def test_clean_ends_a_daemon_that_hangs(runtime: Place) -> None:
    """A stopped process takes connections (its backlog does) and ignores SIGTERM."""
    daemon = runtime.begin_daemon()
    daemon.send_signal(signal.SIGSTOP)
    status = runtime.run("status")
    assert status.returncode == 1
    assert status.stdout.endswith(
        "but is no healthy daemon: no answer within 3 s; see what it is at: vastar-runtime doctor --socket "
        f"{runtime.socket}\n"
    )
    cleaned = runtime.run("clean")
    assert (cleaned.returncode, cleaned.stderr) == (0, "")
    assert cleaned.stdout.splitlines() == [
        f"Killed the runtime (PID {daemon.pid}): it did not stop within 5 s",
        f"Removed the socket {runtime.socket}",
        f"Removed the lock {runtime.socket}.lock",
    ]
    assert daemon.wait(20) == -signal.SIGKILL
    assert list(runtime.directory.iterdir()) == []


def test_clean_removes_only_what_is_the_runtimes(runtime: Place) -> None:
    runtime.log.symlink_to("/etc/hostname")
    cleaned = runtime.run("clean")
    assert (cleaned.returncode, cleaned.stdout) == (0, f"Left {runtime.log} alone: it is no regular file\n")
    assert runtime.log.is_symlink()
    runtime.socket.write_text("not a socket")
    cleaned = runtime.run("clean")
    assert cleaned.returncode == 1
    what = f"a file of {user_name(os.geteuid())}, no socket"
    assert cleaned.stderr.startswith(f"Error: {runtime.socket} is {what}: left alone; see what it is, ")
    assert runtime.socket.read_text() == "not a socket"


def test_who_may_not_use_the_socket_is_told_so(runtime: Place) -> None:
    runtime.begin_daemon()
    # As another user when this is root, for whom no mode counts; modules are loaded before.
    script = (
        "import os, sys; from vastar_runtime.cli import main, control, status, probe, options, clean\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.argv[0] = 'vastar-runtime'; main()"
    )
    runtime.directory.chmod(0o755)
    runtime.socket.chmod(0)
    whose = "belongs to root (uid 0), mode 0000; run this as" if os.geteuid() == 0 else "is this user's own, and its"
    why = f"ermission denied on {runtime.socket}: it {whose}"
    for command, returncode in (("status", 1), ("start", 1), ("stop", 1)):
        done = subprocess.run(
            [sys.executable, "-c", script, command],
            capture_output=True,
            text=True,
            env=runtime.environ,
            timeout=50,
            check=False,
        )
        assert done.returncode == returncode
        assert why in done.stdout + done.stderr
    runtime.socket.chmod(0o600)
    assert runtime.probe().state is State.RUNNING
