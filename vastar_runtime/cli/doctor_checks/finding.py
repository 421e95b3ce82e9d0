"""What a check says."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from vastar_runtime.cli.printing import printable

_MAX_FOUND_CHARACTERS = 1000
# A command that is cut would be another command.
_MAX_COMMAND_CHARACTERS = 8192


class State(enum.Enum):
    """How it stands with what was checked."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_CHECKED = "not checked"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report, and what to do about it.

    Attributes:
        name: what was checked.
        found: one line: what was found, with its path, PID, variable or value; why it was not checked.
        remedy: one line of advice; "" where there is none.
        command: what to type, in a shell like the one that the doctor was called in; None: nothing can be typed.
    """

    name: str
    state: State
    found: str
    remedy: str = ""
    command: str | None = None


def ok(name: str, found: str) -> Finding:
    """As it should be."""
    return _finding(name, State.OK, found, "", None)


def warning(name: str, found: str, remedy: str = "", command: str | None = None) -> Finding:
    """It works, or may be meant; somebody should know."""
    return _finding(name, State.WARNING, found, remedy, command)


def problem(name: str, found: str, remedy: str = "", command: str | None = None) -> Finding:
    """It does not work."""
    return _finding(name, State.PROBLEM, found, remedy, command)


def not_checked(name: str, why: str, remedy: str = "", command: str | None = None) -> Finding:
    """It could not be looked at."""
    return _finding(name, State.NOT_CHECKED, why, remedy, command)


def listed(items: Iterable[str], most: int = 3) -> str:
    """The first few of them, and how many more there are."""
    every = list(items)
    more = f", and {len(every) - most} more" if len(every) > most else ""
    return f"{', '.join(every[:most])}{more}"


def _finding(name: str, state: State, found: str, remedy: str, command: str | None) -> Finding:
    """Paths, variables and a daemon's words are somebody else's: they must not drive the terminal, nor become part of
    a command."""
    if command is not None and (len(command) > _MAX_COMMAND_CHARACTERS or not command.isprintable()):
        command = None
    return Finding(
        name=name,
        state=state,
        found=_in_one_line(found),
        remedy=_in_one_line(remedy),
        command=command,
    )


def _in_one_line(text: str) -> str:
    shown = printable(text, _MAX_FOUND_CHARACTERS)
    return f"{shown}…" if len(text) > _MAX_FOUND_CHARACTERS else shown
