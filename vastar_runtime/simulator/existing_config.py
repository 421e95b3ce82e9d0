"""The ``config.yml`` of the existing RAI endpoint simulator: what applies here, and what to say of what does not."""

import os
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from vastar_runtime.config.quoting import quoted, shown_path
from vastar_runtime.errors import ConfigError

from .text_files import UnreadableFile, read_text

# The existing file has some thirty lines. YAML of this size is read in a tenth of a second.
MAX_FILE_BYTES = 64 * 1024
MAX_DEPTH = 16
MAX_UNUSED = 30
MAX_KEY_CHARS = 64

# Of source: file, beside the file.
FOLDER = "zresponse"

# YAML 1.1 takes 1:15 for 75 and 010 for 8, which nobody means who writes a port.
_PORT = re.compile(r"0|[1-9][0-9]*")

_LOG_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
}
_NO_DATABASE = "only source: database would read it"
_UNUSED = {
    "database": _NO_DATABASE,
    "redis": "it cached files and rows; here the texts are in memory, and read again when they change",
    "tracking": "log_level: info (or --log-level info) logs each request",
    "channel_capacity": "there is no channel between text and answer, each piece is made when the one before is sent",
    "semaphore_limit": "as many are answered at once as have connected",
    "workers": "one process answers all",
    "cache_ttl": "nothing is cached, files are read again when they change",
}


class ExistingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says.

    Attributes:
        host, port, log_level: None: it does not say. log_level is as in --log-level.
        folder: absolute path of the texts; None: it does not say source: file, and there is no such folder.
        database: the place of source: database, such as "config.yml:4"; None: the source is another one.
        unused: one line for each setting that has no effect here.
    """

    host: str | None = None
    port: int | None = None
    folder: str | None = None
    database: str | None = None
    log_level: str | None = None
    unused: tuple[str, ...] = ()


def read(path: str) -> ExistingConfig:
    """The file at ``path``.

    Raises:
        ConfigError: it cannot be read, is no YAML, or sets what applies to something that it cannot be. One line with
            the place.
    """
    try:
        text = read_text(path, MAX_FILE_BYTES)
    except UnreadableFile as error:
        raise ConfigError(f"cannot read {shown_path(path)}: {error}") from error
    return _Reading(path).read(text)


class _Reading:
    def __init__(self, path: str) -> None:
        self._path = path
        self._shown = shown_path(path)
        self._unused: list[str] = []

    def read(self, text: str) -> ExistingConfig:
        found: dict[str, Any] = {}
        is_source_said = False
        for key, node, place in self._pairs(self._root(text), ""):
            match key:
                case "binding":
                    found |= self._binding(node, place)
                case "source":
                    is_source_said = True
                    if self._one_of(node, place, "source", ("file", "database")) == "database":
                        found["database"] = place
                    else:
                        found["folder"] = self._folder()
                case "log_level":
                    found["log_level"] = _LOG_LEVELS[self._one_of(node, place, "log_level", tuple(_LOG_LEVELS))]
                case _:
                    self._no_effect(place, key, _UNUSED.get(key, "the key is unknown"))
        # The existing simulator takes it for said.
        if not is_source_said and os.path.isdir(self._folder()):
            found["folder"] = self._folder()
        return ExistingConfig(**found, unused=self._said_unused())

    def _folder(self) -> str:
        return os.path.join(os.path.dirname(os.path.abspath(self._path)), FOLDER)

    def _binding(self, node: Any, place: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value_node, where in self._pairs(node, "binding.", place):
            if key not in ("host", "port"):
                self._no_effect(where, f"binding.{key}", "the key is unknown")
                continue
            value = self._scalar(value_node)
            if key == "port":
                if isinstance(value, int) and not isinstance(value, bool) and not _PORT.fullmatch(value_node.value):
                    value = value_node.value
                if not isinstance(value, int) or isinstance(value, bool) or value > 65535:
                    self._refuse(where, f"binding.port is a whole number from 0 to 65535, not {_shown(value)}")
            elif not isinstance(value, str) or not value:
                self._refuse(where, f"binding.host is an address or a name, not {_shown(value)}")
            found[key] = value
        return found

    def _root(self, text: str) -> Any:
        import yaml  # 20 ms that a start without a file does not take

        try:
            depth = 0
            for event in yaml.parse(text, Loader=yaml.SafeLoader):
                # An alias is a copy: a few lines of them stand for more than any memory holds.
                if isinstance(event, yaml.AliasEvent):
                    self._refuse(self._place(event), "aliases (*name) are not read, write the value out")
                # The constructors of !!int, !!bool and others fail at a text that is none in ways of their own.
                if tag := getattr(event, "tag", None):
                    shown = quoted(tag.replace("tag:yaml.org,2002:", "!!"))
                    self._refuse(self._place(event), f"tags ({shown}) are not read, leave them out")
                depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
                if depth > MAX_DEPTH:
                    self._refuse(
                        self._place(event), f"values nested more than {MAX_DEPTH} deep are none of this file's"
                    )
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._shown if mark is None else f"{self._shown}:{mark.line + 1}"
            raise ConfigError(f"{place}: this is no YAML: {_one_line(error.context, error.problem)}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{self._shown}: this is no YAML: {_one_line(str(error))}") from error

    def _pairs(self, node: Any, prefix: str, place: str | None = None) -> Iterator[tuple[str, Any, str]]:
        """Key, value and place of each setting in a mapping; an empty file or value has none."""
        import yaml

        if node is None or (isinstance(node, yaml.ScalarNode) and self._scalar(node) is None):
            return
        if not isinstance(node, yaml.MappingNode):
            what = prefix.rstrip(".") or "the whole"
            self._refuse(place or self._place(node), f"{what} is a mapping, such as binding: {{port: 4545}}")
        seen = set()
        for key_node, value_node in node.value:
            where = self._place(key_node)
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                self._refuse(where, "a key is a single word")
            if key in seen:
                self._refuse(where, f"{prefix}{quoted(key)} is set twice")
            seen.add(key)
            yield key, value_node, where

    def _scalar(self, node: Any) -> Any:
        """A single value; what is none, or could be no setting by its length, as it is written."""
        import yaml

        if not isinstance(node, yaml.ScalarNode):
            return [] if isinstance(node, yaml.SequenceNode) else {}
        if len(node.value) > 300:
            return node.value
        try:
            return yaml.constructor.SafeConstructor().construct_object(node)
        except (yaml.YAMLError, ValueError, ArithmeticError):  # a date that is none
            return node.value

    def _one_of(self, node: Any, place: str, key: str, allowed: tuple[str, ...]) -> str:
        value = self._scalar(node)
        value = value.lower() if isinstance(value, str) else value
        if not isinstance(value, str) or value not in allowed:
            self._refuse(place, f"{key} is one of {', '.join(allowed)}, not {_shown(value)}")
        return value

    def _no_effect(self, place: str, key: str, why: str) -> None:
        is_plain = len(key) <= MAX_KEY_CHARS and key.replace(".", "").isidentifier()
        self._unused.append(f"{place}: {key if is_plain else quoted(key)} has no effect: {why}")

    def _said_unused(self) -> tuple[str, ...]:
        if len(self._unused) <= MAX_UNUSED:
            return tuple(self._unused)
        more = f"{self._shown}: {len(self._unused) - MAX_UNUSED} more settings have no effect"
        return (*self._unused[:MAX_UNUSED], more)

    def _place(self, node: Any) -> str:
        return f"{self._shown}:{node.start_mark.line + 1}"

    def _refuse(self, place: str, why: str) -> NoReturn:
        raise ConfigError(f"{place}: {why}")


def _shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return quoted(value)


def _one_line(*texts: str | None) -> str:
    return " ".join(", ".join(filter(None, texts)).split())[:200]
