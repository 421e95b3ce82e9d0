"""Where the daemon is and what requests carry: arguments over ``VASTAR_*`` variables over built-in values."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from .errors import ConnectorException
from .wire.address import DEFAULT_SOCKET_PATH as DEFAULT_SOCKET_PATH
from .wire.address import DEFAULT_TCP_PORT as DEFAULT_TCP_PORT
from .wire.address import MAX_SOCKET_PATH_BYTES
from .wire.daemon_connection import MAX_WINDOW_BYTES
from .wire.flow import DEFAULT_WINDOW_BYTES
from .wire.messages import ErrorClass
from .wire.timeout import MAX_TIMEOUT_MS as MAX_TIMEOUT_MS
from .wire.timeout import timeout_ms

DEFAULT_TCP_HOST = "127.0.0.1"
DEFAULT_TIMEOUT_MS = 60_000

_SHOWN_CHARACTERS = 200


def _socket_path_from_environment() -> str:
    path = os.environ.get("VASTAR_SOCKET_PATH", "")
    return check_socket_path("VASTAR_SOCKET_PATH", path) if path else DEFAULT_SOCKET_PATH


def _use_tcp_from_environment() -> bool:
    text = os.environ.get("VASTAR_USE_TCP", "")
    word = text.strip().lower()
    if word not in ("true", "1", "false", "0", ""):
        raise invalid("VASTAR_USE_TCP", text, "true or false")
    return word in ("true", "1")


def _tcp_host_from_environment() -> str:
    host = os.environ.get("VASTAR_TCP_HOST", "")
    return check_host("VASTAR_TCP_HOST", host) if host else DEFAULT_TCP_HOST


def _tcp_port_from_environment() -> int:
    text = os.environ.get("VASTAR_TCP_PORT", "")
    if not text:
        return DEFAULT_TCP_PORT
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise invalid("VASTAR_TCP_PORT", text, "a port from 1 to 65535")
    return check_port("VASTAR_TCP_PORT", int(text))


def _timeout_ms_from_environment() -> int:
    text = os.environ.get("VASTAR_TIMEOUT", "")
    if not text:
        return DEFAULT_TIMEOUT_MS
    if (milliseconds := timeout_ms(text)) is None:
        raise invalid("VASTAR_TIMEOUT", text, "seconds above 0")
    return milliseconds


@dataclass
class RuntimeConfig:
    """How a client reaches the daemon, and what its requests carry unless they say otherwise.

    Attributes:
        tenant_id: on whose behalf requests run.
        workspace_id: part of the tenant; "" for none.
        timeout_ms: for requests that give none; by default ``VASTAR_TIMEOUT`` (seconds), else 60,000.
        socket_path: the daemon's Unix socket; by default ``VASTAR_SOCKET_PATH``.
        use_tcp: connect over TCP instead; by default whether ``VASTAR_USE_TCP`` is "true".
        tcp_host, tcp_port: where, with ``use_tcp``; by default ``VASTAR_TCP_HOST``, ``VASTAR_TCP_PORT``.
        stream_window_bytes: how much of each streamed body may be here, or on its way here, and not read yet; at most
            MAX_WINDOW_BYTES.

    Raises:
        ConnectorException: INVALID_REQUEST, naming the field or variable, its value and what is allowed.
        TypeError: a field of another type.
    """

    tenant_id: str = "default"
    workspace_id: str = ""
    timeout_ms: int = field(default_factory=_timeout_ms_from_environment)
    socket_path: str = field(default_factory=_socket_path_from_environment)
    use_tcp: bool = field(default_factory=_use_tcp_from_environment)
    tcp_host: str = field(default_factory=_tcp_host_from_environment)
    tcp_port: int = field(default_factory=_tcp_port_from_environment)
    stream_window_bytes: int = DEFAULT_WINDOW_BYTES

    def __post_init__(self) -> None:
        check_type("tenant_id", self.tenant_id, str)
        check_type("workspace_id", self.workspace_id, str)
        check_timeout_ms("timeout_ms", self.timeout_ms)
        self.socket_path = check_socket_path("socket_path", os.fspath(self.socket_path))
        check_type("use_tcp", self.use_tcp, bool)
        check_host("tcp_host", self.tcp_host)
        check_port("tcp_port", self.tcp_port)
        check_type("stream_window_bytes", self.stream_window_bytes, int)
        if not 0 < self.stream_window_bytes <= MAX_WINDOW_BYTES:
            raise invalid("stream_window_bytes", self.stream_window_bytes, f"bytes from 1 to {MAX_WINDOW_BYTES}")

    @property
    def endpoint(self) -> str:
        """The daemon's address for a person: ``socket PATH`` or ``HOST:PORT``."""
        return f"{self.tcp_host}:{self.tcp_port}" if self.use_tcp else f"socket {self.socket_path}"


def check_type(name: str, value: object, *allowed: type) -> None:
    """Raise ``TypeError`` naming ``name`` unless ``value`` is of an allowed type; True is no number."""
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        wanted = " or ".join(kind.__name__ for kind in allowed)
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def check_timeout_ms(name: str, value: int) -> int:
    """``value`` when it is a usable number of milliseconds; ConnectorException or TypeError otherwise."""
    check_type(name, value, int)
    if not 0 < value <= MAX_TIMEOUT_MS:
        raise invalid(name, value, f"milliseconds from 1 to {MAX_TIMEOUT_MS}")
    return value


def check_socket_path(name: str, path: str) -> str:
    """``path`` when the system can take it as a socket's; ConnectorException or TypeError otherwise."""
    check_type(name, path, str)
    try:
        size = len(os.fsencode(path))
    except UnicodeError:  # half of a character, as YAML and JSON can write it
        size = 0
    if not size or "\0" in path:
        raise invalid(name, path, "the path of the daemon's socket")
    if size > MAX_SOCKET_PATH_BYTES:
        raise invalid(name, path, f"a path of at most {MAX_SOCKET_PATH_BYTES} bytes; this one has {size}")
    return path


def check_host(name: str, host: str) -> str:
    """``host`` when it can be looked up; ConnectorException or TypeError otherwise."""
    check_type(name, host, str)
    try:
        is_host = bool(host.encode("idna")) and host.isprintable() and " " not in host
    except UnicodeError:
        is_host = False
    if not is_host:
        raise invalid(name, host, "a host name or an IP address")
    return host


def check_port(name: str, port: int) -> int:
    """``port`` when it is one; ConnectorException or TypeError otherwise."""
    check_type(name, port, int)
    if not 0 < port <= 65535:
        raise invalid(name, port, "a port from 1 to 65535")
    return port


def invalid(name: str, value: object, allowed: str) -> ConnectorException:
    """INVALID_REQUEST: what was given by this name, and what it takes."""
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
    return ConnectorException(f"{name}: {shown} cannot be used; it takes {allowed}", ErrorClass.INVALID_REQUEST)
