"""``vastar-runtime reload``."""

import shlex
import sys
from typing import Any

import click

from vastar_runtime import config
from vastar_runtime.config.paths import given_path
from vastar_runtime.connectors.base import Reloaded
from vastar_runtime.errors import StartupError

from .asking import ask_runtime
from .exit_codes import CommandFailed, ExitCode
from .options import config_option, json_option, socket_option
from .printing import counted, json_line, printable
from .probe import ANSWER_TIMEOUT_S as PROBE_TIMEOUT_S
from .probe import State, command, obstacle, probe, remedy

ANSWER_TIMEOUT_S = 60.0  # a file of a mebibyte takes seconds to check
_MAX_LINE_CHARACTERS = 4096  # a path may have so many


@click.command(epilog="Example: vastar-runtime reload")
@config_option
@socket_option
@json_option
def reload(config_path: str | None, socket_path: str | None, as_json: bool) -> None:
    """Have the daemon read its configuration again.

    The daemon reads the file that it was started with; the options here only say which daemon that is. Requests in
    flight keep their settings, and nothing is forgotten: neither spent limits nor open circuits. A file with a mistake
    changes nothing; exit code 1. Where no daemon runs: 3.
    """
    path = config.load_socket_path(config_path=config_path, socket_path=socket_path)
    found = probe(path)
    if found.state is State.NOT_RUNNING:
        way_out = remedy(found) or f"; start it with: {command('start', path)}"
        raise CommandFailed(ExitCode.NOT_RUNNING, f"not running: {obstacle(found)}{way_out}")
    if found.state is not State.RUNNING:
        raise StartupError(f"{obstacle(found)}{remedy(found)}")
    if config_path is not None:
        _check_file(path, given_path("--config", config_path))
    answer = ask_runtime(path, "reload", ANSWER_TIMEOUT_S, Reloaded)
    if as_json:
        click.echo(json_line(answer))
        if answer.mistakes:
            sys.exit(ExitCode.FAILED)
        return
    if answer.mistakes:
        *others, last = (printable(mistake, _MAX_LINE_CHARACTERS) for mistake in answer.mistakes)
        for mistake in others:
            click.echo(f"Error: {mistake}", err=True)
        raise StartupError(f"{last} (nothing has changed)")
    file = printable(answer.file or "", _MAX_LINE_CHARACTERS)
    if not file:
        click.echo("Reloaded: there is no file, the defaults hold")
    elif not answer.settings:
        click.echo(f"Reloaded {file}: it sets nothing, the defaults hold")
    else:
        click.echo(f"Reloaded {file}: {counted(answer.settings, 'setting')}, {counted(answer.scopes, 'scope')}")
    if answer.needs_restart:
        keys = printable(", ".join(answer.needs_restart), _MAX_LINE_CHARACTERS)
        click.echo(f"   Only after a restart: {keys} ({command('restart', path)})")


def _check_file(socket_path: str, wanted: str) -> None:
    told = ask_runtime(socket_path, "statistics", PROBE_TIMEOUT_S, dict[str, Any])
    file = told.get("config_file")
    if file != wanted:
        runs_with = printable(file, _MAX_LINE_CHARACTERS) if isinstance(file, str) else "the built-in defaults"
        raise StartupError(
            f"the daemon on {socket_path} runs with {runs_with}; for another file: "
            f"vastar-runtime restart --config {shlex.quote(wanted)}"
        )
