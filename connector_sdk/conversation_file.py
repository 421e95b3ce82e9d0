"""A conversation as a JSON file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any, NamedTuple

from .chat_history import AnyMessage, checked
from .chat_request import Message
from .errors import ConnectorException
from .private_file import read_text, shown_path, write_text
from .wire.messages import ErrorClass

VERSION = 1
MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_MESSAGES = 10_000
_WHAT = "conversation"
_KEYS = {"version", "model", "system", "messages"}


class Saved(NamedTuple):
    """What a file holds.

    Attributes:
        model, system: None: it names none.
        messages: without the system message.
    """

    model: str | None
    system: str | None
    messages: list[AnyMessage]


def save(path: str | os.PathLike[str], conversation: Saved) -> None:
    """Write it, whole or not at all, mode 0600.

    Raises:
        ConnectorException: INVALID_REQUEST, it cannot be written, or could not be read again.
    """
    name = os.fspath(path)
    messages = [asdict(item) if isinstance(item, Message) else item for item in conversation.messages]
    tree = {"version": VERSION, "model": conversation.model, "system": conversation.system, "messages": messages}
    try:
        text = json.dumps(tree, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        size = len(text.encode())
    except (ValueError, TypeError, RecursionError) as error:
        raise _unusable(name, f"a message cannot be saved: {error}") from error
    if size > MAX_FILE_BYTES or len(messages) > MAX_MESSAGES:
        raise _unusable(name, f"more than {MAX_MESSAGES:,} messages or {MAX_FILE_BYTES:,} bytes cannot be saved")
    write_text(name, _WHAT, text)


def load(path: str | os.PathLike[str]) -> Saved:
    """Read it.

    Raises:
        ConnectorException: INVALID_REQUEST, naming the file and what is wrong with it.
    """
    name = os.fspath(path)
    text = read_text(name, _WHAT, MAX_FILE_BYTES)
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise _unusable(name, f"no JSON: {error.msg} in line {error.lineno}") from error
    except (ValueError, RecursionError) as error:
        raise _unusable(name, "JSON nested too deeply, or with a number too long, to be read") from error
    if not isinstance(tree, dict) or "messages" not in tree:
        raise _unusable(name, "no saved conversation: it has no messages")
    version = tree.get("version")
    if version != VERSION or isinstance(version, bool):
        shown = version if isinstance(version, (int, str)) and len(repr(version)) < 20 else "none that is known"
        raise _unusable(name, f"its version is {shown}; this package reads {VERSION}")
    unknown = sorted(tree.keys() - _KEYS)
    if unknown:
        raise _unusable(name, f"there is no {unknown[0][:64]!r}; known: {', '.join(sorted(_KEYS))}")
    messages = tree["messages"]
    if not isinstance(messages, list) or len(messages) > MAX_MESSAGES:
        raise _unusable(name, f"messages: it takes a list of at most {MAX_MESSAGES:,}")
    return Saved(
        model=_optional_text(name, tree, "model"),
        system=_optional_text(name, tree, "system"),
        messages=[_message(name, number, message) for number, message in enumerate(messages, 1)],
    )


def _message(path: str, number: int, fields: object) -> AnyMessage:
    if not isinstance(fields, dict):
        raise _unusable(path, f"message {number}: it takes an object with role and content")
    message: AnyMessage = fields
    if fields.keys() == {"role", "content"} and isinstance(fields["content"], str) and isinstance(fields["role"], str):
        message = Message(fields["role"], fields["content"])
    try:
        return checked(message)
    except ConnectorException as error:
        raise _unusable(path, f"message {number}: {error.message}") from error


def _optional_text(path: str, tree: dict[str, Any], key: str) -> str | None:
    value = tree.get(key)
    if value is not None and not isinstance(value, str):
        raise _unusable(path, f"{key}: it takes text")
    return value or None


def _unusable(path: str, reason: str) -> ConnectorException:
    return ConnectorException(f"{shown_path(path)}: {reason}", ErrorClass.INVALID_REQUEST)
