"""What a command that was asked for JSON prints when it fails."""

import itertools
from collections.abc import Sequence

import click
import msgspec

_OPTION = "--json"
# It prints its own, with what it knows of the exchange.
_WITH_FORM_OF_THEIR_OWN = frozenset({"request"})


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """That object: the line of standard error without its "Error: ", and how the command ends."""

    error: str
    exit_code: int


def wants_json(group: click.Group, words: Sequence[str]) -> bool:
    """Whether these words ask one of the group's commands for JSON, be there a mistake in them or not."""
    command: click.Command = group
    context = click.Context(group)
    rest = list(words)
    while isinstance(command, click.Group):
        if not rest or rest[0] in _WITH_FORM_OF_THEIR_OWN:
            return False
        inner = command.get_command(context, rest.pop(0))
        if inner is None:
            return False
        command = inner
    return any(_OPTION in parameter.opts for parameter in command.params) and is_json_among(rest)


def is_json_among(words: Sequence[str]) -> bool:
    """Whether ``--json`` is one of these words of a command, and no argument, as all are after ``--``."""
    return _OPTION in itertools.takewhile(lambda word: word != "--", words)
