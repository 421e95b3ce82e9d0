"""Values as commands print them: for scripts, and in sentences."""

import json

import msgspec


def json_line(value: msgspec.Struct) -> str:
    """One JSON object, in ASCII: what others chose may be in it (names, paths), and what is beyond may drive a
    terminal."""
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":"))


def counted(number: int, what: str) -> str:
    """ "1 request", "2 requests"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
