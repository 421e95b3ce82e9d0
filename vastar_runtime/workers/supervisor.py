"""The process that opens the sockets, starts the workers, replaces those that die, and keeps limits and circuits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog
import trio
from setproctitle import getproctitle

from vastar_runtime import __version__, exact_json
from vastar_runtime.config import Examined, Policies, Settings
from vastar_runtime.config.state import not_kept, usage_path
from vastar_runtime.daemon.configuration import Configuration
from vastar_runtime.daemon.environment import fingerprints
from vastar_runtime.daemon.process import run_process
from vastar_runtime.daemon.serving import DRAIN_S
from vastar_runtime.daemon.shared import all_told, backends, shared_limits, statistics_of
from vastar_runtime.daemon.single import log_started
from vastar_runtime.daemon.statistics import Statistics, WorkerStatistics
from vastar_runtime.daemon.stopping import received_signals, stop_on
from vastar_runtime.daemon.usage import usage_log, used_before
from vastar_runtime.errors import StartupError
from vastar_runtime.http.dial import check_trust_store
from vastar_runtime.server.listener import tcp_listener, unix_listener

from .board import Board
from .holdings import credentials_of, pool_of
from .inherited import Inherited
from .messages import (
    Answer,
    AskReload,
    AskStatistics,
    Configure,
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
from .process import END_TIMEOUT_S, WorkerProcess
from .shared_stages import Desk, SharedStages

# A worker that lived for less was of no use. After two of these in a row there is a pause, doubled each time.
USEFUL_S = 10.0
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 5.0
# A reload does not wait any longer for a worker that hangs; it finds the settings when it goes on.
CONFIGURE_TIMEOUT_S = 10.0

log = structlog.get_logger()


def run(
    settings: Settings,
    examine: Callable[[], Examined],
    workers: int,
    *,
    config_file: str | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """As ``vastar_runtime.daemon.run``, in so many processes besides this one.

    Raises:
        StartupError: it cannot start; one line for a person.
    """
    check_trust_store(os.environ)
    run_process(lambda: Supervisor(settings, examine, workers, ready, config_file).run())


class Supervisor:
    """The daemon of several workers."""

    def __init__(
        self,
        settings: Settings,
        examine: Callable[[], Examined],
        workers: int,
        ready: Callable[[], None] | None = None,
        config_file: str | None = None,
    ) -> None:
        self._ready = ready
        self._number_of_workers = workers
        self._usage = usage_log(settings)
        used = used_before(self._usage)
        self._shared = shared_limits(settings, os.environ, used)
        self._stages = SharedStages(settings, used_before=used, **backends(self._shared))
        self._configuration = Configuration(settings, examine, config_file, self._apply)
        # Those that drain while their replacements serve have places, too.
        self._board = Board.create(2 * workers)
        self._workers: dict[WorkerProcess, Desk] = {}
        self._one_has_ended = trio.Event()
        self._listeners: list[trio.SocketListener] = []
        self._is_draining = False
        self._began_at_s = time.monotonic()
        self._background: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until drained.

        Raises:
            StartupError: a listener cannot be opened, or a worker does not begin to serve.
        """
        listen = self._configuration.settings.listen
        with (
            received_signals() as signals,
            unix_listener(listen.socket_path, listen.socket_mode, listen.socket_group) as unix,
        ):
            self._listeners = [unix]
            if listen.tcp_port is not None:
                self._listeners.append(await tcp_listener(listen.tcp_host, listen.tcp_port))
            async with trio.open_nursery() as nursery:
                self._background = nursery
                nursery.start_soon(self._usage.flush_forever)
                nursery.start_soon(self._stages.run)
                if self._shared is not None:
                    await nursery.start(self._shared.run)
                async with trio.open_nursery() as starting:
                    for _ in range(self._number_of_workers):
                        starting.start_soon(nursery.start, self._keep_one)
                log_started(self._configuration, self._listeners, self._number_of_workers)
                if self._ready is not None:
                    self._ready()
                reload = partial(nursery.start_soon, self._configuration.reload_on_signal, nursery)
                await stop_on(signals, self, reload)
                await self._end_workers(Stop(), END_TIMEOUT_S)
                await all_told(self._shared)
                nursery.cancel_scope.cancel()
        log.info("stopped", pid=os.getpid())

    # --- what signals ask for ---

    @property
    def active_requests(self) -> int:
        """Requests in flight, of all workers."""
        return self._board.active_requests

    def stop_accepting(self) -> None:
        """Close the listeners."""
        self._is_draining = True
        for listener in self._listeners:
            listener.socket.shutdown(trio.socket.SHUT_RDWR)  # for all workers at once, whatever they are at
            listener.socket.close()

    async def drain(self) -> None:
        """Have the workers answer what is in flight; each ends itself when its time is up."""
        await self._end_workers(Drain(), DRAIN_S + END_TIMEOUT_S)

    async def _end_workers(self, how: Drain | Stop, patience_s: float) -> None:
        for worker in self._workers:
            worker.channel.tell(how)
        with trio.move_on_after(patience_s):
            while self._workers:
                await self._one_has_ended.wait()

    # --- workers ---

    async def _keep_one(self, task_status: trio.TaskStatus[None]) -> None:
        """One worker after the other."""
        started = False
        useless = 0
        before: WorkerProcess | None = None
        while True:
            while (slot := self._free_slot()) is None:  # as many drain as are to serve
                await self._one_has_ended.wait()
            if self._is_draining:
                return
            worker = self._start_worker(slot)
            serves = await worker.serves(self._configuration.settings)
            if serves and before is not None:
                log.info("worker serves", pid=worker.pid, replaces=before.pid)
            if not started:
                if not serves:
                    await worker.leaving.wait()
                    raise StartupError(f"a worker (PID {worker.pid}) did not start: {worker.end}; see the log")
                started = True
                task_status.started()
            since = trio.current_time()
            await worker.leaving.wait()
            if not (self._is_draining or worker.was_told_to_leave):
                log.error("worker died", pid=worker.pid, reason=worker.end)
            before = worker
            useless = 0 if worker.was_told_to_leave or trio.current_time() - since > USEFUL_S else useless + 1
            if useless > 1 and not self._is_draining:
                pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** (useless - 2))
                log.warning("workers end again and again; the next one is started later", pause_s=pause_s)
                await trio.sleep(pause_s)

    def _start_worker(self, slot: int) -> WorkerProcess:
        worker = WorkerProcess(
            Inherited(
                version=__version__,
                supervisor_pid=os.getpid(),
                slot=slot,
                slots=self._board.slots,
                channel_fd=-1,
                board_fd=self._board.fd,
                listener_fds=tuple(listener.socket.fileno() for listener in self._listeners),
                title=f"{getproctitle()} (worker {slot})",
                began_at_s=self._began_at_s,
            ),
            self._answer,
            self._hear,
        )
        self._workers[worker] = self._stages.join(worker.channel)
        assert self._background is not None
        self._background.start_soon(self._attend, worker)
        return worker

    def _free_slot(self) -> int | None:
        taken = {worker.slot for worker in self._workers}
        return next((slot for slot in range(self._board.slots) if slot not in taken), None)

    async def _attend(self, worker: WorkerProcess) -> None:
        try:
            await worker.attend()
        finally:
            self._workers.pop(worker).close()
            self._board.clear(worker.slot)
            self._one_has_ended.set()
            self._one_has_ended = trio.Event()

    # --- what workers ask and tell ---

    def _answer(self, worker: WorkerProcess, question: Question) -> Answer | Coroutine[Any, Any, Answer]:
        if isinstance(question, AskReload):
            return self._reloaded()
        if isinstance(question, AskStatistics):
            return self._told_statistics()
        return self._workers[worker].answer(question)

    def _hear(self, worker: WorkerProcess, news: News) -> None:
        if isinstance(news, Draining):
            worker.was_told_to_leave = True
            worker.leaving.set()
        else:
            self._workers[worker].hear(news)

    async def _reloaded(self) -> ReloadTold:
        assert self._background is not None
        return ReloadTold(exact_json.encode(await self._configuration.reload(self._background)))

    async def _apply(self, settings: Settings, policies: Policies) -> None:
        """Where nobody is left to be asked, limits are not raised for one worker before another is told."""
        await self._stages.configure(settings, policies)
        async with trio.open_nursery() as nursery:
            for worker in self._workers:
                nursery.start_soon(self._configure, worker, settings)

    async def _configure(self, worker: WorkerProcess, settings: Settings) -> None:
        with trio.move_on_after(CONFIGURE_TIMEOUT_S) as patience:
            try:
                done = await worker.channel.ask(Configure.of(settings))
                assert isinstance(done, Done)
            except trio.BrokenResourceError:
                return
        if patience.cancelled_caught:
            log.warning("a worker does not answer; it will use the new settings when it does", pid=worker.pid)

    async def _told_statistics(self) -> StatisticsTold:
        return StatisticsTold(exact_json.encode(await self.statistics()))

    async def statistics(self) -> Statistics:
        """What the daemon holds and does now."""
        told: dict[WorkerProcess, Holdings] = {}

        async def ask(worker: WorkerProcess) -> None:
            if (answer := await worker.holdings()) is not None:
                told[worker] = answer

        async with trio.open_nursery() as nursery:
            for worker in self._workers:
                nursery.start_soon(ask, worker)
        return Statistics(
            config_file=self._configuration.file,
            configured_at_unix_s=self._configuration.read_at_unix_s,
            workers=tuple(
                WorkerStatistics(
                    pid=worker.pid,
                    connections=self._board.connections_of(worker.slot),
                    active_requests=self._board.requests_of(worker.slot),
                    answers=worker in told,
                )
                for worker in sorted(self._workers, key=lambda worker: worker.slot)
            ),
            pool=pool_of(told.values()),
            policies=await self._stages.statistics(),
            credentials=credentials_of(told.values()),
            shared_limits=statistics_of(self._shared, self._configuration.settings),
            workers_wanted=self._number_of_workers,
            environment=fingerprints(os.environ),
            listen=self._configuration.settings.listen,
            usage_file=usage_path(self._configuration.settings, os.environ),
            usage_not_kept=not_kept(self._configuration.settings, os.environ),
            usage_problem=next(
                (held.usage_problem for held in told.values() if held.usage_problem is not None), self._usage.problem
            ),
            reload_refused=self._configuration.refused,
        )
