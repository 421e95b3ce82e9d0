"""With ``--json`` a failure is an object on standard output, besides the line on standard error."""

from __future__ import annotations

import errno
import io
import json
import os
import socket
import sys
import tempfile

import pytest
from command_line import run

from vastar_runtime.cli import _group
from vastar_runtime.cli.ending import ending
from vastar_runtime.cli.json_failure import wants_json
from vastar_runtime.errors import StartupError

NOWHERE = ["--socket", "/nowhere/s"]


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["start", "--socket-mode", "999"], 2),
        (["start", *NOWHERE, "--log-file", "/proc/log"], 1),
        (["restart", "--workers", "many"], 2),
        (["stop", "now"], 2),
        (["reload", *NOWHERE], 3),
        (["usage", "--file", "/dev/null"], 1),
        (["usage", "--since", "noon"], 2),
        (["config", "show", "--config", "/no/such.toml"], 1),
        (["config", "explain", "--url", "ftp://h"], 2),
        (["doctor", "--bogus"], 2),
    ],
)
def test_every_command_has_the_same_form(words: list[str], exit_code: int) -> None:
    environ = {"VASTAR_CONFIG": os.devnull}
    done = run(*words, "--json", environ=environ)
    assert done.exit_code == exit_code, done.output
    assert done.stderr.startswith("Error: ")
    assert json.loads(done.stdout) == {"error": done.stderr[len("Error: ") : -1], "exit_code": exit_code}
    assert run(*words, environ=environ).stdout == ""


def test_a_socket_that_cannot_be_asked_is_one_too() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="v-", dir="/tmp") as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(f"{directory}/s")
        done = run("status", "--json", "--socket", f"{directory}/s", environ={"VASTAR_CONFIG": os.devnull})
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"].startswith(f"cannot connect to {directory}/s: ")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--json"],
        ["config"],
        ["no-such", "--json"],
        ["config", "no-such", "--json"],
        ["stop", "--", "--json"],
        ["demo", "--json"],  # has no such option
        ["request", "--json", "http://h"],  # prints its own
    ],
)
def test_who_does_not_ask_for_it_gets_none(words: list[str]) -> None:
    assert not wants_json(_group, words)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_an_object_that_cannot_be_written_changes_no_exit_code(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unwritable(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(sys, "stdout", Unwritable())
    with pytest.raises(SystemExit) as ended, ending(lambda: True):
        raise StartupError("no")
    assert ended.value.code == 1
