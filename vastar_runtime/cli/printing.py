"""Values as commands print them: for scripts, and in sentences."""

import json

import msgspec


def json_line(value: object) -> str:
    """JSON in ASCII, of a struct or what it may hold: what others chose may be in it (names, paths), and what is beyond
    may drive a terminal."""
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":"))


def counted(number: int, what: str) -> str:
    """ "1 request", "2 requests"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def printable(text: str, most: int) -> str:
    """So many characters of somebody else's words; they must not drive a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:most])
