"""Whose word a restart takes for which file it is to start with, and that it stops nothing where nobody says it."""

import os
from pathlib import Path
from typing import Any

import pytest
from command_line import run

from vastar_runtime.cli import control, probe, restarting
from vastar_runtime.cli.probe import Found, State
from vastar_runtime.cli.restarting import file_to_keep
from vastar_runtime.errors import StartupError

ITS = {"config_file": "/etc/its.toml"}
ROOT, ANOTHER_UID = 0, 54321
REFUSED = StartupError("the daemon on /tmp/s refuses: internal error of the runtime")


def found(state: State, uid: int | None = None, pid: int | None = 1) -> Found:
    return Found(state=state, socket_path="/tmp/s", pid=pid, uid=uid)


def answer(monkeypatch: pytest.MonkeyPatch, told: dict[str, Any] | StartupError) -> None:
    def ask(*_: object) -> dict[str, Any]:
        if isinstance(told, StartupError):
            raise told
        return told

    monkeypatch.setattr(restarting, "ask_runtime", ask)
    monkeypatch.setattr(probe, "is_runtime", lambda _pid: True)


def test_a_daemon_of_this_user_says_which_file_it_runs_with(monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("/etc/its.toml", None):
        answer(monkeypatch, {"config_file": file})
        assert file_to_keep(found(State.RUNNING, os.geteuid())) == file


THE_DAEMON = "the daemon on /tmp/s (PID 1)"


@pytest.mark.parametrize(
    ("state", "uid", "told", "why"),
    [
        (State.RUNNING, ROOT, REFUSED, str(REFUSED)),
        (State.RUNNING, ROOT, {}, f"{THE_DAEMON} is of another version"),
        (State.RUNNING, None, ITS, f"{THE_DAEMON} belongs to a user that cannot be seen from here"),
        (State.RUNNING, ANOTHER_UID, ITS, f"{THE_DAEMON} belongs to uid {ANOTHER_UID}"),  # anybody can put it into /tmp
        (State.SILENT, ROOT, ITS, "PID 1 listens on /tmp/s but is no healthy daemon: "),
        (
            State.CUT_OFF,
            ROOT,
            ITS,
            "the daemon (PID 1) has lost its socket /tmp/s, which was removed: nobody can connect",
        ),
        (State.CLOSED, None, ITS, f"{THE_DAEMON} accepts no connections: it is starting or shutting down"),
    ],
)
def test_one_that_does_not_tell_goes_on_with_its_rules(
    state: State, uid: int | None, told: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, told)
    monkeypatch.setattr(control, "probe", lambda _path: found(state, uid))
    monkeypatch.setattr(control, "_stop", pytest.fail)
    monkeypatch.setattr(os, "geteuid", lambda: ROOT)
    done = run("restart", "--socket", "/tmp/s", environ={"VASTAR_CONFIG": None})
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: {why}; which configuration file it runs with cannot be told, so nothing was stopped: "
        "give --config (or --config /dev/null for none)\n"
    )


def test_who_may_not_stop_a_daemon_is_told_whose_it_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: ANOTHER_UID)
    with pytest.raises(StartupError, match=r"^PID 1 belongs to root \(uid 0\): not permitted to stop it; run this as "):
        file_to_keep(found(State.RUNNING, ROOT))


@pytest.mark.parametrize(
    ("state", "pid"), [(State.NOT_RUNNING, None), (State.LEGACY, 1), (State.FORBIDDEN, None), (State.RUNNING, None)]
)
def test_where_there_is_no_daemon_to_be_ended_there_is_no_file_to_keep(state: State, pid: int | None) -> None:
    assert file_to_keep(found(state, os.geteuid(), pid)) is None


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    monkeypatch.setenv("VASTAR_LOG_FILE", str(path))
    return path


@pytest.mark.usefixtures("log")
def test_a_file_that_is_named_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise StartupError("it came so far")

    monkeypatch.setattr(control, "probe", pytest.fail)
    monkeypatch.setattr(control, "_stop", stop)
    for words, environ in (([], {"VASTAR_CONFIG": os.devnull}), (["--config", os.devnull], {"VASTAR_CONFIG": None})):
        done = run("restart", "--socket", "/tmp/s", *words, environ=environ)
        assert done.stderr == "Error: it came so far\n"


def test_a_log_that_the_next_daemon_could_not_write_ends_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_stop", pytest.fail)
    done = run("restart", "--socket", "/tmp/s", "--config", os.devnull, "--log-file", "/proc/nowhere/log")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: cannot open the log /proc/nowhere/log: ")


@pytest.mark.usefixtures("log")
def test_it_is_said_that_a_daemon_runs_as_another_user_from_now_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: ROOT)
    monkeypatch.setattr(control, "_stop", lambda *_: found(State.RUNNING, ANOTHER_UID))
    monkeypatch.setattr(control, "_start", lambda *_: control._Started(started=True, pid=2, socket="/tmp/s"))
    done = run("restart", "--socket", "/tmp/s", "--config", os.devnull)
    assert done.stdout.endswith(f"   The one before ran as uid {ANOTHER_UID}, this one runs as root (uid 0)\n")
