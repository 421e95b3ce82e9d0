"""How commands end that do not end well: one line, and a code of the table."""

from __future__ import annotations

import errno
import os

import click
import pytest

from connector_sdk import ConnectorException, ErrorClass
from vastar_runtime.cli.ending import ending
from vastar_runtime.cli.exit_codes import MEANINGS, CommandFailed, ExitCode, table
from vastar_runtime.errors import ConfigError, StartupError


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


def test_every_code_has_a_meaning_in_the_table() -> None:
    assert list(MEANINGS) == list(ExitCode)
    assert len(table().splitlines()) == len(ExitCode)
