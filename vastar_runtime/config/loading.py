"""Settings from all that says something about them: the file, variables over it, flags over both."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import NamedTuple

from vastar_runtime.errors import ConfigError, GivenError

from .check import check
from .environment import Flags, applied, named_socket, overrides
from .file import ForbiddenFile, default_file, named_file, read_file
from .groups import SOCKET_GROUP, missing_group
from .quoting import shown_key, shown_path
from .settings import KeyPath, Settings
from .table_values import is_loopback_host


class Mistake(NamedTuple):
    """Something that cannot be used.

    Attributes:
        key: of the setting that it concerns; () for all of the file.
        text: one line: where it stands, what was found, what is allowed.
        is_forbidden: the file may be right, and this user may not read it.
        is_given: it stands in a flag or a variable, and not in the file.
    """

    key: KeyPath
    text: str
    is_forbidden: bool = False
    is_given: bool = False


class ClientSocket(NamedTuple):
    """Where a client finds the daemon.

    Attributes:
        path: absolute.
        unread: why this user cannot tell whether the file names another; "": that can be told.
    """

    path: str
    unread: str = ""


class Examined(NamedTuple):
    """Settings, and how they came about.

    Attributes:
        settings: all that could be used; what is wrong has its default.
        file: the absolute path of the file, which may be missing or no TOML; None: there is none.
        mistakes: in the order of the file, then those of variables and flags.
        sources: of each key that is set: ``/etc/vastar/runtime.toml:12``, ``VASTAR_TIMEOUT``, ``--socket``.
        settings_in_file: how many keys the file sets, those of its scopes included; only what could be used counts.
    """

    settings: Settings
    file: str | None
    mistakes: list[Mistake]
    sources: Mapping[KeyPath, str]
    settings_in_file: int = 0

    def valid(self) -> Settings:
        """The settings.

        Raises:
            ConfigError: the first mistake; a GivenError where that is in a flag or a variable.
        """
        if not self.mistakes:
            return self.settings
        first, *more = self.mistakes
        command = "vastar-runtime config check" + (f" --config {shlex.quote(self.file)}" if self.file else "")
        kind = GivenError if first.is_given else ConfigError
        raise kind(first.text + (f" (and {len(more)} more: {command})" if more else ""))


def examine(
    environ: Mapping[str, str] = os.environ,
    *,
    config_path: str | None = None,
    socket_path: str | None = None,
    socket_mode: str | None = None,
    socket_group: str | None = None,
    workers: str | None = None,
    insecure_bind: bool | None = None,
) -> Examined:
    """Settings from the file, with variables over it and flags (None: not given) over both; and every mistake in them.

    Called again with the same arguments, it reads the file again.

    Args:
        environ: the process's variables.
        config_path: the file; None: the one that VASTAR_CONFIG names, else DEFAULT_CONFIG_PATH if that exists.
        insecure_bind: whether others than this machine's processes may reach the TCP port; None: nobody asks, as no
            daemon is to be started here. Else the socket's group must be one of this machine's, too.
    """
    settings = Settings()
    file: str | None = None
    mistakes: list[Mistake] = []
    sources: dict[KeyPath, str] = {}
    try:
        named = named_file(environ, config_path)
        file = default_file() if named is None else named
        if file == os.devnull:  # the way to say: none
            file = None
        if file is not None:
            document = read_file(file, is_named=named is not None)
            shown = shown_path(file)
            settings, lines, problems = check(document.tree, document.lines)
            mistakes += [Mistake(problem.key, f"{shown}:{problem.line}: {problem.text}") for problem in problems]
            sources = {key: f"{shown}:{line}{_scope(key)}" for key, line in lines.items()}
    except ConfigError as error:
        mistakes.append(Mistake((), str(error), isinstance(error, ForbiddenFile), isinstance(error, GivenError)))
    settings_in_file = len(sources)
    given = overrides(settings, environ, Flags(socket_path, socket_mode, socket_group, workers))
    mistakes += [Mistake(key, text, is_given=True) for key, text in given.problems]
    sources |= {override.key: override.source for override in given.overrides}
    settings = applied(settings, given.overrides)
    if insecure_bind is False and (mistake := _open_bind(settings, sources)) is not None:
        mistakes.append(mistake)
    if insecure_bind is not None and (problem := missing_group(settings.listen, sources)) is not None:
        mistakes.append(Mistake(SOCKET_GROUP, problem, is_given=problem.startswith("--")))
    return Examined(settings, file, mistakes, sources, settings_in_file)


def load_socket_path(
    environ: Mapping[str, str] = os.environ, *, config_path: str | None = None, socket_path: str | None = None
) -> str:
    """Where the daemon listens: all that is needed to find it, whatever else is wrong in the file.

    Raises:
        ConfigError: that cannot be told.
    """
    path, unread = client_socket(environ, config_path=config_path, socket_path=socket_path)
    if unread:
        raise _not_told(unread)
    return path


def client_socket(
    environ: Mapping[str, str] = os.environ, *, config_path: str | None = None, socket_path: str | None = None
) -> ClientSocket:
    """As ``load_socket_path``, for a command that makes requests, as any program with the SDK does: that reads no file,
    and a file that this user may not read keeps nobody from the default socket. One that ``--config`` names does.

    Raises:
        ConfigError: it cannot be told.
    """
    given = named_socket(environ, socket_path)
    if given is not None:
        return ClientSocket(given)
    examined = examine(environ, config_path=config_path)
    unread = ""
    for mistake in examined.mistakes:
        if mistake.key == ("listen", "socket")[: len(mistake.key)]:
            if not mistake.is_forbidden or config_path is not None:
                raise _not_told(mistake.text)
            unread = mistake.text
    return ClientSocket(examined.settings.listen.socket_path, unread)


def _not_told(reason: str) -> ConfigError:
    return ConfigError(f"{reason} (or say where the daemon is: --socket)")


def _open_bind(settings: Settings, sources: Mapping[KeyPath, str]) -> Mistake | None:
    key = ("listen", "tcp_host")
    host = settings.listen.tcp_host
    if settings.listen.tcp_port is None or is_loopback_host(host):
        return None
    where = f"{sources[key]}: " if key in sources else ""
    return Mistake(
        key,
        f"{where}listen.tcp_host: whoever reaches {host} could use the daemon, and what is said goes in clear; "
        "listen on 127.0.0.1, or say --insecure-bind if that is meant",
    )


def _scope(key: KeyPath) -> str:
    return f" {shown_key(key[:2])}" if len(key) > 1 and isinstance(key[1], int) else ""
