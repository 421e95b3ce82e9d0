"""How commands end that do not end well: one line, and a code of the table."""

from __future__ import annotations

import errno
import io
import os
import sys

import click
import pytest
from click.exceptions import NoArgsIsHelpError

from connector_sdk import ConnectorException, ErrorClass
from vastar_runtime import cli
from vastar_runtime.cli.ending import ending
from vastar_runtime.cli.exit_codes import MEANINGS, CommandFailed, ExitCode, table
from vastar_runtime.errors import ConfigError, StartupError


class Unwritable(io.StringIO):
    """A standard stream whose reader has gone, or whose disk is full."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.error = OSError(number, os.strerror(number))

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (StartupError("no\n  room"), 1, "Error: no room\n"),
        (ConfigError("runtime.toml:1: no"), 1, "Error: runtime.toml:1: no\n"),
        (CommandFailed(ExitCode.NOT_RUNNING, "not running"), 3, "Error: not running\n"),
        (CommandFailed(ExitCode.NOT_WRITTEN, ""), 23, ""),
        (ConnectorException("slow", ErrorClass.TIMEOUT), 28, "Error: slow\n"),
        (ConnectorException("odd", ErrorClass.SUCCESS), 1, "Error: odd\n"),
        (click.ClickException("\x1b[2J"), 1, "Error: \ufffd[2J\n"),
        (click.BadParameter("five", param_hint="--six"), 2, "Error: Invalid value for --six: five\n"),
        (click.Abort(), 130, "Interrupted\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            23,
            "Error: the output cannot be written: No space left on device\n",
        ),
    ],
)
def test_an_error_becomes_a_line_and_an_exit_code(
    error: Exception, exit_code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, ending():
        raise error
    assert ended.value.code == exit_code
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("error", [KeyError("a fault"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/var/log/x")])
def test_what_is_a_fault_of_the_program_is_not_hidden(error: Exception) -> None:
    with pytest.raises(type(error)), ending():
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ConnectorException("slow", ErrorClass.TIMEOUT), 28),
        (CommandFailed(ExitCode.NOT_RUNNING, "not running"), 3),
        (click.UsageError("no"), 2),
        (NoArgsIsHelpError(click.Context(click.Command("one"))), 2),
        (click.Abort(), 130),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 23),
    ],
)
def test_an_error_that_cannot_be_said_keeps_its_exit_code(
    error: Exception, exit_code: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", Unwritable(number))
    with pytest.raises(SystemExit) as ended, ending():
        raise error
    assert ended.value.code == exit_code


def test_ctrl_c_is_one_even_where_not_even_a_line_end_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stderr", Unwritable(errno.EPIPE))
    with pytest.raises(SystemExit) as ended, ending():
        click.Command("one", callback=interrupted).main([], standalone_mode=False)
    assert ended.value.code == 130


@pytest.mark.parametrize(
    "words", [["--help"], ["status", "--socket", "/nowhere"], ["completion", "bash"], ["stop", "-h"]]
)
def test_a_command_whose_reader_has_gone_ends_quietly_with_the_code_of_the_table(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Unwritable(errno.EPIPE))
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == ExitCode.NOT_WRITTEN
    assert capsys.readouterr().err == ""


def test_a_standard_output_that_is_closed_changes_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from vastar_runtime.cli.doctor_checks import plan
    from vastar_runtime.cli.doctor_checks.finding import ok

    monkeypatch.setattr("vastar_runtime.cli.doctor.examine", lambda _: [plan.Report("Python", [ok("version", "3")])])
    monkeypatch.setattr(sys, "stdout", None)
    for words, code in ((["doctor", "--without-request"], 0), (["status", "--socket", "/nowhere"], 3), (["--help"], 0)):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert (ended.value.code or 0) == code, words


def test_every_code_has_a_meaning_in_the_table() -> None:
    assert list(MEANINGS) == list(ExitCode)
    assert len(table().splitlines()) == len(ExitCode)
