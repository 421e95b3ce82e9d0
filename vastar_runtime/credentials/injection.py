"""One credential that applies to a request."""

from __future__ import annotations

from vastar_runtime.config import Credential

from .source import Source


class Injection:
    """What is put into a request, once it is there.

    Attributes:
        name: the credential's.
        header: the field's name, in lower case.
        override: it replaces the request's own.
    """

    __slots__ = ("_before", "_source", "header", "name", "override")

    def __init__(self, credential: Credential, source: Source) -> None:
        self.name = credential.name
        self.header = credential.header.encode()
        self.override = credential.override
        self._before = _before(credential)
        self._source = source

    def __repr__(self) -> str:
        return f"<Injection {self.name!r}: {self.header.decode()}>"

    def value(self) -> bytes | None:
        """The field's whole value, if it can be had now; only in a task."""
        secret = self._source.current()
        return None if secret is None else self._before + secret.reveal()

    async def ready(self) -> bytes:
        """The field's whole value; waits for a command's first output, within that command's time.

        Raises:
            CredentialError: Permanent; why it cannot be had.
        """
        return self._before + (await self._source.ready()).reveal()


def _before(credential: Credential) -> bytes:
    scheme = credential.scheme
    if scheme == "auto":
        scheme = "Bearer" if credential.header == "authorization" else None
    return b"" if scheme is None else scheme.encode() + b" "
