"""What the daemon adds to one request, wherever that goes next."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from vastar_runtime.http.connection import Connection
from vastar_runtime.http.request import OutboundRequest

from .errors import CredentialError
from .injection import Injection
from .outbound import with_credentials


class RequestSecrets:
    """The credentials that apply to a request. They go where it goes first and nowhere else: not to where it is
    redirected, nor back from there.

    Args:
        injections: at most one for each header.
        request: as it is sent first.
    """

    __slots__ = ("_has_left", "_injections", "_origin", "_values")

    def __init__(self, injections: Sequence[Injection], request: OutboundRequest) -> None:
        own = {name for name, _ in request.headers}
        self._injections = [each for each in injections if each.override or each.header not in own]
        self._origin = request.url.origin
        self._has_left = False
        self._values: list[tuple[bytes, bytes, bool]] = []  # of the attempt

    def __repr__(self) -> str:
        return f"<RequestSecrets {[each.name for each in self._injections]}>"

    def try_carried(self, request: OutboundRequest, connection: Connection) -> OutboundRequest | None:
        """The request as it goes out on this connection; None: something must be waited for, or is wrong."""
        if not self._applies_to(request):
            return request
        values = [(each.header, value, each.override) for each in self._injections if (value := each.value())]
        if len(values) < len(self._injections) or request.names_other_host or not _is_private(request, connection):
            return None
        return with_credentials(request, values)

    async def fetch(self, request: OutboundRequest, progress: Callable[[str], None]) -> None:
        """Before an attempt takes anything that others could use: have what ``carried`` needs.

        Raises:
            CredentialError: Permanent; one of them cannot be had.
        """
        if not self._applies_to(request):
            return
        values = []
        for each in self._injections:
            if (value := each.value()) is None:
                progress(f"waiting for credential {each.name!r}")
                value = await each.ready()
            values.append((each.header, value, each.override))
        self._values = values

    def carried(self, request: OutboundRequest, connection: Connection) -> OutboundRequest:
        """The request as it goes out on this connection, after ``fetch``.

        Raises:
            CredentialError: Permanent; none must go over this connection, or with this request.
        """
        if not self._applies_to(request):
            return request
        name = self._injections[0].name
        if request.names_other_host:
            raise CredentialError(name, f"the request's Host is not {request.url.origin.authority}")
        if not _is_private(request, connection):
            raise CredentialError(
                name, f"over http it is for this machine only, and {connection.name} is not known to be on it"
            )
        return with_credentials(request, self._values)

    def _applies_to(self, request: OutboundRequest) -> bool:
        self._has_left |= request.url.origin != self._origin
        return bool(self._injections) and not self._has_left


def _is_private(request: OutboundRequest, connection: Connection) -> bool:
    """Whether nobody but the upstream reads what goes over it: TLS to the origin, or this very machine."""
    if request.url.origin.scheme == "https":
        return True
    return connection.is_direct and ipaddress.ip_address(connection.address or "0.0.0.0").is_loopback  # noqa: S104
