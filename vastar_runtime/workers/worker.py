"""A worker: serves clients as the daemon in one process does, and ends with its supervisor."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import msgspec
import structlog
import trio
from setproctitle import setproctitle

from vastar_runtime import __version__, exact_json
from vastar_runtime.config import Policies, Settings
from vastar_runtime.connectors import Services
from vastar_runtime.connectors.base import Reloaded
from vastar_runtime.credentials import Credentials
from vastar_runtime.daemon.process import run_process, use_resolver
from vastar_runtime.daemon.serving import Serving
from vastar_runtime.daemon.stopping import received_signals
from vastar_runtime.daemon.usage import usage_log
from vastar_runtime.http.dial import Dialer
from vastar_runtime.http.pool import Pool
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.metering.ledger import UsageLog
from vastar_runtime.metering.metering import Metering
from vastar_runtime.policies.pipeline import Pipeline
from vastar_runtime.server.health import Health
from vastar_runtime.telemetry.background_writer import write_lines

from .accepting import SharedListener
from .board import Board, SharedMemoryBudget, Slot
from .channel import Channel
from .inherited import Inherited
from .messages import (
    Answer,
    AskHoldings,
    AskReload,
    AskStatistics,
    Circuits,
    Configure,
    Count,
    Done,
    Drain,
    Draining,
    Holdings,
    News,
    Question,
    ReloadTold,
    StatisticsTold,
    Stop,
)
from .remote_stages import RemoteStages

_PR_SET_PDEATHSIG = 1  # prctl(2)

log = structlog.get_logger()


def main(argument: str) -> None:
    """The program of a worker's process.

    Args:
        argument: Inherited, as JSON.
    """
    inherited = msgspec.json.decode(argument, type=Inherited)
    if inherited.version != __version__:
        sys.exit(f"this is version {__version__}, the daemon is {inherited.version}: vastar-runtime restart")
    _end_with(inherited.supervisor_pid)
    setproctitle(inherited.title)
    run_process(Worker(inherited).run, write_lines)


def _end_with(supervisor_pid: int) -> None:
    """Whatever this process is at when its supervisor has gone, it must not go on: it would keep the socket."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor_pid:  # gone before that
        sys.exit(1)


class Worker:
    """One process of those that serve."""

    def __init__(self, inherited: Inherited) -> None:
        board = Board(inherited.board_fd, inherited.slots)
        self._inherited = inherited
        self._board = board
        self._slot = Slot(board, inherited.slot)
        self._channel = Channel(socket.socket(fileno=inherited.channel_fd), self._answer, self._hear)
        self._pool = Pool()
        self._usage: UsageLog | None = None  # until there are settings
        self._metering: Metering | None = None
        self._credentials = Credentials(os.environ)
        self._latest_settings: Settings | None = None
        self._used_settings: Settings | None = None
        self._configuring = trio.Lock()
        self._stages = RemoteStages(Settings(), self._channel)
        self._pipeline = Pipeline(stages=self._stages)
        self._serving: Serving | None = None
        self._nursery: trio.Nursery | None = None
        self._is_draining = False

    async def run(self) -> None:
        """Serve from the first settings until drained, or until the supervisor has gone."""
        use_resolver()
        with received_signals() as signals:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._talk)
                nursery.start_soon(self._drain_on, signals)
                nursery.start_soon(self._pool.reap_forever)
                nursery.start_soon(self._credentials.run)

    async def _talk(self) -> None:
        await self._channel.run()
        self._stop()

    def _stop(self) -> None:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    async def _drain_on(self, signals: AsyncIterator[int]) -> None:
        """Somebody else than the supervisor ends this worker: it is replaced."""
        was_told = False
        async for number in signals:
            if number == signal.SIGHUP:  # the supervisor reloads
                continue
            log.info("worker draining", pid=os.getpid(), signal=signal.Signals(number).name)
            if was_told:
                self._stop()
            was_told = True  # by a signal: one that comes after the supervisor's word is still the first
            self._channel.tell(Draining())
            self._begin_drain()

    def _begin_drain(self) -> None:
        assert self._nursery is not None
        if not self._is_draining:
            self._is_draining = True
            self._nursery.start_soon(self._drain)

    async def _drain(self) -> None:
        if self._serving is not None:
            self._slot.accepts(False)
            self._serving.stop_accepting()
            await self._serving.drain()
        self._stop()

    # --- what the supervisor asks and tells ---

    def _answer(self, question: Question) -> Answer | Coroutine[Any, Any, Answer]:
        if isinstance(question, Configure):
            self._latest_settings = question.settings
            return self._configure()
        if isinstance(question, AskHoldings):
            usage_problem = None if self._usage is None else self._usage.problem
            return Holdings(self._pool.statistics(), self._credentials.statistics(), usage_problem)
        assert isinstance(question, Count)
        return self._stages.answer(question)

    def _hear(self, news: News) -> None:
        if isinstance(news, Drain):
            self._begin_drain()
        elif isinstance(news, Stop):
            self._stop()
        else:
            assert isinstance(news, Circuits)
            self._stages.hear(news)

    async def _configure(self) -> Done:
        """Use the settings that came last; serve, if they are the first."""
        async with self._configuring:
            settings = self._latest_settings
            assert settings is not None
            assert self._nursery is not None
            if settings is not self._used_settings:
                # For thousands of scopes it takes a while.
                policies = await trio.to_thread.run_sync(Policies, settings)
                await self._credentials.configure(settings.credentials)
                await self._pipeline.configure(settings, policies)
                if self._metering is None:
                    self._usage = usage_log(settings)
                    self._nursery.start_soon(self._usage.flush_forever)
                    self._metering = Metering(self._usage)
                    self._nursery.start_soon(self._metering.record_running)
                self._metering.configure(settings)
                self._used_settings = settings
                if self._serving is None:
                    await self._serve(self._metering)
        return Done()

    async def _serve(self, metering: Metering) -> None:
        assert self._nursery is not None
        self._serving = Serving(
            Services(
                self._pool,
                Dialer(Proxies(os.environ)),
                control=self,
                metering=metering,
                credentials=self._credentials,
            ),
            self._pipeline,
            health=self._health,
            memory=SharedMemoryBudget(self._board, self._slot),
            on_sessions=self._slot.connections,
            on_requests=self._slot.requests,
        )
        listeners = [
            SharedListener(socket.socket(fileno=fd), self._slot.is_ahead_by) for fd in self._inherited.listener_fds
        ]
        await self._nursery.start(self._serving.accept, listeners, self._nursery)
        self._slot.accepts(True)

    # --- what clients ask of the whole daemon ---

    async def statistics(self) -> msgspec.Raw:
        """The supervisor's, as JSON."""
        told = await self._channel.ask(AskStatistics())
        assert isinstance(told, StatisticsTold)
        return msgspec.Raw(told.json)

    async def reload(self) -> Reloaded:
        """The supervisor reloads, and tells all workers."""
        told = await self._channel.ask(AskReload())
        assert isinstance(told, ReloadTold)
        return exact_json.decode(told.json, Reloaded)

    def _health(self) -> Health:
        return Health(
            version=__version__,
            uptime_ms=int((time.monotonic() - self._inherited.began_at_s) * 1000),
            active_requests=self._board.active_requests,
            is_draining=self._is_draining,
        )
