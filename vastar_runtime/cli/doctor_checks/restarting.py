"""How the daemon can be started, and started again without losing what it was started with."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

import msgspec

from vastar_runtime import config
from vastar_runtime.config import AUTO_WORKERS, Examined, Listen
from vastar_runtime.config.permissions import user_name
from vastar_runtime.config.table_values import is_loopback_host
from vastar_runtime.daemon.environment import fingerprints

from .circumstances import Circumstances
from .finding import listed
from .processes import DELETED

_OPTIONS = "the options that it was started with (--config, --socket-mode, --socket-group, --workers, --log-file)"
UNIT = "vastar-runtime"
UNIT_DIRECTORIES = ("/etc/systemd/system", "/usr/lib/systemd/system")


def start(seen: Circumstances, by_hand: str) -> tuple[str, str | None]:
    """Advice, and the command, where none runs.

    Args:
        by_hand: the advice where no unit of systemd is to run it.
    """
    if any(os.path.lexists(f"{directory}/{UNIT}.service") for directory in UNIT_DIRECTORIES):
        return "a unit of systemd is to run it on this machine; this tells why it does not", f"systemctl status {UNIT}"
    if _mistake_in_file(seen.examined) is not None:
        return f"correct the configuration first; then {by_hand}", None
    return by_hand, seen.command("start")


def restart(
    seen: Circumstances, *options: str, config_file: str | None = None, takes: str = "", before: str = ""
) -> tuple[str, str | None]:
    """Advice, and the command, where one can be typed here that changes nothing but what it is to change.

    Args:
        options: what is to be different from now on.
        config_file: the file that it is to go by from now on; None: the one that it goes by.
        takes: "environment" or "tcp": what it is to take from this shell, whatever it has now.
        before: variables, as a shell takes them in front of a command.
    """
    found = seen.found
    listen = _listen(seen)
    if seen.manner is not None and seen.manner.unit is not None:
        return f"restart the unit that it belongs to ({seen.manner.unit}), with systemctl", None
    if found is None or found.uid != os.geteuid():
        whose = "its user" if found is None or found.uid is None else user_name(found.uid)
        return f"{whose} can restart it, as it was started", None
    if seen.manner is None or seen.manner.is_contained:
        return "it is to be restarted where it runs (a container?)", None
    if seen.manner.log is None or not seen.manner.is_detached:
        return "end it (Ctrl-C, SIGTERM), and have it started again by who started it", None
    if listen is None or seen.statistics is None:
        return f"vastar-runtime restart, with {_OPTIONS}: it does not tell them", None
    lacking = sorted(_lacking(seen, takes))
    if lacking:
        return f"vastar-runtime restart, from a shell that has {listed(lacking, 6)} as the daemon has it", None
    words = [*options, *_file_words(seen, config_file)]
    examined = _examined_here(seen, config_file)
    if (mistake := _mistake_in_file(examined)) is not None:
        return f"vastar-runtime restart, once this is corrected: {mistake}", None
    given = examined.settings.listen
    for option, value in _differing(listen, given):
        if option not in options:
            words += [option, value] if value else [option]
    log = seen.manner.log.removesuffix(DELETED)
    if log != seen.log_path:
        words += ["--log-file", log]
    if seen.socket_path is not None:
        words += ["--socket", seen.socket_path]
    command = shlex.join(["vastar-runtime", "restart", *words])
    variables = [before] if before else []
    if takes != "tcp" and listen.tcp_port != given.tcp_port:
        variables += (
            ["VASTAR_USE_TCP=false"]
            if listen.tcp_port is None
            else ["VASTAR_USE_TCP=true", f"VASTAR_TCP_PORT={listen.tcp_port}"]
        )
    return "", " ".join([*variables, command])


def _listen(seen: Circumstances) -> Listen | None:
    """What the daemon was started with; None: it does not tell."""
    told = None if seen.statistics is None else seen.statistics.get("listen")
    try:
        return None if told is None else msgspec.convert(told, Listen)
    except msgspec.ValidationError:
        return None


def _lacking(seen: Circumstances, takes: str) -> Iterator[str]:
    """The variables that a daemon would miss, or see with another value, that is started from this shell."""
    its = {} if seen.statistics is None else seen.statistics.get("environment")
    if takes != "environment" and isinstance(its, dict):
        here = fingerprints(seen.environ)
        yield from (str(name) for name in its.keys() | here.keys() if its.get(name) != here.get(name))
    names = [credential.env for credential in seen.settings.credentials]
    if seen.settings.shared_limits.backend is not None:
        names.append(seen.settings.shared_limits.password_env)
    yield from (name for name in names if name is not None and not seen.environ.get(name))


def _file_words(seen: Circumstances, config_file: str | None) -> list[str]:
    """``restart`` keeps the daemon's file where none is named, but not that it has none."""
    if config_file is not None:
        return ["--config", config_file]
    if not seen.names_file:
        default = None if seen.examined is None else seen.examined.file
        return ["--config", os.devnull] if seen.told_file is None and default is not None else []
    if seen.config_path is not None or seen.examined is None or seen.examined.file != seen.told_file:
        return ["--config", seen.told_file or os.devnull]
    return []


def _examined_here(seen: Circumstances, config_file: str | None) -> Examined:
    """What a daemon would be started with from this shell, without an option."""
    file = config_file or seen.told_file or os.devnull
    return config.examine(seen.environ, config_path=file)


def _mistake_in_file(examined: Examined | None) -> str | None:
    """The first one: no daemon starts with it. What is wrong in variables is told with them, and how to unset them."""
    mistakes = () if examined is None else examined.mistakes
    return next((mistake.text for mistake in mistakes if not mistake.is_given), None)


def _differing(its: Listen, here: Listen) -> Iterator[tuple[str, str]]:
    """Options, with their values."""
    if its.socket_mode != here.socket_mode:
        yield "--socket-mode", f"{its.socket_mode:04o}"
    if its.socket_group is not None and its.socket_group != here.socket_group:
        yield "--socket-group", its.socket_group
    if its.workers != here.workers:
        yield "--workers", "auto" if its.workers == AUTO_WORKERS else str(its.workers)
    if its.tcp_port is not None and not is_loopback_host(its.tcp_host):
        yield "--insecure-bind", ""
