"""The daemon sees the environment that it was started in; this shell may have another."""

from __future__ import annotations

from collections.abc import Iterator

from vastar_runtime.config.quoting import quoted
from vastar_runtime.daemon.environment import fingerprints

from .circumstances import Circumstances
from .finding import Finding, listed, not_checked, ok, warning

_NAME = "daemon's environment"


def check_daemon_environment(seen: Circumstances) -> Iterator[Finding]:
    """Proxies and trust store of the daemon, compared with those of this shell."""
    if not seen.is_running:
        return
    its = None if seen.statistics is None else seen.statistics.get("environment")
    if not isinstance(its, dict):
        yield not_checked(_NAME, seen.statistics_problem or "the daemon does not tell it")
        return
    here = fingerprints(seen.environ)
    differ = sorted(name for name in here.keys() | its.keys() if here.get(name) != its.get(name))
    if not differ:
        yield ok(_NAME, "proxies and trust store are the same there as here")
        return
    yield warning(
        _NAME,
        f"the daemon (PID {seen.pid}) was started with other values of {listed(map(quoted, differ), 6)} than this "
        "shell has: what is said here about proxies and trust store does not hold for it",
        "if these here are the right ones",
        seen.command("restart"),
    )
