"""The daemon sees the environment that it was started in; this shell may have another."""

from __future__ import annotations

from collections.abc import Iterator

from vastar_runtime.config.quoting import quoted
from vastar_runtime.daemon.environment import fingerprints

from .circumstances import Circumstances
from .finding import Finding, listed, not_checked, ok, warning
from .restarting import restart

_NAME = "daemon's environment"
# Whose proxies and trust store are those of this shell.
THE_DAEMON, STARTED_HERE = "the daemon", "a daemon that is started from here"
NOT_FROM_HERE = "the daemon goes by the variables that it was started with, not by those of this shell"


def check_daemon_environment(seen: Circumstances) -> Iterator[Finding]:
    """Proxies and trust store of the daemon, compared with those of this shell."""
    if not seen.is_running or seen.apart:
        return
    differ = _differing(seen)
    if differ is None:
        yield not_checked(_NAME, seen.statistics_problem or "the daemon does not tell it")
    elif not differ:
        yield ok(_NAME, "proxies and trust store are the same there as here")
    elif not seen.is_ours:
        yield ok(
            _NAME, f"it has other values of {listed(map(quoted, differ), 6)} than this shell, which is another user's"
        )
    else:
        advice, command = restart(seen, takes="environment")
        yield warning(
            _NAME,
            f"the daemon (PID {seen.pid}) was started with other values of {listed(map(quoted, differ), 6)} than this "
            "shell has: what is said here about proxies and trust store does not hold for it",
            f"if these here are the right ones{': ' if advice else ''}{advice}",
            command,
        )


def whose(seen: Circumstances) -> str | None:
    """What this shell's proxies and trust store hold for: THE_DAEMON, STARTED_HERE; None: for none that matters."""
    if seen.apart:
        return None
    if not seen.is_running:
        return STARTED_HERE
    if _differing(seen) == []:
        return THE_DAEMON
    return STARTED_HERE if seen.is_ours else None


def _differing(seen: Circumstances) -> list[str] | None:
    """Names of variables; None: the daemon does not tell."""
    its = None if seen.statistics is None else seen.statistics.get("environment")
    if not isinstance(its, dict):
        return None
    here = fingerprints(seen.environ)
    return sorted(str(name) for name in here.keys() | its.keys() if here.get(name) != its.get(name))
