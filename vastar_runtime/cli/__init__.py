"""The command line: ``vastar-runtime COMMAND``, and ``vastar-connector-runtime``, which is its ``run``.

A command's module is imported when the command is called: the daemon is up sooner, and holds less memory,
without the simulator's web stack.
"""

import sys
from importlib import import_module

import click

from vastar_runtime import __version__
from vastar_runtime.errors import StartupError

# Command to module; the click command object in it has the command's name.
_COMMANDS = {
    "start": "control",
    "stop": "control",
    "restart": "control",
    "status": "status",
    "reload": "reload",
    "run": "run",
    "config": "config",
    "usage": "usage",
    "simulator": "simulator",
    "demo": "demo",
    "clean": "clean",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"{__name__}.{_COMMANDS[cmd_name]}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vastar-runtime start && vastar-runtime status",
)
@click.version_option(__version__, prog_name="vastar-runtime")
def _group() -> None:
    """Run and control the Vastar Connector Runtime, the daemon that makes HTTP requests for local applications."""


def main() -> None:
    """Console script ``vastar-runtime``."""
    _call(_group, "vastar-runtime")


def run_daemon() -> None:
    """Console script ``vastar-connector-runtime``: ``run``, under the name that existing scripts look for."""
    from .run import run

    _call(run, "vastar-connector-runtime")


def _call(command: click.Command, name: str) -> None:
    try:
        command.main(prog_name=name)
    except StartupError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
