"""What the daemon is told at start: ``VASTAR_*`` variables, and flags over them, in one frozen object."""

import math
import os
from collections.abc import Mapping

import msgspec

from vastar_runtime.errors import ConfigError

DEFAULT_SOCKET_PATH = "/tmp/vastar-connector-runtime.sock"  # noqa: S108 - protocol.md part 1: every SDK knows it
DEFAULT_LOG_PATH = "/tmp/vastar-runtime.log"  # noqa: S108 - where users of the existing runtime look
DEFAULT_TCP_PORT = 5000
DEFAULT_TIMEOUT_S = 60.0

# sun_path holds 108 bytes with its NUL (unix(7)); a longer path fails in bind() with a message that names nothing.
MAX_SOCKET_PATH_BYTES = 107


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's settings.

    Attributes:
        socket_path: the Unix socket.
        socket_mode: permission bits of the socket file.
        socket_group: name or number of the group that owns the socket file; None leaves it.
        tcp_port: also listen on 127.0.0.1 at this port (0: any free one); None: no TCP.
        timeout_s: for a request without a deadline: seconds to the first byte, and between bytes.
    """

    socket_path: str = DEFAULT_SOCKET_PATH
    socket_mode: int = 0o600
    socket_group: str | None = None
    tcp_port: int | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S


def load(
    environ: Mapping[str, str] = os.environ,
    *,
    socket_path: str | None = None,
    socket_mode: str | None = None,
    socket_group: str | None = None,
) -> Settings:
    """Settings from the environment, with flags (None: not given) over it.

    Raises:
        ConfigError: naming the variable or flag, what was found and what is allowed.
    """
    return Settings(
        socket_path=_socket_path(environ, socket_path),
        socket_mode=0o600 if socket_mode is None else _mode(socket_mode),
        socket_group=socket_group,
        tcp_port=_tcp_port(environ),
        timeout_s=_timeout_s(environ),
    )


def _socket_path(environ: Mapping[str, str], flag: str | None) -> str:
    name, path = ("--socket", flag) if flag is not None else ("VASTAR_SOCKET_PATH", environ.get("VASTAR_SOCKET_PATH"))
    if path is None or (not path and flag is None):
        return DEFAULT_SOCKET_PATH
    if not path or "\0" in path:
        raise ConfigError(f"{name}: {path!r} is no path of a socket")
    path = os.path.abspath(path)
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"{name}: the path has {len(os.fsencode(path))} bytes; "
            f"the system allows {MAX_SOCKET_PATH_BYTES} for a socket: choose a shorter one"
        )
    return path


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ConfigError(f"--socket-mode: {text!r} is no octal permission such as 0600 or 0660")
    return mode


def _tcp_port(environ: Mapping[str, str]) -> int | None:
    use = environ.get("VASTAR_USE_TCP", "").strip().lower()
    if use not in ("true", "false", "1", "0", ""):
        raise ConfigError(f"VASTAR_USE_TCP: {use!r} is neither true nor false")
    if use not in ("true", "1"):
        return None
    text = environ.get("VASTAR_TCP_PORT", "") or str(DEFAULT_TCP_PORT)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise ConfigError(f"VASTAR_TCP_PORT: {text!r} is no port; it takes a number from 0 to 65535")
    return int(text)


def _timeout_s(environ: Mapping[str, str]) -> float:
    text = environ.get("VASTAR_TIMEOUT", "")
    if not text:
        return DEFAULT_TIMEOUT_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"VASTAR_TIMEOUT: {text!r} is no number of seconds above 0")
    return seconds
