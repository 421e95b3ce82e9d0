"""Settings in YAML files that others wrote."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .errors import ConnectorException
from .private_file import read_text, shown_path
from .wire.messages import ErrorClass

MAX_FILE_BYTES = 256 * 1024
# Merges of aliases multiply what they refer to: so many of them stay small.
MAX_ALIASES = 16
_MAX_DEPTH = 32
_SHOWN_CHARACTERS = 80


def read_mapping(path: str, what: str) -> dict[Any, Any]:
    """The mapping that a YAML file holds; JSON is YAML. An empty file holds an empty one.

    Args:
        what: it is, for messages.

    Raises:
        ConnectorException: INVALID_REQUEST, naming the file, the line where there is one, and what is wrong.
    """
    import yaml  # nobody else needs it

    text = read_text(path, what, MAX_FILE_BYTES)
    try:
        depth = aliases = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            aliases += isinstance(event, yaml.AliasEvent)
            if depth > _MAX_DEPTH or aliases > MAX_ALIASES:
                limit = f"{_MAX_DEPTH} levels" if depth > _MAX_DEPTH else f"{MAX_ALIASES} aliases"
                line = None if event.start_mark is None else event.start_mark.line + 1
                raise _unusable(path, line, f"more than {limit}")
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        at = None if error.problem_mark is None else error.problem_mark.line + 1
        raise _unusable(path, at, f"no YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise _unusable(path, None, f"no YAML: {' '.join(str(error).split())}") from error
    except (ValueError, TypeError):  # the 30th of February, a number of 5,000 digits; which may be part of a secret
        raise _unusable(path, None, "no YAML: it holds a value that its type does not have; put it in quotes") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _unusable(path, None, "no mapping; it takes `key: value` lines")
    return value


def nearest(key: object, known: Iterable[str]) -> str:
    """What to say of a key that there is not."""
    found = near(key, known)
    return f"there is no {shown(key)}; " + (f"did you mean {found}?" if found else f"known: {', '.join(known)}")


def near(key: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known key that is most like this one; "" when none is."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(shown(key)[:64].lower(), list(known), 1, cutoff)), "")


def shown(value: object) -> str:
    """Foreign text in a message: in one line, and never long."""
    if isinstance(value, int) and abs(value) >= 10**20:  # one of 5,000 digits has no repr at all
        return "a number of more than 20 digits"
    text = value if isinstance(value, str) and value.isprintable() and value else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _unusable(path: str, line: int | None, reason: str) -> ConnectorException:
    where = shown_path(path) + ("" if line is None else f":{line}")
    return ConnectorException(f"{where}: {reason[:300]}", ErrorClass.INVALID_REQUEST)
