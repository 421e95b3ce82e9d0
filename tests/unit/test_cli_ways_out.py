"""What commands say about a daemon that is in the way: what can be typed, and works."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Self

import pytest
from command_line import run

from vastar_runtime import config
from vastar_runtime.cli import control, probe, standard_descriptors, status
from vastar_runtime.cli.probe import Found, State
from vastar_runtime.errors import StartupError

HUNG = Found(state=State.SILENT, socket_path="/tmp/a b/s", pid=7, uid=0, detail="no answer within 3 s")
REMEDY = "; see what it is at: vastar-runtime doctor"


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
    found = Found(state=State.SILENT, socket_path="/s", pid=pid, detail="unknown message type 99")
    assert status._summary(found, None).running is running
    assert probe.remedy(found) == ("" if running is False else REMEDY)


def test_the_default_log_is_not_removed_with_another_socket_whose_daemon_may_not_be_its(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    monkeypatch.setattr(importlib.import_module("vastar_runtime.cli.clean"), "_remove_log", removed.append)
    environ: dict[str, Any] = {"VASTAR_LOG_FILE": None, "VASTAR_SOCKET_PATH": "/nowhere/s", "VASTAR_CONFIG": os.devnull}
    for words, log in (
        ([], [config.DEFAULT_LOG_PATH]),
        (["--socket", "/nowhere/t"], []),
        (["--socket", "/nowhere/t", "--log-file", "/nowhere/log"], ["/nowhere/log"]),
    ):
        removed.clear()
        assert run("clean", *words, environ=environ).exit_code == 0
        assert removed == log
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
