"""Proxy variables: what the daemon makes of them, and whether the proxies are there. No value is shown: it may hold a
password."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from functools import partial

from vastar_runtime.errors import ConfigError
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.http.url import Origin

from .bounded import Look, TookTooLong
from .circumstances import Circumstances
from .daemon_environment import NOT_FROM_HERE, STARTED_HERE, whose
from .finding import Finding, listed, not_checked, ok, problem, warning

CONNECT_TIMEOUT_S = 2.0
_NAMES = ("http_proxy", "https_proxy", "all_proxy")
_HERE = ("localhost", "127.0.0.1")
_PAST_IT = f"NO_PROXY={','.join(_HERE)}"
# Somewhere else; nothing is sent there.
_ELSEWHERE = (Origin("http", "upstream.invalid", 80), Origin("https", "upstream.invalid", 443))


def check_proxies(seen: Circumstances) -> Iterator[Finding]:
    """Malformed ones, spellings that disagree, and local services that go through a proxy."""
    who = whose(seen)
    if who is None:
        yield not_checked("proxies", NOT_FROM_HERE)
        return
    malformed = {name: finding for name in _NAMES if (finding := _malformed(seen.environ, name)) is not None}
    disagreeing = [finding for name in (*_NAMES, "no_proxy") for finding in _disagreeing(seen.environ, name)]
    yield from malformed.values()
    yield from disagreeing
    environ = _usable(seen.environ)
    proxies = Proxies(environ)
    through = [origin for origin in _ELSEWHERE if proxies.for_origin(origin) is not None]
    if not through:
        if not malformed:
            yield ok("proxies", f"none: {who} connects directly")
        return
    schemes = [origin.scheme for origin in through]
    local = [host for host in _HERE if any(proxies.for_origin(Origin(scheme, host, 80)) for scheme in schemes)]
    if local:
        variable = "no_proxy" if "no_proxy" in environ else "NO_PROXY"
        yield warning(
            "proxies",
            f"{variable} leaves out {listed(local)}: {who} goes to services on this machine through the proxy",
            "before the daemon is started",
            f'export {variable}="${{{variable}:+${variable},}}{",".join(local)}"',
        )
    elif not disagreeing:
        yield ok("proxies", f"{who} goes through one for {listed(schemes)}; not to this machine")


def check_proxies_answer(seen: Circumstances) -> Iterator[Finding]:
    """A TCP connection to each; nothing is sent."""
    if whose(seen) is None:
        return
    environ = _usable(seen.environ)
    proxies = Proxies(environ)
    found = (proxies.for_origin(origin) for origin in _ELSEWHERE)
    origins = dict.fromkeys(proxy.origin for proxy in found if proxy is not None)
    looks = {origin: Look(partial(_connect, origin)) for origin in origins}
    for origin, look in looks.items():
        name = f"proxy {origin.address}"
        try:
            look.result(CONNECT_TIMEOUT_S + 0.5)
        except (TookTooLong, TimeoutError):
            reason = f"no connection within {CONNECT_TIMEOUT_S:g} s"
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            yield ok(name, "accepts connections")
            continue
        variables = [variable for variable in _set(environ) if _leads_to(environ, variable, origin)]
        yield problem(
            name,
            f"it does not answer ({reason}); {listed(variables)} {'name' if len(variables) > 1 else 'names'} it",
            f"correct that; or let what is on this machine pass it by ({_PAST_IT}); or do without",
            f"unset {' '.join(variables)}",
        )


def _malformed(environ: Mapping[str, str], name: str) -> Finding | None:
    only = {spelling: environ[spelling] for spelling in (name, name.upper()) if spelling in environ}
    try:
        Proxies(only)
    except ConfigError as error:
        variable = name if name in environ else name.upper()
        found, advice = f"{str(error).partition(': ')[2]}", "correct it, or do without"
        if environ[variable].strip().lower().startswith("socks"):
            found = "a SOCKS proxy, and http and https ones are all that can be used"
            advice = "name an http proxy (many SOCKS servers have one beside it), or do without"
        # The daemon that runs would not have started with such a value.
        return problem(
            f"variable {variable}", f"{found}; {STARTED_HERE} does not start with it", advice, f"unset {variable}"
        )
    return None


def _usable(environ: Mapping[str, str]) -> dict[str, str]:
    """Without the malformed ones."""
    malformed = {name for name in _NAMES if _malformed(environ, name) is not None}
    return {name: value for name, value in environ.items() if name.lower() not in malformed}


def _disagreeing(environ: Mapping[str, str], name: str) -> Iterator[Finding]:
    lower, upper = environ.get(name), environ.get(name.upper())
    if lower is not None and upper is not None and lower.strip() != upper.strip():
        yield warning(
            f"variable {name}",
            f"{name} and {name.upper()} differ; a daemon goes by {name}, other programs by the other one",
            "give both the same value",
            f'export {name.upper()}="${name}"',
        )


def _connect(origin: Origin) -> None:
    with socket.create_connection((origin.host, origin.port), CONNECT_TIMEOUT_S):
        pass


def _set(environ: Mapping[str, str]) -> Iterator[str]:
    """The variables that count, of those that name proxies."""
    for name in _NAMES:
        variable = name if name in environ else name.upper()
        if environ.get(variable, "").strip():
            yield variable


def _leads_to(environ: Mapping[str, str], variable: str, origin: Origin) -> bool:
    scheme = "https" if variable.lower() == "https_proxy" else "http"
    proxy = Proxies({variable: environ[variable]}).for_origin(Origin(scheme, "upstream.invalid", 80))
    return proxy is not None and proxy.origin == origin
