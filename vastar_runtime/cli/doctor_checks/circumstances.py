"""What checks look at: who asks, with which variables and flags, what the settings say, what the daemon answers."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from vastar_runtime import config
from vastar_runtime.cli.asking import ask_runtime
from vastar_runtime.cli.probe import Found, State, probe
from vastar_runtime.config import Examined, Settings
from vastar_runtime.errors import ConfigError, StartupError

from .bounded import TookTooLong, within

# A daemon answers in a millisecond; one that takes so long is of no use to anybody.
ANSWER_TIMEOUT_S = 2.0
FILE_TIMEOUT_S = 2.0
NO_ANSWER = "did not answer within"  # ``ask_runtime``'s words


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, looked at once.

    Attributes:
        environ: of this process.
        config_path, socket_path: flags; None: not given.
        log_path: absolute.
        tenant_id: for whom requests are made.
        examined: the settings as file and variables have them here; None: the file could not be read in time.
        examine_problem: why not.
        socket: the absolute path that clients with these variables and flags use; None: there is none.
        socket_problem: why not.
        found: what answers there; None: it could not be asked.
        found_problem: why not.
        statistics: the daemon's snapshot of itself; None: it gives none.
        statistics_problem: why not.
    """

    environ: Mapping[str, str]
    config_path: str | None = None
    socket_path: str | None = None
    log_path: str
    tenant_id: str = "default"
    examined: Examined | None = None
    examine_problem: str = ""
    socket: str | None = None
    socket_problem: str = ""
    found: Found | None = None
    found_problem: str = ""
    statistics: dict[str, Any] | None = None
    statistics_problem: str = ""

    @property
    def settings(self) -> Settings:
        """As far as they are known: defaults for the rest."""
        return Settings() if self.examined is None else self.examined.settings

    @property
    def state(self) -> State | None:
        """Of the socket; None: it could not be asked."""
        return None if self.found is None else self.found.state

    @property
    def is_running(self) -> bool:
        """A daemon answers, and does not shut down."""
        return self.found is not None and self.found.health is not None and not self.found.health.draining

    @property
    def pid(self) -> int | None:
        """Of whoever listens."""
        return None if self.found is None else self.found.pid

    @property
    def is_ours(self) -> bool:
        """The daemon on the socket is this user's."""
        return self.found is not None and self.found.uid == os.geteuid()

    def command(self, name: str, *options: str) -> str:
        """A command for the daemon that was asked about."""
        words = ["vastar-runtime", *name.split(), *options]
        if self.socket_path is not None and name in ("start", "stop", "restart", "status", "reload"):
            words += ["--socket", self.socket_path]
        if self.config_path is not None and "--config" not in options:
            words += ["--config", self.config_path]
        return shlex.join(words)


def look(
    environ: Mapping[str, str], *, config_path: str | None, socket_path: str | None, log_path: str, tenant_id: str
) -> Circumstances:
    """Ends within some seconds; nothing is changed, and nothing raised."""
    seen = Circumstances(
        environ=environ, config_path=config_path, socket_path=socket_path, log_path=log_path, tenant_id=tenant_id
    )
    for step in (_settings, _socket, _found, _statistics):
        seen = msgspec.structs.replace(seen, **step(seen))
    return seen


def _settings(seen: Circumstances) -> dict[str, Any]:
    try:
        examined = within(FILE_TIMEOUT_S, lambda: config.examine(seen.environ, config_path=seen.config_path))
    except (TookTooLong, OSError) as error:
        return {"examine_problem": str(error)}
    return {"examined": examined}


def _socket(seen: Circumstances) -> dict[str, Any]:
    try:
        path = within(
            FILE_TIMEOUT_S,
            lambda: config.load_socket_path(seen.environ, config_path=seen.config_path, socket_path=seen.socket_path),
        )
    except (TookTooLong, OSError, ConfigError) as error:
        return {"socket_problem": str(error)}
    return {"socket": path}


def _found(seen: Circumstances) -> dict[str, Any]:
    path = seen.socket
    if path is None:
        return {"found_problem": "the socket's path is not known"}
    try:
        return {"found": within(2 * ANSWER_TIMEOUT_S + 1, lambda: probe(path, ANSWER_TIMEOUT_S))}
    except (TookTooLong, OSError, StartupError) as error:
        return {"found_problem": str(error)}


def _statistics(seen: Circumstances) -> dict[str, Any]:
    path = seen.socket
    if path is None or not seen.is_running:
        return {"statistics_problem": "no daemon answers"}
    try:
        return {
            "statistics": within(
                ANSWER_TIMEOUT_S + 1, lambda: ask_runtime(path, "statistics", ANSWER_TIMEOUT_S, dict[str, Any])
            )
        }
    except (TookTooLong, OSError, StartupError) as error:
        return {"statistics_problem": str(error)}
