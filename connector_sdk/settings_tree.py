"""Settings of two levels, ``key`` and ``section.key``, with variables in their values."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from .errors import ConnectorException
from .private_file import shown_path
from .wire.messages import ErrorClass
from .yaml_file import near, nearest, shown

# A table of somebody else's has a name of its own; one this like a known one is a slip.
_LIKENESS = 0.75
# What somebody meant for a section; of other names, a table's or a key's, the application may have its own.
_NEVER_AT_THE_TOP = frozenset({"api_key", "base_url", "model", "max_tokens", "temperature"})
_REFERENCE = re.compile(r"\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}
_WANTED = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
# A value over this is no setting.
_MAX_TEXT_CHARACTERS = 16_384
_MAX_NUMBER_CHARACTERS = 64


class SettingsTree:
    """See the module. Nothing that stands in the file is ever quoted from a key that holds a secret.

    Args:
        path: of the file, for messages.
        tree: as YAML gives it.
        known: the type of each key, and of those of each section.
        environ: the variables.

    Raises:
        ConnectorException: INVALID_REQUEST: a key that is not known in a section, or looks like a slip of one at the
            top; a section that is no mapping.
    """

    def __init__(
        self,
        path: str,
        tree: Mapping[Any, Any],
        known: Mapping[str, type | dict[str, type]],
        environ: Mapping[str, str],
    ) -> None:
        self._path = path
        self._tree = tree
        self._known = known
        self._environ = environ
        for name, value in tree.items():
            keys = known.get(name) if isinstance(name, str) else None
            if keys is None:
                homes = [section for section, known_keys in known.items() if _has(known_keys, name)]
                if name in _NEVER_AT_THE_TOP and homes:
                    raise self.error(f"{name} belongs in a table, such as {homes[0]}: {homes[0]}.{name}")
                if near(name, known, _LIKENESS):
                    raise self.error(nearest(name, known))
            elif isinstance(keys, dict) and value is not None:
                if not isinstance(value, dict):
                    raise self.error(f"{name}: it takes a mapping with {', '.join(keys)}")
                for key in value:
                    if key not in keys:
                        raise self.error(f"{name}: {nearest(key, keys)}")

    def has(self, section: str) -> bool:
        """Whether the section is there and holds anything."""
        return bool(self._tree.get(section))

    def get(self, *path: str) -> Any:
        """The value of a key, of its type; None when it is not there.

        Raises:
            ConnectorException: INVALID_REQUEST: it has another type, or names a variable that is not set.
        """
        *section, key = path
        keys = self._known[section[0]] if section else self._known
        table = (self._tree.get(section[0]) or {}) if section else self._tree
        value = table.get(key)
        if value is None:
            return None
        assert isinstance(keys, Mapping)
        wanted = keys[key]
        assert isinstance(wanted, type)
        return self._as(wanted, ".".join(path), value)

    def first(self, key: str, *sections: str) -> Any:
        """The value of a key in the first of the sections that has it; None when none has."""
        return next((value for section in sections if (value := self.get(section, key)) is not None), None)

    def error(self, text: str) -> ConnectorException:
        """INVALID_REQUEST, naming the file."""
        return ConnectorException(f"{shown_path(self._path)}: {text}", ErrorClass.INVALID_REQUEST)

    @contextlib.contextmanager
    def errors_in(self, section: str = "") -> Iterator[None]:
        """Errors of the block name the file, and the section."""
        try:
            yield
        except ConnectorException as error:
            raise self.error(f"{section}.{error.message}" if section else error.message) from error

    def _as(self, wanted: type, name: str, value: object) -> Any:
        if isinstance(value, str):
            text = self._filled(name, value)
            if wanted is str:
                return text.strip()
            converted = _parsed(wanted, text) if text != value else None
        else:
            text = shown(value)
            converted = _converted(wanted, value)
        if converted is None:
            found = "a value (not shown)" if "key" in name else shown(text)
            raise self.error(f"{name}: {found} cannot be used; it takes {_WANTED[wanted]}")
        return converted

    def _filled(self, name: str, text: str) -> str:
        """With variables in place of their names."""

        def value(match: re.Match[str]) -> str:
            variable = match[1]
            if not (match[2] and _NAME.fullmatch(variable)):
                raise self.error(f"{name}: a variable is written ${{NAME}}, with letters, digits and _")
            if variable not in self._environ:
                raise self.error(f"{name}: the variable {variable} is not set")
            return self._environ[variable]

        if len(text) > _MAX_TEXT_CHARACTERS:
            raise self.error(f"{name}: it has more than {_MAX_TEXT_CHARACTERS:,} characters")
        return _REFERENCE.sub(value, text)


def _has(keys: type | dict[str, type], name: object) -> bool:
    return isinstance(keys, dict) and name in keys


def _converted(wanted: type, value: object) -> object:
    """A value that is no text, as this type; None when it is none of it."""
    if wanted is bool or isinstance(value, bool):
        return value if wanted is bool and isinstance(value, bool) else None
    if wanted is str and isinstance(value, date):
        return value.isoformat()  # an api_version without quotes
    if not isinstance(value, (int, float)) or not abs(value) < 2**53:
        return None
    if wanted is str:
        return str(value)  # a model that is called 4
    return value if wanted is float or isinstance(value, int) else None


def _parsed(wanted: type, text: str) -> object:
    """What the value of a variable says; None when it says nothing of this type."""
    word = text.strip().lower()
    if len(word) > _MAX_NUMBER_CHARACTERS:
        return None
    if wanted is bool:
        return _BOOLEANS.get(word)
    try:
        number = wanted(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
