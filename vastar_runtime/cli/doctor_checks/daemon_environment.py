"""The daemon sees the environment that it was started in; this shell may have another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from vastar_runtime.config.quoting import quoted

from .circumstances import Circumstances
from .finding import Finding, listed, not_checked, ok, warning

_MAX_BYTES = 1 << 20
_NAME = "daemon's environment"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_OTHERS = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def check_daemon_environment(seen: Circumstances) -> Iterator[Finding]:
    """Proxies and trust store of the daemon, compared with those of this shell."""
    if not seen.is_running:
        return
    if seen.pid is None:
        yield not_checked(_NAME, "the daemon's process cannot be seen from here")
        return
    try:
        with open(f"/proc/{seen.pid}/environ", "rb") as file:
            data = file.read(_MAX_BYTES)
    except OSError as error:
        yield not_checked(_NAME, f"/proc/{seen.pid}/environ: {error.strerror}")
        return
    its = parse(data)
    if not its:
        yield not_checked(
            _NAME,
            "its process title has taken the place of its variables in /proc",
            "after a change of proxy or certificate variables, restart it in a shell that has them",
        )
        return
    yield compare(seen, its)


def parse(data: bytes) -> dict[str, str]:
    """Variables, as ``/proc/PID/environ`` has them (proc(5)); the first of each name counts, as it does for getenv."""
    found: dict[str, str] = {}
    for entry in data.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if name and equals:
            found.setdefault(os.fsdecode(name), os.fsdecode(value))
    return found


def compare(seen: Circumstances, its: Mapping[str, str]) -> Finding:
    """
    Args:
        its: the daemon's variables.
    """
    differ = [name.upper() for name in _PROXIES if _proxy(seen.environ, name) != _proxy(its, name)]
    differ += [name for name in _OTHERS if seen.environ.get(name, "") != its.get(name, "")]
    if not differ:
        return ok(_NAME, "proxies and trust store are the same there as here")
    # Not the values: a proxy's may hold a password.
    return warning(
        _NAME,
        f"the daemon (PID {seen.pid}) was started with other values of {listed(map(quoted, differ), 6)} than this "
        "shell has: what is said here about proxies and trust store does not hold for it",
        "if these here are the right ones",
        seen.command("restart"),
    )


def _proxy(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, environ.get(name.upper(), "")).strip()
