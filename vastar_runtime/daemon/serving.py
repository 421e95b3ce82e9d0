"""Clients' connections from their accepting to the end of the drain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
import trio

from vastar_runtime.connectors import Services
from vastar_runtime.policies.pipeline import Pipeline
from vastar_runtime.server.health import Health
from vastar_runtime.server.memory import MemoryBudget
from vastar_runtime.server.session import Session

DRAIN_S = 30.0

log = structlog.get_logger()


class Serving:
    """The sessions of this process.

    Args:
        health: what a HealthCheck is answered with.
        memory: what all sessions together may hold.
        on_sessions: told how many there are, at every change.
        on_requests: told +1 and -1 as requests begin and end.
    """

    def __init__(
        self,
        services: Services,
        pipeline: Pipeline,
        *,
        health: Callable[[], Health],
        memory: MemoryBudget,
        on_sessions: Callable[[int], None] | None = None,
        on_requests: Callable[[int], None] | None = None,
    ) -> None:
        self.is_draining = False
        self._services = services
        self._pipeline = pipeline
        self._health = health
        self._memory = memory
        self._on_sessions = on_sessions
        self._on_requests = on_requests
        self._sessions: set[Session] = set()
        self._accepting = trio.CancelScope()
        self._all_gone = trio.Event()

    @property
    def active_requests(self) -> int:
        """Requests in flight, of all sessions."""
        return sum(session.active_requests for session in self._sessions)

    @property
    def sessions(self) -> int:
        """Connections of clients."""
        return len(self._sessions)

    async def accept(
        self,
        listeners: Sequence[trio.abc.Listener[trio.SocketStream]],
        sessions: trio.Nursery,
        task_status: trio.TaskStatus[object],
    ) -> None:
        """Accept connections until ``stop_accepting``; the listeners are closed then.

        Args:
            sessions: the tasks that serve them.
            task_status: told once connections are accepted.
        """
        with self._accepting:
            await trio.serve_listeners(self.serve, list(listeners), handler_nursery=sessions, task_status=task_status)

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, to its end."""
        session = Session(
            stream,
            self._services,
            self._pipeline,
            health=self._health,
            memory=MemoryBudget(parent=self._memory),
            on_requests=self._on_requests,
        )
        self._sessions.add(session)
        self._counted()
        if self.is_draining:  # it was accepted in the very moment of the signal
            session.drain()
        try:
            await session.run()
        except Exception:
            # A mistake of ours on one connection must not end the others.
            log.exception("internal error; the connection is closed")
        finally:
            self._sessions.discard(session)
            self._counted()
            if not self._sessions:
                self._all_gone.set()

    def stop_accepting(self) -> None:
        """Close the listeners; what is connected goes on."""
        self.is_draining = True
        self._accepting.cancel()

    async def drain(self) -> None:
        """Refuse new requests; returns when those in flight are answered, or after DRAIN_S."""
        self._all_gone = trio.Event()
        if not self._sessions:
            return
        for session in list(self._sessions):
            session.drain()
        with trio.move_on_after(DRAIN_S) as drain:
            await self._all_gone.wait()
        if drain.cancelled_caught:
            log.warning("drain took too long", limit_s=DRAIN_S, active_requests=self.active_requests)

    def _counted(self) -> None:
        if self._on_sessions is not None:
            self._on_sessions(len(self._sessions))
