"""What checks look at: who asks, with which variables and flags, what the settings say, what the daemon answers."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from vastar_runtime import config
from vastar_runtime.cli.asking import NoAnswer, Refused, ask_runtime
from vastar_runtime.cli.probe import Found, State, probe
from vastar_runtime.cli.process import is_apart
from vastar_runtime.config import Examined, Settings
from vastar_runtime.errors import ConfigError, StartupError

from .bounded import Look, TookTooLong, within
from .over_tcp import OverTcp, ask_over_tcp, client_address
from .processes import Manner, manner_of

# A daemon answers in a millisecond; one that takes so long is of no use to anybody.
ANSWER_TIMEOUT_S = 2.0
FILE_TIMEOUT_S = 2.0
# How a daemon's refusal begins that is a mistake of its own.
_INTERNAL_ERROR = "internal error of the runtime"


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
        is_silent: it was asked for them, and said nothing in time.
        is_failing: it was asked for them, and has a mistake of its own there.
        tcp: what answers where clients with these variables and flags look; None: they do not use TCP.
        manner: how the daemon was started; None: there is none, or it cannot be seen.
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
    is_silent: bool = False
    is_failing: bool = False
    tcp: OverTcp | None = None
    manner: Manner | None = None

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

    @property
    def is_on_tcp_only(self) -> bool:
        """A daemon answers over TCP, where clients look, and none on the socket."""
        return self.tcp is not None and self.tcp.health is not None and self.state is State.NOT_RUNNING

    @property
    def apart(self) -> str:
        """Why this user's files, variables and limits say nothing about the daemon, whose these are not; "": they do.
        Root has a say in every daemon of this machine."""
        if self.is_on_tcp_only:
            return "the daemon is reached over TCP, and may live anywhere"
        if self.found is None or self.state is State.NOT_RUNNING:
            return ""
        if self.is_running and (self.pid is None or is_apart(self.pid, "pid")):
            return "the daemon lives in another container"
        if os.geteuid() == 0:
            return ""
        if self.state is State.FORBIDDEN:
            return "this user may not use the socket"
        return "" if self.found.uid in (None, os.geteuid()) else "the daemon is another user's"

    @property
    def names_file(self) -> bool:
        """A flag or a variable says which configuration file is meant."""
        return self.config_path is not None or bool(self.environ.get("VASTAR_CONFIG"))

    @property
    def told_file(self) -> str | None:
        """The configuration file that the daemon goes by, as it says."""
        file = None if self.statistics is None else self.statistics.get("config_file")
        return file if isinstance(file, str) else None

    def command(self, name: str, *options: str) -> str:
        """A command for the daemon that was asked about."""
        words = ["vastar-runtime", *name.split(), *options]
        if self.socket_path is not None and name in ("start", "status", "reload"):
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
    address = client_address(environ) if socket_path is None and config_path is None else None
    over_tcp = None if address is None else Look(lambda: ask_over_tcp(*address))
    for step in (_settings, _socket, _found, _statistics, _its_file, _manner):
        seen = msgspec.structs.replace(seen, **step(seen))
    if address is None or over_tcp is None:
        return seen
    try:
        tcp = over_tcp.result(ANSWER_TIMEOUT_S)
    except TookTooLong as error:
        tcp = OverTcp(host=address[0], port=address[1], problem=str(error))
    seen = msgspec.structs.replace(seen, tcp=tcp)
    if not seen.is_on_tcp_only:
        return seen
    return msgspec.structs.replace(seen, statistics_problem="a daemon tells that on its Unix socket only")


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
            lambda: config.client_socket(seen.environ, config_path=seen.config_path, socket_path=seen.socket_path).path,
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
    except NoAnswer as error:
        return {"statistics_problem": str(error), "is_silent": True}
    except Refused as error:
        return {"statistics_problem": str(error), "is_failing": _INTERNAL_ERROR in str(error)}
    except (TookTooLong, OSError, StartupError) as error:
        return {"statistics_problem": str(error)}


def _its_file(seen: Circumstances) -> dict[str, Any]:
    """Without a word about a file, the settings are those of the one that the daemon goes by, as for ``restart``. Of
    this user's, or root's: anybody can put a socket into /tmp."""
    file = seen.told_file
    is_trusted = seen.found is not None and seen.found.uid in (0, os.geteuid())
    if file is None or seen.names_file or not is_trusted or seen.apart:
        return {}
    if seen.examined is not None and seen.examined.file == file:
        return {}
    try:
        return {"examined": within(FILE_TIMEOUT_S, lambda: config.examine(seen.environ, config_path=file))}
    except (TookTooLong, OSError):  # what there is holds; the difference is told
        return {}


def _manner(seen: Circumstances) -> dict[str, Any]:
    return {} if seen.pid is None else {"manner": manner_of(seen.pid)}
