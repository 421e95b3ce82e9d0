"""The command line: ``vastar-runtime COMMAND``, and ``vastar-connector-runtime``, which is its ``run``.

A command's module is imported when the command is called: the daemon is up sooner, and holds less memory,
without the simulator's web stack.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from vastar_runtime import __version__

from .ending import broken_pipes, ending
from .json_failure import wants_json
from .standard_descriptors import fill_standard_descriptors

NAME = "vastar-runtime"

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
    "request": "request",
    "chat": "chat",
    "simulator": "simulator",
    "demo": "demo",
    "doctor": "doctor",
    "completion": "completion",
    "clean": "clean",
}


class _LazyGroup(click.Group):
    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        with broken_pipes():  # --help is written here
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with broken_pipes():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"{__name__}.{_COMMANDS[cmd_name]}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names alone: their descriptions would have every module imported, at each press of TAB."""
        names = [name for name in _COMMANDS if name.startswith(incomplete)]
        return [*map(CompletionItem, names), *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vastar-runtime start && vastar-runtime status",
)
@click.version_option(__version__, prog_name=NAME)
def _group() -> None:
    """Run and control the Vastar Connector Runtime, the daemon that makes HTTP requests for local applications."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Console script ``vastar-runtime``; by default with the arguments of this process."""
    words = sys.argv[1:] if arguments is None else arguments
    with ending(lambda: wants_json(_group, words)):
        fill_standard_descriptors()
        sys.exit(_group.main(arguments, prog_name=NAME, standalone_mode=False))


def run_daemon() -> None:
    """Console script ``vastar-connector-runtime``: ``run``, under the name that existing scripts look for."""
    with ending():
        fill_standard_descriptors()
        from .run import run

        sys.exit(run.main(prog_name="vastar-connector-runtime", standalone_mode=False))
