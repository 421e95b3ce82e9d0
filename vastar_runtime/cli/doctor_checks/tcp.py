"""TCP: where clients look that use it, and the port that the daemon is to listen on."""

from __future__ import annotations

from collections.abc import Iterator

from vastar_runtime.config.quoting import shown_address
from vastar_runtime.config.table_values import is_loopback_host

from .circumstances import Circumstances
from .finding import Finding, ok, problem, warning
from .over_tcp import NOBODY, OverTcp, ask_over_tcp
from .restarting import restart

_NAME = "TCP port"


def check_tcp(seen: Circumstances) -> Iterator[Finding]:
    """Who answers there, and who could ask."""
    yield from _open_to_others(seen)
    if seen.tcp is not None:
        yield _of_clients(seen, seen.tcp)
        return
    listen = seen.settings.listen
    if listen.tcp_port is None or seen.apart:
        return
    if listen.tcp_port == 0:
        yield ok(_NAME, "any free one; the daemon's log tells which")
        return
    yield _of_daemon(seen, ask_over_tcp(_host_to_ask(listen.tcp_host), listen.tcp_port))


def _open_to_others(seen: Circumstances) -> Iterator[Finding]:
    listen = seen.settings.listen
    if listen.tcp_port is None or is_loopback_host(listen.tcp_host) or seen.apart:
        return
    found = (
        f"{shown_address(listen.tcp_host, listen.tcp_port)}: whoever reaches it may send requests, and what is said "
        "goes in clear"
    )
    if seen.is_running:  # without --insecure-bind it would not have started
        yield ok("TCP host", f"{found}, which --insecure-bind has allowed")
    else:
        yield warning(
            "TCP host",
            f"{found}: no daemon starts there without --insecure-bind",
            "listen on 127.0.0.1 ([listen] tcp_host), or keep others away with a firewall",
        )


def _of_clients(seen: Circumstances, tcp: OverTcp) -> Finding:
    """Where clients with these variables look."""
    if tcp.health is not None:
        return ok(_NAME, f"a daemon answers at {tcp.address}, where clients with these variables look")
    if not is_loopback_host(tcp.host):
        return problem(
            _NAME,
            f"{tcp.address}, where clients with these variables look: {tcp.problem}",
            "a daemon is to be started there with VASTAR_USE_TCP=true; or for the socket of this machine",
            "unset VASTAR_USE_TCP",
        )
    return _of_daemon(seen, tcp)


def _of_daemon(seen: Circumstances, tcp: OverTcp) -> Finding:
    """The port of a daemon of this machine."""
    place = tcp.address
    if seen.is_running:
        if tcp.health is not None:
            return ok(_NAME, f"{place}: a daemon answers")
        advice, command = restart(seen, takes="tcp")
        return problem(
            _NAME,
            f"{place}: {tcp.problem}; the daemon on {seen.socket} was started without it, or could not have it",
            f"{advice}; or use the socket" if advice else "VASTAR_USE_TCP and VASTAR_TCP_PORT count when it is started",
            command or ("unset VASTAR_USE_TCP" if seen.tcp is not None else None),
        )
    if tcp.problem == NOBODY:
        return ok(_NAME, f"{place} is free")
    return problem(
        _NAME,
        f"{place} is taken ({tcp.problem or 'a daemon answers'}): a daemon cannot listen there",
        "choose another port, or end who has it; this tells who",
        f"ss -ltnp sport = :{tcp.port}",
    )


def _host_to_ask(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - asked on loopback instead
