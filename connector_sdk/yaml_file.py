"""Settings in YAML files that others wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import ConnectorException
from .private_file import read_text, shown_path
from .wire.messages import ErrorClass

if TYPE_CHECKING:
    import yaml

# Numbers such as 1:1:1… take the square of their length to be read.
MAX_FILE_BYTES = 64 * 1024
# Merges of aliases multiply what they refer to: so many of them stay small.
MAX_ALIASES = 16
_MAX_DEPTH = 32
_SHOWN_CHARACTERS = 80
_MERGE = "tag:yaml.org,2002:merge"
_QUOTED = re.compile(r"'([^']*)'")


def read_mapping(path: str, what: str) -> dict[Any, Any]:
    """The mapping that a YAML file holds; JSON is YAML. An empty file holds an empty one.

    Args:
        what: it is, for messages.

    Raises:
        ConnectorException: INVALID_REQUEST, naming the file, the line where there is one, and what is wrong. Neither
            it nor what it comes from holds anything of the file, which may be a key, but the names of its keys.
    """
    value = _read(path, read_text(path, what, MAX_FILE_BYTES))
    if isinstance(value, ConnectorException):
        raise value
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _unusable(path, None, "no mapping; it takes `key: value` lines")
    return value


def _read(path: str, text: str) -> object:
    """The value in a text, or the error: raised where it is found, it would have PyYAML's for its context, which
    quotes the line."""
    import yaml  # nobody else needs it

    loader: yaml.SafeLoader | None = None
    try:
        depth = aliases = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            aliases += isinstance(event, yaml.AliasEvent)
            if depth > _MAX_DEPTH or aliases > MAX_ALIASES:
                limit = f"{_MAX_DEPTH} levels" if depth > _MAX_DEPTH else f"{MAX_ALIASES} aliases"
                return _unusable(path, _line(event.start_mark), f"more than {limit}")
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        twice = _key_that_is_there_twice(root)
        if twice is not None:
            return _unusable(path, _line(twice.start_mark), f"{shown(twice.value)} is there twice; leave one of them")
        return None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        problem = _QUOTED.sub(_hidden, error.problem or error.context or "")
        return _unusable(path, _line(error.problem_mark), f"no YAML: {problem}")
    except yaml.reader.ReaderError as error:
        return _unusable(path, None, f"no YAML: a character that it does not have (U+{error.character:04X})")
    # The 30th of February, a number of 5,000 digits, !!bool foo: PyYAML lets through whatever Python raises.
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return _unusable(path, None, "no YAML: it holds a value that its type does not have; put it in quotes")
    finally:
        if loader is not None:
            loader.dispose()


def _key_that_is_there_twice(root: yaml.Node | None) -> yaml.ScalarNode | None:
    """Of which PyYAML would take the last without a word."""
    import yaml

    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                    if (key.tag, key.value) in keys:
                        return key
                    keys.add((key.tag, key.value))
                waiting += (key, value)
    return None


def _hidden(quoted: re.Match[str]) -> str:
    """What PyYAML quotes, unless that is a token or a character: the name of an alias, or of a tag, may be a key."""
    return quoted[0] if len(quoted[1]) < 2 or quoted[1][0] in "\\<" else "'…'"


def _line(mark: Any) -> int | None:
    return None if mark is None else mark.line + 1


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
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    try:
        text = value if isinstance(value, str) and value.isprintable() and value else repr(value)
    except ValueError:  # a list with a number of 5,000 digits has none
        return f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _unusable(path: str, line: int | None, reason: str) -> ConnectorException:
    where = shown_path(path) + ("" if line is None else f":{line}")
    return ConnectorException(f"{where}: {reason[:300]}", ErrorClass.INVALID_REQUEST)
