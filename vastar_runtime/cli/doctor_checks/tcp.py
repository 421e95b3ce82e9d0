"""The TCP port, where the daemon is to listen on one as well."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

from connector_sdk.wire import HealthCheck, HealthCheckResponse, ProtocolError
from vastar_runtime.cli.asking import ask
from vastar_runtime.config.quoting import shown_address
from vastar_runtime.config.table_values import is_loopback_host

from .circumstances import Circumstances
from .finding import Finding, ok, problem, warning

TIMEOUT_S = 1.5


def check_tcp(seen: Circumstances) -> Iterator[Finding]:
    """Who answers there, and who could ask."""
    listen, name = seen.settings.listen, "TCP port"
    if listen.tcp_port is None:
        return
    place = shown_address(listen.tcp_host, listen.tcp_port)
    if listen.tcp_port == 0:
        yield ok(name, "any free one; the daemon's log tells which")
        return
    if not is_loopback_host(listen.tcp_host):
        yield warning(
            name,
            f"{place}: whoever reaches it may send requests, and what is said goes in clear",
            "listen on 127.0.0.1 ([listen] tcp_host), or keep others away with a firewall",
        )
    answer = _answer(_host_to_ask(listen.tcp_host), listen.tcp_port)
    if seen.is_running:
        if answer == "a daemon answers":
            yield ok(name, f"{place}: {answer}")
        else:
            yield problem(
                name,
                f"{place}: {answer}; the daemon on {seen.socket} was started without it, or could not have it",
                "VASTAR_USE_TCP and VASTAR_TCP_PORT count when the daemon is started",
                seen.command("restart"),
            )
    elif answer == "nobody listens":
        yield ok(name, f"{place} is free")
    else:
        yield problem(
            name,
            f"{place} is taken ({answer}): a daemon cannot listen there",
            "choose another port, or end who has it; this tells who",
            f"ss -ltnp sport = :{listen.tcp_port}",
        )


def _host_to_ask(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - asked on loopback instead


def _answer(host: str, port: int) -> str:
    """Who listens, as the rest of a sentence."""
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as client:
            reply = ask(client, HealthCheck(), time.monotonic() + TIMEOUT_S)
    except ConnectionRefusedError:
        return "nobody listens"
    except (OSError, ProtocolError) as error:
        reason = str(error) or type(error).__name__
        return "what listens there does not answer as a daemon" + (f" ({reason})" if len(reason) < 100 else "")
    if isinstance(reply, HealthCheckResponse):
        return "a daemon answers"
    return "what listens there does not answer as a daemon"
