"""``VASTAR_*`` variables and flags over the file's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from connector_sdk.wire.timeout import timeout_ms
from vastar_runtime.errors import ConfigError, GivenError

from .quoting import quoted
from .settings import DEFAULT_TCP_PORT, KeyPath, Scope, Settings, Value, fields_of
from .values import socket_mode, socket_path, workers


class Flags(NamedTuple):
    """What the command line says; None: nothing."""

    socket_path: str | None = None
    socket_mode: str | None = None
    socket_group: str | None = None
    workers: str | None = None


class Override(NamedTuple):
    """One key that is set over the file.

    Attributes:
        source: ``--socket-mode``, ``VASTAR_TIMEOUT``.
    """

    key: KeyPath
    value: Value
    source: str


class Overrides(NamedTuple):
    """All of them, and what is wrong with others: the key, and the whole text."""

    overrides: list[Override]
    problems: list[tuple[KeyPath, str]]


def overrides(settings: Settings, environ: Mapping[str, str], flags: Flags) -> Overrides:
    """What variables and flags set over the file's settings."""
    found: list[Override] = []
    problems: list[tuple[KeyPath, str]] = []
    for key, read in _READERS:
        try:
            override = read(settings, environ, flags)
        except ConfigError as error:
            problems.append((key, str(error)))
        else:
            if override is not None:
                found.append(Override(key, *override))
    return Overrides(found, problems)


def applied(settings: Settings, given: list[Override]) -> Settings:
    """The settings with overrides: over the whole file, and so over its scopes, too."""
    for override in given:
        settings = _replaced(settings, override.key, override.value)
        if override.key[0] == "policy":
            settings = msgspec.structs.replace(
                settings, scopes=tuple(_without(scope, override.key[1:]) for scope in settings.scopes)
            )
    return settings


def named_socket(environ: Mapping[str, str], flag: str | None) -> str | None:
    """The absolute path of the socket that ``--socket`` or ``VASTAR_SOCKET_PATH`` names; None: neither does.

    Raises:
        ConfigError: no socket can have it.
    """
    override = _socket(Settings(), environ, Flags(socket_path=flag))
    return None if override is None else str(override[0])


def missing_password(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Why a daemon with these variables could not start; None: it could."""
    name = settings.shared_limits.password_env
    if settings.shared_limits.backend is None or name is None or environ.get(name):
        return None
    return f"shared_limits.password_env: {name} is not set in the daemon's environment"


def _without(scope: Scope, key: KeyPath) -> Scope:
    changes = tuple(change for change in scope.changes if change[:2] != key)
    return msgspec.structs.replace(scope, changes=changes)


def _replaced(part: Any, key: KeyPath, value: Value) -> Any:
    name, *rest = key
    (field,) = (field.name for field in fields_of(part.__class__) if field.encode_name == name)
    new = _replaced(getattr(part, field), tuple(rest), value) if rest else value
    return msgspec.structs.replace(part, **{field: new})


def _socket(_settings: Settings, environ: Mapping[str, str], flags: Flags) -> tuple[Value, str] | None:
    flag = flags.socket_path
    name, path = ("--socket", flag) if flag is not None else ("VASTAR_SOCKET_PATH", environ.get("VASTAR_SOCKET_PATH"))
    if path is None or (not path and flag is None):
        return None
    try:
        return socket_path(path), name
    except ValueError as error:
        raise GivenError(f"{name}: {error}") from error


def _mode(_settings: Settings, _environ: Mapping[str, str], flags: Flags) -> tuple[Value, str] | None:
    if flags.socket_mode is None:
        return None
    try:
        return socket_mode(flags.socket_mode), "--socket-mode"
    except ValueError as error:
        raise GivenError(f"--socket-mode: {error}") from error


def _group(_settings: Settings, _environ: Mapping[str, str], flags: Flags) -> tuple[Value, str] | None:
    return None if flags.socket_group is None else (flags.socket_group, "--socket-group")


def _use_tcp(_settings: Settings, environ: Mapping[str, str], _flags: Flags) -> None:
    use = _switch(environ)
    if use not in ("true", "false", "1", "0", ""):
        raise GivenError(f"VASTAR_USE_TCP: {quoted(use)} is neither true nor false")


def _switch(environ: Mapping[str, str]) -> str:
    return environ.get("VASTAR_USE_TCP", "").strip().lower()


def _tcp_port(settings: Settings, environ: Mapping[str, str], _flags: Flags) -> tuple[Value, str] | None:
    use = _switch(environ)
    in_file = settings.listen.tcp_port
    if use in ("false", "0"):
        return None, "VASTAR_USE_TCP"
    if not use and in_file is None:
        return None
    text = environ.get("VASTAR_TCP_PORT", "")
    if not text:
        is_on = use in ("true", "1") and in_file is None
        return (DEFAULT_TCP_PORT, "VASTAR_USE_TCP") if is_on else None
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise GivenError(f"VASTAR_TCP_PORT: {quoted(text)} is no port; it takes a number from 0 to 65535")
    return int(text), "VASTAR_TCP_PORT"


def _workers(_settings: Settings, environ: Mapping[str, str], flags: Flags) -> tuple[Value, str] | None:
    flag = flags.workers
    name, text = ("--workers", flag) if flag is not None else ("VASTAR_WORKERS", environ.get("VASTAR_WORKERS"))
    if text is None or (not text and flag is None):
        return None
    try:
        return workers(text), name
    except ValueError as error:
        raise GivenError(f"{name}: {error}") from error


def _timeout(_settings: Settings, environ: Mapping[str, str], _flags: Flags) -> tuple[Value, str] | None:
    text = environ.get("VASTAR_TIMEOUT", "")
    if not text:
        return None
    if (milliseconds := timeout_ms(text)) is None:
        raise GivenError(f"VASTAR_TIMEOUT: {quoted(text)} cannot be used; it takes seconds above 0")
    return milliseconds, "VASTAR_TIMEOUT"


_Reader = Callable[[Settings, Mapping[str, str], Flags], tuple[Value, str] | None]
_READERS: tuple[tuple[KeyPath, _Reader], ...] = (
    (("listen", "socket"), _socket),
    (("listen", "socket_mode"), _mode),
    (("listen", "socket_group"), _group),
    (("listen", "tcp_port"), _use_tcp),
    (("listen", "tcp_port"), _tcp_port),
    (("listen", "workers"), _workers),
    (("policy", "deadline", "idle_timeout_ms"), _timeout),
)
