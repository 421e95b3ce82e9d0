"""``vastar-runtime completion``: what a shell needs to complete the commands."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(
    short_help="Print the script that has a shell complete commands.",
    epilog='Example: eval "$(vastar-runtime completion bash)"',
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def completion(shell: str) -> None:
    """Print the script that has a shell complete commands, options and values.

    \b
    bash   in ~/.bashrc (bash 4.4 or later):
           eval "$(vastar-runtime completion bash)"
    zsh    in ~/.zshrc, after compinit:
           eval "$(vastar-runtime completion zsh)"
    fish   once:
           vastar-runtime completion fish > ~/.config/fish/completions/vastar-runtime.fish
    """
    from . import NAME, _group

    # The variable is the one that click looks for, by the command's name, before it runs anything.
    variable = f"_{NAME}_COMPLETE".replace("-", "_").upper()
    # The class's own source() would run whichever bash is in the PATH, to see how old it is.
    click.echo(ShellComplete.source(_SHELLS[shell](_group, {}, NAME, variable)))
