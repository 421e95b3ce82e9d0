"""Values as commands print them: for scripts, and in sentences."""

import json
from typing import Any

import msgspec

from vastar_runtime.config.quoting import written
from vastar_runtime.errors import StartupError


def json_line(value: object) -> str:
    """JSON in ASCII, of a struct or what it may hold: what others chose may be in it (names, paths), and what is beyond
    may drive a terminal. It is Unicode, which not every parser takes halves of: see ``written``.

    Raises:
        StartupError: it is nested too deeply.
    """
    try:
        return json.dumps(_written(msgspec.to_builtins(value)), separators=(",", ":"))
    except RecursionError as error:
        raise StartupError("what there is to be printed as JSON is nested too deeply") from error


def counted(number: int, what: str) -> str:
    """ "1 request", "2 requests"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def printable(text: str, most: int) -> str:
    """So many characters of somebody else's words; they must not drive a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:most])


def _written(value: Any) -> Any:
    if isinstance(value, str):
        return written(value)
    if isinstance(value, dict):
        return {_written(key): _written(inner) for key, inner in value.items()}
    return [_written(inner) for inner in value] if isinstance(value, list | tuple) else value
