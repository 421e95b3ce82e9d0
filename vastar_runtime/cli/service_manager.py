"""Tells the service manager, systemd or what speaks like it, that the daemon accepts connections (sd_notify(3))."""

import socket
from collections.abc import MutableMapping

import structlog

_VARIABLE = "NOTIFY_SOCKET"

log = structlog.get_logger()


class ServiceManager:
    """Whoever started this process and wants to know.

    Args:
        environ: the variable is taken out of it: it is meant for this process, and not for those that it starts.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._path = environ.pop(_VARIABLE, "")

    def tell_ready(self) -> None:
        """One that cannot be told is no reason not to run; it says itself what it misses."""
        if not self._path.startswith(("/", "@")):  # there is none, or only outside this machine
            return
        address = f"\0{self._path[1:]}" if self._path.startswith("@") else self._path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.setblocking(False)
                manager.sendto(b"READY=1", address)
        except OSError as error:
            log.warning("the service manager cannot be told that this is ready", socket=self._path, reason=str(error))
