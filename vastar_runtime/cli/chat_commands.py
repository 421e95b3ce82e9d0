"""The commands of ``chat``: lines that begin with "/"."""

import enum
import os
from collections.abc import Callable
from difflib import get_close_matches
from typing import NamedTuple

from connector_sdk.errors import ConnectorException
from connector_sdk.openai import AsyncConversation, UsageTracker

from .exit_codes import CommandFailed, ExitCode

NOTHING_USED = "No usage yet"
_WORDS_OF_END = frozenset({"exit", "quit"})  # the first as in the existing example


class Said(enum.Enum):
    """What a line is."""

    NOTHING = "nothing"
    QUESTION = "question"
    COMMAND = "command"
    END = "end"


class _Command(NamedTuple):
    usage: str
    does: str


_COMMANDS = {
    "save": _Command("/save FILE", "write the conversation to a JSON file"),
    "load": _Command("/load FILE", "go on with one that was saved"),
    "reset": _Command("/reset", "forget what was said; the system message stays"),
    "system": _Command("/system [TEXT]", "tell the model this before everything else; alone: show it"),
    "model": _Command("/model [NAME]", "let this model answer; alone: show which one does"),
    "usage": _Command("/usage", "show tokens and cost so far"),
    "help": _Command("/help", "show this"),
    "exit": _Command("/exit", "end; so do exit and Ctrl-D"),
}
_WITH_FILE = frozenset({"save", "load"})
_WITH_ANYTHING = frozenset({"system", "model"})


def kind_of(line: str) -> Said:
    """What a line is; a question that begins with "/" is written with two of them."""
    text = line.strip()
    if not text:
        return Said.NOTHING
    if text.lower().removeprefix("/") in _WORDS_OF_END:
        return Said.END
    return Said.COMMAND if text.startswith("/") and not text.startswith("//") else Said.QUESTION


def question_of(line: str) -> str:
    """The question in such a line."""
    text = line.strip()
    return text[1:] if text.startswith("//") else text


class ChatCommands:
    """Runs commands; each answers with a text for the person.

    Args:
        default_model: what answers when the conversation names none; None: that is not known.
    """

    def __init__(self, conversation: AsyncConversation, tracker: UsageTracker, default_model: str | None) -> None:
        self._conversation = conversation
        self._tracker = tracker
        self._default_model = default_model

    @property
    def model(self) -> str:
        """What answers, in words."""
        return self._conversation.model or self._default_model or "the deployment's model"

    def run(self, line: str) -> str:
        """Do what a line says.

        Raises:
            CommandFailed: USAGE, there is no such command, or it is written otherwise; NOT_WRITTEN, no file was saved.
            ConnectorException: INVALID_REQUEST, it cannot be done.
        """
        name, _, rest = line.strip()[1:].partition(" ")
        argument = rest.strip()
        if name not in _COMMANDS:
            near = get_close_matches(name[:64].lower(), _COMMANDS, 1)
            hint = f"did you mean /{near[0]}?" if near else "/help lists them"
            raise _mistake(f"there is no command /{name[:64]}; {hint} (a question that begins with / is written //)")
        if (name in _WITH_FILE) > bool(argument) or (argument and name not in _WITH_FILE | _WITH_ANYTHING):
            raise _mistake(f"it is written {_COMMANDS[name].usage}")
        command: Callable[[str], str] = getattr(self, f"_{name}")
        return command(argument)

    def _save(self, argument: str) -> str:
        path = os.path.expanduser(argument)
        try:
            self._conversation.save(path)
        except ConnectorException as error:
            raise CommandFailed(ExitCode.NOT_WRITTEN, error.message) from error
        return f"Saved to {path}"

    def _load(self, argument: str) -> str:
        self._conversation.load(os.path.expanduser(argument))
        return f"{len(self._conversation.messages)} messages; {self.model} answers"

    def _reset(self, _argument: str) -> str:
        self._conversation.reset()
        return "Forgotten"

    def _system(self, argument: str) -> str:
        if argument:
            self._conversation.system = argument
        return f"System message: {self._conversation.system or 'none'}"

    def _model(self, argument: str) -> str:
        if argument:
            self._conversation.model = argument
        return f"Model: {self.model}"

    def _usage(self, _argument: str) -> str:
        return self._tracker.report() or NOTHING_USED

    def _help(self, _argument: str) -> str:
        return "\n".join(f"{command.usage:<16}{command.does}" for command in _COMMANDS.values())


def _mistake(message: str) -> CommandFailed:
    return CommandFailed(ExitCode.USAGE, message)
