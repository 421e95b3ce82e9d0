"""The commands as a person meets them: help, version, bad file descriptors; and what they do not load."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from command_line import run

from vastar_runtime import __version__, cli
from vastar_runtime.cli import _group

ROOT = Path(__file__).resolve().parents[2]


def commands(
    group: click.Group = _group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and command of a command, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_every_command_is_listed() -> None:
    said = run("--help").output
    listed = [line.split()[0] for line in said.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()]
    assert listed == [path[0] for path, _ in commands() if len(path) == 1]
    assert {"start", "status", "request", "completion", "clean"} <= set(listed)


def test_no_line_of_a_list_of_commands_is_cut_off_or_wrapped() -> None:
    for path in ((), ("config",)):
        lines = run(*path, "--help").output.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
        assert [line for line in lines if line.endswith("...") or line[2] == " "] == [], path


def test_every_command_has_help_with_an_example_and_without_colour() -> None:
    for path, _ in commands():
        done = run(*path, "--help")
        assert (done.exit_code, done.stderr) == (0, ""), path
        assert f"Example: {cli.NAME} {path[0]}" in done.output or path == ("completion",), path
        assert "Example: " in done.output, path
        assert "\x1b" not in done.output, path
        assert run(*path, "-h").output == done.output, path


def test_bad_usage_of_every_command_is_one_line_that_names_its_help() -> None:
    for path, _ in commands():
        done = run(*path, "--no-such-option")
        assert (done.exit_code, done.stdout) == (2, ""), path
        assert done.stderr.startswith("Error: No such option '--no-such-option'"), path
        assert done.stderr.endswith(f"; see: {cli.NAME} {' '.join(path)} --help\n"), path
        assert done.stderr.count("\n") == 1, path


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["bogus"], "No such command 'bogus'; see: vastar-runtime --help"),
        (["config", "bogus"], "No such command 'bogus'; see: vastar-runtime config --help"),
        (["stop", "now"], "Got unexpected extra argument (now); see: vastar-runtime stop --help"),
        (["config", "explain"], "Missing option '--url'; see: vastar-runtime config explain --help"),
        (["start", "--config"], "Option '--config' requires an argument"),
        (["usage", "--by", "x\n\x1b"], "Invalid value for '--by': 'x\\n\\x1b' is not one of"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], line: str) -> None:
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {line}")
    assert done.stderr.count("\n") == 1


def test_who_asks_for_nothing_gets_the_help() -> None:
    for path in ((), ("config",)):
        done = run(*path)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith("Usage: vastar-runtime")


def test_the_version() -> None:
    assert run("--version").output == f"vastar-runtime, version {__version__}\n"


def test_a_ready_fd_that_is_not_open_is_bad_usage() -> None:
    done = run("run", "--ready-fd", "987654")
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
