"""DNS lookups in threads, so few a tenant that one whose names hang leaves the others their own.

A lookup cannot be stopped: its thread is held until the system's resolver gives up, however long ago the request was
cancelled.
"""

from __future__ import annotations

import socket
from contextvars import ContextVar
from typing import Any

import trio

MAX_LOOKUPS = 128
MAX_LOOKUPS_PER_TENANT = 16

looking_up_for: ContextVar[str] = ContextVar("looking_up_for", default="")
"""The tenant of the request that this task runs."""


class Resolver(trio.abc.HostnameResolver):
    """The system's resolver. Install with ``trio.socket.set_custom_hostname_resolver``."""

    def __init__(self) -> None:
        self._all = trio.CapacityLimiter(MAX_LOOKUPS)
        self._by_tenant: dict[str, trio.CapacityLimiter] = {}

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """As socket.getaddrinfo."""
        limiter: Any = _Limiter(self._all, self._by_tenant, looking_up_for.get())
        return await trio.to_thread.run_sync(
            socket.getaddrinfo, host, port, family, type, proto, flags, abandon_on_cancel=True, limiter=limiter
        )

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """As socket.getnameinfo; part of trio's interface."""
        return await trio.to_thread.run_sync(socket.getnameinfo, sockaddr, flags, abandon_on_cancel=True)


class _Limiter:
    """Both limits as one; trio gives them back when the thread has ended."""

    def __init__(
        self, all_tenants: trio.CapacityLimiter, by_tenant: dict[str, trio.CapacityLimiter], name: str
    ) -> None:
        self._all = all_tenants
        self._by_tenant = by_tenant
        self._name = name

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        # Not before: a request that is cancelled already never gets here, and would leave its tenant's name.
        self._own = self._by_tenant.setdefault(self._name, trio.CapacityLimiter(MAX_LOOKUPS_PER_TENANT))
        try:
            await self._own.acquire_on_behalf_of(borrower)
            try:
                await self._all.acquire_on_behalf_of(borrower)
            except BaseException:
                self._own.release_on_behalf_of(borrower)
                raise
        except BaseException:
            self._forget()
            raise

    def release_on_behalf_of(self, borrower: object) -> None:
        self._all.release_on_behalf_of(borrower)
        self._own.release_on_behalf_of(borrower)
        self._forget()

    def _forget(self) -> None:
        """Tenants' names are the clients' to choose: none is kept without need."""
        statistics = self._own.statistics()
        if not statistics.borrowed_tokens and not statistics.tasks_waiting:
            self._by_tenant.pop(self._name, None)
