"""Who is on the socket, by what it answers."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from connector_sdk.wire import CreditUpdate, HealthCheckResponse, encode_message
from vastar_runtime.cli.probe import Found, State, probe
from vastar_runtime.cli.process import Process, describe, lock_holder, title
from vastar_runtime.errors import StartupError

HEALTH = HealthCheckResponse(healthy=True, version="9.9", uptime_ms=1234, active_requests=2)


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="v-", dir="/tmp") as directory:
        yield f"{directory}/s"


@contextmanager
def answering(path: str, pieces: Sequence[bytes] | None) -> Iterator[None]:
    """On every connection: reads the question, sends the pieces and closes; None: says nothing until the end."""
    over = threading.Event()

    def answer(listening: socket.socket) -> None:
        while True:
            connection, _ = listening.accept()
            with connection:
                if over.is_set():
                    return
                assert connection.recv(65536) == b"\0\0\0\1\2"  # HealthCheck, protocol.md part 1
                for piece in pieces or ():
                    connection.sendall(piece)
                if pieces is None:
                    over.wait(30)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(path)
            thread.join()


def test_the_answer_of_a_daemon_with_its_pid_from_the_kernel(path: str) -> None:
    with answering(path, [encode_message(HEALTH)]):
        found = probe(path)
    assert (found.state, found.pid, found.uid, found.health) == (State.RUNNING, os.getpid(), os.geteuid(), HEALTH)


def test_an_answer_in_single_bytes_after_another_message(path: str) -> None:
    data = encode_message(CreditUpdate(total_credits=5)) + encode_message(HEALTH)
    with answering(path, [data[i : i + 1] for i in range(len(data))]):
        assert probe(path).health == HEALTH


@pytest.mark.parametrize(
    ("pieces", "detail"),
    [
        (None, "no answer within 0.2 s"),
        ([], "it closed the connection without an answer"),
        ([b"\0\0"], "it closed the connection without an answer"),
        ([b"SSH-2.0-x\r\n"], "frame length 1397966893 exceeds the limit of 10485760 bytes"),
        ([b"\0\0\0\0"], "frame length 0: a frame has at least its type byte"),
        ([b"\0\0\0\2\x63x"], "unknown message type 99"),
    ],
)
def test_what_is_no_answer_is_told(path: str, pieces: list[bytes] | None, detail: str) -> None:
    with answering(path, pieces):
        found = probe(path, timeout_s=0.2 if pieces is None else 3.0)
    assert (found.state, found.pid, found.detail) == (State.SILENT, os.getpid(), detail)


def test_a_queue_of_connections_that_is_full_is_no_daemon_that_answers(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as waiting:
        listening.bind(path)
        listening.listen(0)
        waiting.connect(path)
        found = probe(path)
    assert (found.state, found.pid, found.detail) == (State.SILENT, None, "its queue of new connections is full")


def test_nobody_there(path: str) -> None:
    assert probe(path).state is State.NOT_RUNNING
    assert probe(f"{path}/below/s").state is State.NOT_RUNNING
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert probe(path).state is State.NOT_RUNNING
    assert probe(f"{path}/below/s").state is State.NOT_RUNNING  # a directory that is a socket


def test_a_socket_of_another_kind_is_one_line(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(path)
        with pytest.raises(StartupError, match=f"^cannot connect to {path}: "):
            probe(path)


def test_a_lock_without_a_holder_or_held_by_another_program_is_no_daemon(path: str) -> None:
    assert lock_holder(path) is None
    with Path(f"{path}.lock").open("w") as file:
        assert lock_holder(path) is None
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock_holder(path) is None


def test_who_has_lost_its_socket_is_known_by_its_lock_or_is_a_daemon_of_this_user_that_sees_the_same_files(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that listens on this path, by a daemon's title, may be one of another mount namespace, or anybody's."""
    its_title = {os.getpid(): title(path)}
    cut_off = Found(state=State.CUT_OFF, socket_path=path, pid=os.getpid(), uid=os.geteuid())
    monkeypatch.setattr("vastar_runtime.cli.process.describe", lambda pid: its_title.get(pid, ""))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        os.unlink(path)
        assert probe(path) == cut_off
        monkeypatch.setattr("vastar_runtime.cli.process.is_apart", lambda _pid, kind: kind == "mnt")
        assert probe(path) == Found(state=State.NOT_RUNNING, socket_path=path)
        monkeypatch.setattr("vastar_runtime.cli.process.is_apart", lambda *_: False)
        with monkeypatch.context() as patch:
            patch.setattr("vastar_runtime.cli.process.owner", lambda _pid: 54321)
            assert probe(path) == Found(state=State.NOT_RUNNING, socket_path=path)
        with Path(f"{path}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            monkeypatch.setattr("vastar_runtime.cli.process.is_apart", lambda *_: True)
            assert probe(path) == cut_off


# --- processes ---


def test_a_process_of_another_name_is_not_taken_hold_of() -> None:
    with pytest.raises(StartupError, match=rf"^PID {os.getpid()} \(.+\) is no vastar-connector-runtime: left alone$"):
        Process(os.getpid())


def test_a_process_that_has_ended_is_told_apart() -> None:
    child = subprocess.Popen(["vastar-connector-runtime", "-c", ""], executable=sys.executable)
    child.wait()
    with pytest.raises(ProcessLookupError):
        Process(child.pid)


def test_a_zombie_has_ended_too() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        Process(child.pid)
    child.wait()


def test_a_runtime_is_recognised_by_its_title_or_its_program_name(path: str) -> None:
    for name in (title(path), "/opt/bin/vastar-connector-runtime"):
        child = subprocess.Popen(
            [name, "-c", "print(flush=True); input()"],
            executable=sys.executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        with child, Process(child.pid) as process:
            assert describe(child.pid).startswith(name)
            assert not process.wait(0)
            process.send(signal.SIGKILL)
            assert process.wait(30)
            child.wait()
            process.send(signal.SIGKILL)  # nothing is there: nothing happens
