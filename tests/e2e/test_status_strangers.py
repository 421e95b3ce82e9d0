"""status and reload with something on the socket that is no daemon of this version."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_place import Place, place

from connector_sdk.wire import (
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    FrameDecoder,
    HealthCheck,
    HealthCheckResponse,
    Message,
    decode_message,
    encode_message,
)
from vastar_runtime.cli import _group, main

HEALTH = HealthCheckResponse(healthy=True, version="0.9", uptime_ms=5)


@pytest.fixture
def runtime() -> Iterator[Place]:
    with place() as opened:
        yield opened


@pytest.fixture
def command(
    runtime: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``runtime.run`` in this process, which is many times faster."""
    for name in os.environ.keys() - runtime.environ.keys():
        monkeypatch.delenv(name)
    for name, value in runtime.environ.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["vastar-runtime", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return subprocess.CompletedProcess(arguments, code or 0, *capsys.readouterr())

    return run


@contextmanager
def answering(path: Path, answer: Callable[[Message], Message | None]) -> Iterator[None]:
    """Something on the socket that answers each message, or, with None, closes the connection."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            decoder = FrameDecoder()
            while data := self.request.recv(65536):
                decoder.receive_data(data)
                while (frame := decoder.next_frame()) is not None:
                    if (reply := answer(decode_message(*frame))) is None:
                        return
                    self.request.sendall(encode_message(reply))

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def healthy_but(answer: ExecuteResponse | None) -> Callable[[Message], Message | None]:
    def reply(message: Message) -> Message | None:
        if isinstance(message, HealthCheck):
            return HEALTH
        assert isinstance(message, ExecuteRequest)
        assert message.connector_name == "runtime"
        return answer

    return reply


NOT_UNDERSTOOD = "answers what is no answer to this version of the command"
UNKNOWN = ExecuteResponse(
    request_id=1, error_class=ErrorClass.INVALID_REQUEST, error_message="Unknown connector: runtime (known: http)"
)
INVALID = ExecuteResponse(error_class=ErrorClass.INVALID_REQUEST, error_message="Invalid FlatBuffers message")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (UNKNOWN, "refuses: Unknown connector: runtime (known: http)"),
        (INVALID, "refuses: Invalid FlatBuffers message"),
        (None, "cannot be asked: it closed the connection"),
        (ExecuteResponse(request_id=1, payload=b"<html>"), NOT_UNDERSTOOD),
        (ExecuteResponse(request_id=1, payload=b"[]"), NOT_UNDERSTOOD),
        (ExecuteResponse(request_id=1, payload=b"{}"), NOT_UNDERSTOOD),
        (
            ExecuteResponse(request_id=1, payload=b"[" * 10**6),
            NOT_UNDERSTOOD,
        ),
        (ExecuteResponse(request_id=1, payload=b'"\xff"'), NOT_UNDERSTOOD),
        (ExecuteResponse(request_id=1), "refuses: it gives no reason"),
        (
            ExecuteResponse(request_id=1, error_class=ErrorClass.PERMANENT, error_message="no\x1b[2J\n   Held back: x"),
            "refuses: no\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}   Held back: x",
        ),
    ],
)
def test_a_daemon_of_another_version_is_shown_without_what_it_does_not_tell(
    runtime: Place,
    command: Callable[..., subprocess.CompletedProcess[str]],
    answer: ExecuteResponse | None,
    reason: str,
) -> None:
    with answering(runtime.socket, healthy_but(answer)):
        status = command("status")
        assert (status.returncode, status.stderr) == (0, "")
        assert status.stdout.startswith("Running\n")
        assert status.stdout.endswith(
            f"   Active requests: 0\n   Limits and circuits: the daemon on {runtime.socket} {reason}\n"
        )
        as_json = command("status", "--json")
        assert (as_json.returncode, as_json.stderr) == (0, "")
        assert json.loads(as_json.stdout)["version"] == "0.9"
        reload = command("reload")
        assert (reload.returncode, reload.stdout) == (1, "")
        assert reload.stderr == f"Error: the daemon on {runtime.socket} {reason}\n"


def test_a_stranger_who_listens_in_the_daemons_place_does_not_drive_the_terminal(runtime: Place) -> None:
    """The socket's default path is where anybody may put one."""
    evil = "x\x1b[2J\nReloaded: all is well\x9b"
    mistakes = {"file": None, "mistakes": [evil, evil], "settings": 0, "scopes": 0, "needs_restart": []}
    reloaded = {"file": evil, "mistakes": [], "settings": 1, "scopes": 0, "needs_restart": [evil]}
    for told, count in ((mistakes, 2), (reloaded, 2)):

        def reply(message: Message, told: object = told) -> Message:
            if isinstance(message, HealthCheck):
                return HealthCheckResponse(healthy=True, version=evil, uptime_ms=5)
            return ExecuteResponse(request_id=1, payload=json.dumps(told).encode())

        with answering(runtime.socket, reply):
            reload, status = runtime.run("reload"), runtime.run("status")
        runtime.socket.unlink()
        lines = (reload.stdout + reload.stderr).splitlines()
        assert len(lines) == count
        assert all(line.isprintable() for line in [*lines, *status.stdout.splitlines()])
        assert "Version: x\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}Reloaded" in status.stdout


@pytest.mark.parametrize("part", ["admission", "rate_limit", "circuit_breaker"])
@pytest.mark.parametrize("found", [None, 1, "x", [], {}, {"tenants": [1], "refusing": [{}], "circuits": [{}]}])
def test_a_snapshot_of_another_shape_is_no_traceback(part: str, found: object, runtime: Place) -> None:
    policies = {
        "admission": {"max_concurrent": None, "running": 0, "waiting": 0, "tenants": []},
        "rate_limit": {"refusing": []},
        "circuit_breaker": {"circuits": [], "not_closed": 0},
    } | {part: found}
    payload = json.dumps({"policies": policies}).encode()
    with answering(runtime.socket, healthy_but(ExecuteResponse(request_id=1, payload=payload))):
        status = CliRunner().invoke(
            _group, ["status", "--socket", str(runtime.socket)], env={"VASTAR_CONFIG": os.devnull}
        )
    assert status.exit_code == 0, status.exception
    assert status.output.endswith(f"{NOT_UNDERSTOOD}\n")


def test_the_existing_runtime_is_neither_asked_nor_reloaded(runtime: Place) -> None:
    def reply(message: Message) -> Message:
        assert isinstance(message, HealthCheck)
        return INVALID

    with answering(runtime.socket, reply):
        status = runtime.run("status")
        found = f"he existing runtime (PID {os.getpid()}) answers on {runtime.socket}\n"
        assert (status.returncode, status.stdout) == (1, f"T{found}")
        reload = runtime.run("reload")
        assert (reload.returncode, reload.stdout, reload.stderr) == (1, "", f"Error: t{found}")


def test_what_is_no_daemon_is_not_reloaded(runtime: Place) -> None:
    with answering(runtime.socket, lambda _: None):
        reload = runtime.run("reload")
    assert (reload.returncode, reload.stdout) == (1, "")
    assert reload.stderr == (
        f"Error: PID {os.getpid()} listens on {runtime.socket} but is no healthy daemon: "
        "it closed the connection without an answer\n"
    )
