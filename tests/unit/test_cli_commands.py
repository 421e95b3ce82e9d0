"""The commands as a person meets them: help, version, bad file descriptors; and what they do not load."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from vastar_runtime import __version__
from vastar_runtime.cli import _group

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("start", "stop", "restart", "status", "reload", "run", "config", "usage", "simulator", "demo")


def test_every_command_is_listed_and_clean_is_for_its_script() -> None:
    said = CliRunner().invoke(_group, ["--help"]).output
    listed = [line.split()[0] for line in said.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()]
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", [*(c for c in COMMANDS if c != "simulator"), "clean"])
def test_every_command_has_help(command: str) -> None:
    done = CliRunner().invoke(_group, [command, "--help"])
    assert done.exit_code == 0
    assert command == "clean" or "Example: vastar-runtime" in done.output


def test_the_version() -> None:
    assert CliRunner().invoke(_group, ["--version"]).output == f"vastar-runtime, version {__version__}\n"


def test_a_ready_fd_that_is_not_open_is_bad_usage() -> None:
    done = CliRunner().invoke(_group, ["run", "--ready-fd", "987654"])
    assert done.exit_code == 2
    assert "987654 is no open file descriptor" in done.output


def test_the_daemon_starts_without_the_simulators_web_stack() -> None:
    """Start-up time and memory are features."""
    script = (
        "import sys, vastar_runtime.cli.run, vastar_runtime.daemon\n"
        "heavy = {'starlette', 'hypercorn', 'connector_sdk.openai'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"
