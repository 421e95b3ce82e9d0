"""Signals: SIGHUP reloads, SIGTERM or SIGINT drains, a second one of these stops at once."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Protocol

import structlog
import trio

log = structlog.get_logger()


class Stoppable(Protocol):
    """What signals are for."""

    @property
    def active_requests(self) -> int:
        """Requests in flight."""

    def stop_accepting(self) -> None:
        """Close the listeners."""

    async def drain(self) -> None:
        """Refuse new requests; return when those in flight are answered, or have had their time."""


def received_signals() -> AbstractContextManager[AsyncIterator[int]]:
    """Signals from now on; they wait until they are taken up."""
    return trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def stop_on(signals: AsyncIterator[int], daemon: Stoppable, reload: Callable[[], object]) -> None:
    """Wait for the first signal to stop, then drain until all is answered, time is up, or a second one comes.

    Args:
        reload: begins one; must not wait.
    """
    while (first := await anext(signals)) == signal.SIGHUP:
        reload()
    daemon.stop_accepting()
    log.info("draining", signal=signal.Signals(first).name, active_requests=daemon.active_requests)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_at_once_on, signals, daemon, nursery.cancel_scope)
        await daemon.drain()
        nursery.cancel_scope.cancel()


async def _stop_at_once_on(signals: AsyncIterator[int], daemon: Stoppable, drain: trio.CancelScope) -> None:
    while (second := await anext(signals)) == signal.SIGHUP:
        log.warning("configuration not reloaded", reason="draining")
    log.warning("stopping now", signal=signal.Signals(second).name, active_requests=daemon.active_requests)
    drain.cancel()
