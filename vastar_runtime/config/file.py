"""The configuration file: which one, and what is in it. Whatever lies at its path, reading it ends soon."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from vastar_runtime.errors import ConfigError, GivenError
from vastar_runtime.regular_file import NotRegular, read_regular_file

from .lines import TooManyDots, key_lines
from .no_toml import reason
from .paths import given_path
from .permissions import denied
from .quoting import quoted, shown_path
from .settings import KeyPath

DEFAULT_CONFIG_PATH = "/etc/vastar/runtime.toml"

# Ten thousand scopes fit; TOML of this size is parsed in half a second.
MAX_FILE_BYTES = 1 << 20


class ForbiddenFile(ConfigError):
    """This user may not read the file, so that it says nothing to this user."""


class Document(NamedTuple):
    """A file that is TOML.

    Attributes:
        path: absolute.
        tree: as tomllib gives it.
        lines: where each key and table begins, counted from 1.
    """

    path: str
    tree: dict[str, Any]
    lines: Mapping[KeyPath, int]


def named_file(environ: Mapping[str, str], flag: str | None) -> str | None:
    """The absolute path that ``--config`` or ``VASTAR_CONFIG`` names; None: neither does.

    Raises:
        ConfigError: it can be no path.
    """
    name, path = ("--config", flag) if flag is not None else ("VASTAR_CONFIG", environ.get("VASTAR_CONFIG"))
    if path is None or (not path and flag is None):
        return None
    if not path or "\0" in path:
        raise GivenError(f"{name}: {quoted(path)} is no path of a file")
    return given_path(name, path)


def default_file() -> str | None:
    """DEFAULT_CONFIG_PATH; None when there is nothing at it."""
    return DEFAULT_CONFIG_PATH if _may_exist(DEFAULT_CONFIG_PATH) else None


def read_file(path: str, *, is_named: bool = True) -> Document:
    """What is in the file.

    Args:
        path: absolute.
        is_named: it was chosen, and is not the default one.

    Raises:
        ForbiddenFile: this user may not read it.
        ConfigError: it is missing, cannot be read, or is no TOML.
    """
    shown = shown_path(path)
    try:
        text = _read(path).decode("utf-8-sig")  # editors on Windows begin a file with a mark that is no TOML
    except OSError as error:
        kind = ForbiddenFile if isinstance(error, PermissionError) else ConfigError
        raise kind(f"cannot read {shown}: {error.strerror or error}{_advice(path, error, is_named)}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{shown}:{line}: this is no UTF-8 text (byte 0x{error.object[error.start]:02x})") from error
    return _parse(path, text)


def _read(path: str) -> bytes:
    try:
        file = read_regular_file(path, MAX_FILE_BYTES)
    except NotRegular as error:
        what = "a directory, not a file" if error.is_directory else "no regular file"
        raise ConfigError(f"{shown_path(path)} is {what}") from error
    if file.is_cut:
        raise ConfigError(f"{shown_path(path)} is larger than {MAX_FILE_BYTES >> 20} MiB: this is no configuration")
    if file.was_written_to:
        raise ConfigError(f"{shown_path(path)} was written to while it was read: try again when it is complete")
    return file.data


def _may_exist(path: str) -> bool:
    """False when there is nothing at all: a link that leads nowhere, or a directory that is closed, is a mistake."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # reading it will tell
    return True


def _advice(path: str, error: OSError, is_named: bool) -> str:
    another = "or choose another with --config or VASTAR_CONFIG"
    if isinstance(error, PermissionError):
        what, way_out = denied(path)
        return f": {what}; {way_out}, {another}"
    if not is_named:
        return f"; let this user read it, {another}"
    return "; vastar-runtime config example prints one to begin with" if isinstance(error, FileNotFoundError) else ""


def _parse(path: str, text: str) -> Document:
    import tomllib  # 10 ms that a start without a file does not take

    shown = shown_path(path)
    try:
        lines = key_lines(text)  # first: it keeps what tomllib would chew on for hours away from it
        return Document(path, tomllib.loads(text), lines)
    except TooManyDots as error:
        raise ConfigError(f"{shown}:{error.line}: a key of so many parts is none of ours") from error
    except RecursionError as error:
        raise ConfigError(f"{shown}: this is no configuration: arrays or tables nested too deeply") from error
    except ValueError as error:
        why = reason(text, error)
        raise ConfigError(f"{shown}{'' if why.line is None else f':{why.line}'}: {why.text}") from error
