"""Who answers on TCP."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

import msgspec

from connector_sdk.config import DEFAULT_TCP_HOST, DEFAULT_TCP_PORT
from connector_sdk.wire import HealthCheck, HealthCheckResponse, ProtocolError
from vastar_runtime.cli.asking import ask
from vastar_runtime.config.quoting import shown_address

TIMEOUT_S = 1.5
NOBODY = "nobody listens"
_NO_DAEMON = "what listens there does not answer as a daemon"
_MAX_REASON_CHARACTERS = 100


class OverTcp(msgspec.Struct, frozen=True, kw_only=True):
    """What there is at an address.

    Attributes:
        health: a daemon's answer; None: none answers.
        problem: why not, as the rest of a sentence.
    """

    host: str
    port: int
    health: HealthCheckResponse | None = None
    problem: str = ""

    @property
    def address(self) -> str:
        """For a person."""
        return shown_address(self.host, self.port)


def uses_tcp(environ: Mapping[str, str]) -> bool:
    """Whether clients with these variables use TCP."""
    return environ.get("VASTAR_USE_TCP", "").strip().lower() in ("true", "1")


def client_address(environ: Mapping[str, str]) -> tuple[str, int] | None:
    """Where clients with these variables look; None: on the socket, or what they say cannot be used."""
    if not uses_tcp(environ):
        return None
    text = environ.get("VASTAR_TCP_PORT", "") or str(DEFAULT_TCP_PORT)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535):
        return None
    return environ.get("VASTAR_TCP_HOST", "") or DEFAULT_TCP_HOST, int(text)


def ask_over_tcp(host: str, port: int) -> OverTcp:
    """Ask who is there; ends soon, but for the lookup of a name."""
    problem = _NO_DAEMON
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as client:
            reply = ask(client, HealthCheck(), time.monotonic() + TIMEOUT_S)
    except ConnectionRefusedError:
        problem = NOBODY
    except (TimeoutError, ProtocolError, ConnectionError) as error:
        reason = str(error) or type(error).__name__
        problem += f" ({reason})" if len(reason) < _MAX_REASON_CHARACTERS else ""
    except (OSError, UnicodeError) as error:  # no such host, no way there, no name at all
        problem = f"it cannot be reached ({getattr(error, 'strerror', None) or 'it is no host'})"
    else:
        if isinstance(reply, HealthCheckResponse):
            return OverTcp(host=host, port=port, health=reply)
    return OverTcp(host=host, port=port, problem=problem)
