"""Connections kept alive, per tenant and origin; and how many there may be.

Nothing is shared between tenants: neither a connection (an upstream may bind authority to one) nor a limit.
"""

from __future__ import annotations

import msgspec
import trio

from .prompt_connection import PromptConnection
from .url import Origin

MAX_CONNECTIONS_PER_ORIGIN = 256
IDLE_EXPIRY_S = 90.0  # as the existing runtime's HTTP library; servers' own limits are mostly between 5 and 120
REAP_INTERVAL_S = 15.0
# Tenant names are the clients' to choose; without this bound each new one could keep a socket open.
MAX_IDLE_CONNECTIONS = 1024


class PoolKey(msgspec.Struct, frozen=True, cache_hash=True):
    """Whose connections, and where to. Looked up several times in every request."""

    tenant_id: str
    origin: Origin


class PoolStatistics(msgspec.Struct, frozen=True):
    """A snapshot: exchanges under way, requests waiting for their turn, connections idle."""

    active: int
    waiting: int
    idle: int


class Pool:
    """Slots and idle connections.

    Args:
        limit_per_origin: exchanges that one tenant may have under way with one origin.
        idle_expiry_s: how long an unused connection is kept.
        max_idle: connections kept in all; beyond it the one unused longest is closed.
    """

    def __init__(
        self,
        *,
        limit_per_origin: int = MAX_CONNECTIONS_PER_ORIGIN,
        idle_expiry_s: float = IDLE_EXPIRY_S,
        max_idle: int = MAX_IDLE_CONNECTIONS,
    ) -> None:
        self._limit_per_origin = limit_per_origin
        self._idle_expiry_s = idle_expiry_s
        self._max_idle = max_idle
        self._active: dict[PoolKey, int] = {}  # exchanges under way
        self._waiting: dict[PoolKey, trio.lowlevel.ParkingLot] = {}
        self._idle: dict[PoolKey, list[PromptConnection]] = {}  # of each the one that was used last at the end
        self._idle_count = 0

    def take_slot(self, key: PoolKey) -> bool:
        """Leave to have one more exchange, if it is to be had now; to be followed by one release_slot."""
        active = self._active.get(key, 0)
        if active >= self._limit_per_origin:
            return False
        self._active[key] = active + 1
        return True

    async def acquire_slot(self, key: PoolKey) -> None:
        """Wait for leave to have one more exchange; to be followed by one release_slot."""
        if self.take_slot(key):
            return
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = trio.lowlevel.ParkingLot()
        try:
            await waiting.park()  # until the slot of one that ended is ours
        finally:
            if not waiting and self._waiting.get(key) is waiting:
                del self._waiting[key]

    def release_slot(self, key: PoolKey) -> None:
        """Let the next one in."""
        if (waiting := self._waiting.get(key)) is not None and waiting:
            waiting.unpark()
        elif self._active[key] == 1:
            del self._active[key]
        else:
            self._active[key] -= 1

    def take_idle(self, key: PoolKey) -> PromptConnection | None:
        """The connection that was used last, or None. Whether it still lives is for the caller to see."""
        connections = self._idle.get(key)
        if connections is None:
            return None
        connection = connections.pop()
        if not connections:
            del self._idle[key]
        self._idle_count -= 1
        return connection

    def keep_idle(self, key: PoolKey, connection: PromptConnection) -> PromptConnection | None:
        """Keep a connection that can be used again; returns one that must be closed instead, if any."""
        connection.expires_at = trio.current_time() + self._idle_expiry_s
        connections = self._idle.get(key)
        if connections is None:
            self._idle[key] = [connection]
        else:
            connections.append(connection)
        self._idle_count += 1
        return self._take_oldest() if self._idle_count > self._max_idle else None

    @property
    def has_room(self) -> bool:
        """Whether one more may be kept without another one being closed for it."""
        return self._idle_count < self._max_idle

    def _take_oldest(self) -> PromptConnection:
        key = min(self._idle, key=lambda key: self._idle[key][0].expires_at)
        oldest = self._idle[key].pop(0)
        if not self._idle[key]:
            del self._idle[key]
        self._idle_count -= 1
        return oldest

    def take_expired(self, now: float) -> list[PromptConnection]:
        """Remove what has been idle for too long, for the caller to close."""
        expired: list[PromptConnection] = []
        for key, connections in list(self._idle.items()):
            lasting: list[PromptConnection] = []
            for connection in connections:
                lasts = connection.expires_at > now and not connection.has_died()
                (lasting if lasts else expired).append(connection)
            if lasting:
                self._idle[key] = lasting
            else:
                del self._idle[key]
        self._idle_count -= len(expired)
        return expired

    async def reap_forever(self) -> None:
        """Close expired connections now and then; all of them when cancelled."""
        try:
            while True:
                await trio.sleep(REAP_INTERVAL_S)
                for connection in self.take_expired(trio.current_time()):
                    await connection.close()
        finally:
            for connection in self.take_expired(float("inf")):
                await connection.close()

    def statistics(self) -> PoolStatistics:
        """What the pool holds now."""
        return PoolStatistics(
            active=sum(self._active.values()),
            waiting=sum(map(len, self._waiting.values())),
            idle=self._idle_count,
        )
