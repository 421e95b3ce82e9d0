"""What commands say about a daemon that is in the way: what can be typed, and works."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from command_line import run

from connector_sdk.wire import HealthCheckResponse
from vastar_runtime import config
from vastar_runtime.cli import control, probe, standard_descriptors, status
from vastar_runtime.cli.probe import Found, State
from vastar_runtime.errors import StartupError

HUNG = Found(state=State.SILENT, socket_path="/tmp/a b/s", pid=7, uid=0, detail="no answer within 3 s")
REMEDY = "; see what it is at: vastar-runtime doctor --socket '/tmp/a b/s'"


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon of ours that does not answer, and ignores SIGTERM."""

    class Process:
        def __init__(self, pid: int) -> None:
            assert pid == HUNG.pid

        def send(self, number: int) -> None: ...

        def wait(self, timeout_s: float) -> bool:
            return False

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

    for module in (probe, control):
        monkeypatch.setattr(module, "is_runtime", lambda pid: True)
    monkeypatch.setattr(control, "Process", Process)
    for name in ("control", "status", "reload"):
        monkeypatch.setattr(importlib.import_module(f"vastar_runtime.cli.{name}"), "probe", lambda path: HUNG)


def test_one_that_hangs_is_the_doctor_s_and_is_ended_by_force_with_a_command_that_is_installed(hung: None) -> None:
    environ = {"VASTAR_CONFIG": os.devnull}
    assert run("status", environ=environ).output.endswith(f"no answer within 3 s{REMEDY}\n")
    assert run("reload", environ=environ).output.endswith(f"no answer within 3 s{REMEDY}\n")
    stop_it = "stop it first (vastar-runtime clean --socket '/tmp/a b/s'), or choose another path with --socket\n"
    assert run("start", environ=environ).output.endswith(stop_it)
    stopped = run("stop", "--socket", "/tmp/a b/s", environ=environ)
    assert stopped.stdout == "It did not answer before, and may hang: waiting for its end (45 s at most)\n"
    assert stopped.stderr.endswith("; end it by force: vastar-runtime clean --socket '/tmp/a b/s'\n")


@pytest.mark.parametrize(("pid", "is_ours", "running"), [(7, True, True), (7, False, False), (None, False, None)])
def test_only_a_daemon_is_said_to_run(
    pid: int | None, is_ours: bool, running: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "is_runtime", lambda pid: is_ours)
    found = Found(state=State.SILENT, socket_path="/tmp/a b/s", pid=pid, detail="unknown message type 99")
    assert status._summary(found, None).running is running
    assert probe.remedy(found) == ("" if running is False else REMEDY)


def test_a_command_that_is_told_is_for_the_socket_that_was_asked_and_for_whoever_may_give_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restart = ", with the options that it was started with, --config too: vastar-runtime restart"
    here = Found(state=State.CUT_OFF, socket_path=config.DEFAULT_SOCKET_PATH, pid=7, uid=os.geteuid())
    assert probe.remedy(here) == f"; restart it{restart}"
    another = msgspec.structs.replace(here, socket_path="/tmp/a b/s", uid=54321)
    assert probe.remedy(another) == f"; restart it as uid 54321{restart} --socket '/tmp/a b/s'"
    draining = Found(state=State.RUNNING, socket_path="/s", pid=7, health=HealthCheckResponse(draining=True))
    assert control._in_the_way(draining).endswith("; wait for it with: vastar-runtime stop --socket /s")
    told = {"config_file": "/etc/hostname", "configured_at_unix_s": 0}
    monkeypatch.setattr(status, "probe", lambda _: msgspec.structs.replace(draining, health=HealthCheckResponse()))
    monkeypatch.setattr(status, "_statistics", lambda _: (told | {"policies": {}}, [], ""))
    assert "; apply it with: vastar-runtime reload --socket /s)" in run("status", "--socket", "/s").output


def test_the_default_log_is_not_removed_with_another_socket_whose_daemon_may_not_be_its(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    removed: list[str] = []
    monkeypatch.setattr(importlib.import_module("vastar_runtime.cli.clean"), "_remove_log", removed.append)
    environ: dict[str, Any] = {"VASTAR_LOG_FILE": None, "VASTAR_SOCKET_PATH": "/nowhere/s", "VASTAR_CONFIG": os.devnull}
    nothing = "Nothing to clean up: no runtime on"
    for words, log, said in (
        ([], [], f"{nothing} /nowhere/s, no socket\n"),
        (["--socket", "/nowhere/t"], [], f"{nothing} /nowhere/t, no socket\n"),
        (
            ["--socket", "/nowhere/t", "--log-file", "/nowhere/log"],
            ["/nowhere/log"],
            f"{nothing} /nowhere/t, no socket, no log\n",
        ),
    ):
        removed.clear()
        assert run("clean", *words, environ=environ).output == said
        assert removed == log
    with monkeypatch.context() as patched:
        patched.setattr(config, "DEFAULT_SOCKET_PATH", "/nowhere/s")
        removed.clear()
        assert run("clean", environ=environ).exit_code == 0
        assert removed == [config.DEFAULT_LOG_PATH]
    removed.clear()
    environ["VASTAR_LOG_FILE"] = "/nowhere/log"
    assert run("clean", "--socket", "/nowhere/t", environ=environ).exit_code == 0
    assert removed == ["/nowhere/log"]


def test_a_log_that_says_nothing_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StartupError("it ended before it was ready (exit status 1)")

    monkeypatch.setattr(control, "spawn", fail)
    log = tmp_path / "log"
    done = run("start", "--socket", "/nowhere/s", "--log-file", str(log), environ={"VASTAR_CONFIG": os.devnull})
    assert done.output.endswith(f"it ended before it was ready (exit status 1); {log} says nothing\n")


def test_a_ready_pipe_is_no_standard_descriptor() -> None:
    for command in ("run", "simulator"):
        done = run(command, "--ready-fd", "2", environ={"VASTAR_CONFIG": os.devnull})
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith("Error: Invalid value for '--ready-fd': 2 ")


def test_a_machine_without_dev_null_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_descriptors, "_is_open", lambda fd: fd != 1)
    monkeypatch.setattr(os, "devnull", "/nowhere/null")
    with pytest.raises(StartupError, match=r"^cannot open /nowhere/null in place of descriptor 1: No such file or dir"):
        standard_descriptors.fill_standard_descriptors()
