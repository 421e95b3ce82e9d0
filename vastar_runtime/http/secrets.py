"""What the credentials room does for an exchange."""

from __future__ import annotations

from typing import Protocol

from .connection import Connection, Progress
from .request import OutboundRequest


class Secrets(Protocol):
    """What is added to a request on its way out: see credentials.request_secrets."""

    def try_carried(self, request: OutboundRequest, connection: Connection) -> OutboundRequest | None:
        """The request as it goes out on this connection; None: something must be waited for, or is wrong."""

    async def fetch(self, request: OutboundRequest, progress: Progress) -> None:
        """Have what ``carried`` needs; before an attempt takes anything that others could use.

        Raises:
            RequestError: Permanent; it cannot be had.
        """

    def carried(self, request: OutboundRequest, connection: Connection) -> OutboundRequest:
        """The request as it goes out on this connection, after ``fetch``.

        Raises:
            RequestError: Permanent; it must not go there.
        """
