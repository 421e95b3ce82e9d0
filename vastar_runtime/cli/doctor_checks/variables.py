"""``VASTAR_*`` variables: unknown ones, malformed ones, and ones without effect."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches

from connector_sdk.config import RuntimeConfig
from connector_sdk.errors import ConnectorException
from vastar_runtime import config
from vastar_runtime.config.quoting import quoted

from .circumstances import Circumstances
from .finding import Finding, listed, not_checked, ok, problem, warning
from .over_tcp import uses_tcp

KNOWN = (
    "VASTAR_SOCKET_PATH",
    "VASTAR_USE_TCP",
    "VASTAR_TCP_HOST",
    "VASTAR_TCP_PORT",
    "VASTAR_WORKERS",
    "VASTAR_CONFIG",
    "VASTAR_TIMEOUT",
    "VASTAR_LOG_FILE",
)
_MOST_TOLD = 20

# What Kubernetes sets in every container for a service of that name: nobody's mistake.
_SERVICE_LINK = re.compile(r"_(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_.*)?)?)\Z")
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def check_variables(seen: Circumstances) -> Iterator[Finding]:
    """One line for each that something is wrong with, or one for all."""
    given = sorted(name for name in seen.environ if name.upper().startswith("VASTAR"))
    wrong = [*_malformed(seen), *_unknown(seen, given), *_relative(seen), *_idle(seen)]
    yield from wrong[:_MOST_TOLD]
    if not wrong:
        known = [name for name in given if name in KNOWN]
        yield ok("variables", f"{listed(known, len(KNOWN))} can be used" if known else "no VASTAR_* variable is set")


def _malformed(seen: Circumstances) -> Iterator[Finding]:
    # Without the file: what is wrong in it is told elsewhere.
    of_daemon = [mistake.text for mistake in config.examine({**seen.environ, "VASTAR_CONFIG": os.devnull}).mistakes]
    of_clients = _malformed_for_clients()
    readers: dict[str, list[str]] = {}
    reasons: dict[str, str] = {}
    for reader, texts in (("the daemon does not start", of_daemon), ("no client starts", of_clients)):
        for text in texts:
            name, _, reason = text.partition(": ")
            if name in KNOWN:
                readers.setdefault(name, []).append(reader)
                reasons.setdefault(name, reason)
    for name, reason in reasons.items():
        value = seen.environ.get(name, "")
        advice = "correct it, or do without"
        if _SERVICE_URL.match(value):
            reason = f"{quoted(value)} comes from Kubernetes, for a service of that name"
            advice = "set enableServiceLinks: false in the pod's spec"
        found = f"{reason}; with it {' and '.join(dict.fromkeys(readers[name]))}"
        yield problem(f"variable {name}", found, advice, f"unset {name}")


def _malformed_for_clients() -> list[str]:
    """What the SDK refuses beyond that; it goes by the variables of this process."""
    try:
        RuntimeConfig()
    except ConnectorException as error:
        return [error.message]
    return []


def _unknown(seen: Circumstances, given: list[str]) -> Iterator[Finding]:
    settings, is_unread = seen.settings, seen.examined is None or any(not each.key for each in seen.examined.mistakes)
    named = {credential.env for credential in settings.credentials} | {settings.shared_limits.password_env}
    for name in given:
        if name in KNOWN or name in named or _SERVICE_LINK.search(name):
            continue
        near = next(iter(get_close_matches(name.upper()[:64], KNOWN, 1, 0.7)), None)
        if near is None and is_unread:
            yield not_checked(f"variable {quoted(name)}", "the configuration may name it, and cannot be read")
        elif near is None or not _NAME.match(name):
            yield warning(
                f"variable {quoted(name)}",
                f"nothing reads it; known: {', '.join(KNOWN)}",
                command=f"unset {name}" if _NAME.match(name) else None,
            )
        elif near in seen.environ:
            yield warning(
                f"variable {name}", f"nothing reads it; {near} is set, and is what counts", command=f"unset {name}"
            )
        else:
            yield problem(
                f"variable {name}",
                f"nothing reads it: the variable is called {near}",
                "give it its name",
                f'export {near}="${name}"; unset {name}',
            )


def _relative(seen: Circumstances) -> Iterator[Finding]:
    for name in ("VASTAR_SOCKET_PATH", "VASTAR_CONFIG", "VASTAR_LOG_FILE"):
        path = seen.environ.get(name, "")
        if path.startswith("~"):
            yield problem(
                f"variable {name}",
                f"{quoted(path)}: the ~ is taken as it stands, since no shell has put the home directory in its place",
                "write it without quotes, or the whole path",
                f'export {name}="$HOME${{{name}#"~"}}"' if path.startswith("~/") else None,
            )
        elif path and not os.path.isabs(path) and not (name == "VASTAR_LOG_FILE" and seen.is_running):
            yield warning(
                f"variable {name}",
                f"{quoted(path)} is relative: in another directory it is another one",
                "write the whole path",
                f'export {name}="$PWD/${name}"',
            )


def _idle(seen: Circumstances) -> Iterator[Finding]:
    for name in ("VASTAR_TCP_HOST", "VASTAR_TCP_PORT"):
        value = seen.environ.get(name, "")
        in_file = seen.settings.listen.tcp_port is not None and name == "VASTAR_TCP_PORT"
        if value and not uses_tcp(seen.environ) and not in_file and not _SERVICE_URL.match(value):
            yield warning(
                f"variable {name}",
                "it has no effect, since VASTAR_USE_TCP is not true",
                "set that as well, or do without",
                f"unset {name}",
            )
