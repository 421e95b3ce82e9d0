"""``vastar-runtime reload``."""

import click
import msgspec

from vastar_runtime import config
from vastar_runtime.connectors.base import Reloaded
from vastar_runtime.errors import StartupError

from .asking import ask_runtime
from .control import obstacle
from .options import config_option, socket_option
from .probe import State, probe

ANSWER_TIMEOUT_S = 10.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog="Example: vastar-runtime reload")
@config_option
@socket_option
def reload(config_path: str | None, socket_path: str | None) -> None:
    """Have the daemon read its configuration again.

    The daemon reads the file that it was started with; the options here only say which daemon. Requests in flight keep
    their settings, and nothing is forgotten: neither spent limits nor open circuits. A file with a mistake changes
    nothing; exit code 1.
    """
    path = config.load_socket_path(config_path=config_path, socket_path=socket_path)
    found = probe(path)
    if found.state is State.NOT_RUNNING:
        raise StartupError(f"not running: nobody listens on {path}; start it with: vastar-runtime start")
    if found.state is not State.RUNNING:
        raise StartupError(obstacle(found))
    answer = msgspec.json.decode(ask_runtime(path, "reload", ANSWER_TIMEOUT_S), type=Reloaded)
    if answer.mistakes:
        for mistake in answer.mistakes[1:]:
            click.echo(f"Error: {mistake}", err=True)
        raise StartupError(f"{answer.mistakes[0]} (nothing has changed)")
    scopes = f"{answer.scopes} scope{'' if answer.scopes == 1 else 's'}"
    click.echo(f"Reloaded {answer.file}: {scopes}" if answer.file else "Reloaded: there is no file, the defaults hold")
    if answer.needs_restart:
        click.echo(f"   Only after a restart: {', '.join(answer.needs_restart)} (vastar-runtime restart)")
