"""Whose word a restart takes for which file it is to start with."""

import os

import pytest

from vastar_runtime.cli import control
from vastar_runtime.cli.probe import Found, State

WANTED = control._Wanted(None, "/tmp/s", None, None)


@pytest.mark.parametrize(
    ("state", "uid", "file"),
    [
        (State.RUNNING, os.geteuid(), "/etc/its.toml"),
        (State.RUNNING, os.geteuid() + 1, None),  # anybody can put a socket into /tmp
        (State.RUNNING, None, None),
        (State.LEGACY, os.geteuid(), None),
        (State.NOT_RUNNING, None, None),
    ],
)
def test_a_daemon_of_this_user_is_asked_which_file_it_runs_with_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, state: State, uid: int | None, file: str | None
) -> None:
    monkeypatch.delenv("VASTAR_CONFIG", raising=False)
    monkeypatch.setattr(control, "probe", lambda path: Found(state=state, socket_path=path, pid=1, uid=uid))
    monkeypatch.setattr(control, "ask_runtime", lambda *_: {"config_file": "/etc/its.toml"})
    assert control._with_its_file(WANTED, "/tmp/s") == WANTED._replace(config_path=file)


def test_a_file_that_is_named_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "probe", pytest.fail)
    monkeypatch.setenv("VASTAR_CONFIG", "/etc/named.toml")
    assert control._with_its_file(WANTED, "/tmp/s") == WANTED
