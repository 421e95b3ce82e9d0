"""The daemon put together: start, ready, serve, drain, stop."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

import msgspec
import structlog
import trio

from connector_sdk.wire import ErrorClass

from . import __version__
from .config import Examined, Policies, Settings, needs_restart
from .connectors import Services
from .connectors.base import Reloaded
from .errors import RequestError, RuntimeFault
from .http.dial import Dialer, check_trust_store
from .http.pool import Pool, PoolStatistics
from .http.proxy import Proxies
from .http.resolver import Resolver
from .policies.pipeline import Pipeline, PipelineStatistics
from .server.listener import tcp_listener, unix_listener
from .server.memory import MAX_HELD_BYTES_IN_ALL, MemoryBudget
from .server.session import Health, Session
from .telemetry import log as logging
from .telemetry.background_writer import BackgroundWriter, write_all

DRAIN_S = 30.0
# A file of a mebibyte may hold more of them than an answer may.
MAX_TOLD_MISTAKES = 100

log = structlog.get_logger()


class Statistics(msgspec.Struct, frozen=True):
    """A snapshot of what the daemon holds and does.

    Attributes:
        config_file: absolute path; None: there is none, and the defaults hold.
        configured_at_unix_s: when that was read, at the start or at the last reload that changed anything.
    """

    config_file: str | None
    configured_at_unix_s: float
    pool: PoolStatistics
    policies: PipelineStatistics


def run(
    settings: Settings,
    examine: Callable[[], Examined],
    *,
    config_file: str | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Run the daemon until it is told to stop (SIGTERM or SIGINT drain it, a second one stops it at once).

    Args:
        examine: reads the settings again; called in a thread, on SIGHUP and when the daemon's user asks for it.
        config_file: where the settings come from.
        ready: called once connections are accepted.

    Raises:
        StartupError: it cannot start; one line for a person.
    """
    check_trust_store(os.environ)
    with BackgroundWriter(partial(write_all, sys.stderr.fileno())) as writer:
        logging.configure(writer)
        _raise_descriptor_limit()
        try:
            trio.run(Daemon(settings, examine, ready, config_file).run, strict_exception_groups=True)
        except* RuntimeFault as group:
            fault: BaseException = group
            while isinstance(fault, BaseExceptionGroup):
                fault = fault.exceptions[0]
            raise fault from None


class Daemon:
    """One daemon: its listeners, its sessions, and the services that requests share."""

    def __init__(
        self,
        settings: Settings,
        examine: Callable[[], Examined],
        ready: Callable[[], None] | None = None,
        config_file: str | None = None,
    ) -> None:
        self._settings = settings
        self._config_file = config_file
        self._configured_at_unix_s = time.time()
        self._examine = examine
        self._ready = ready
        self._pool = Pool()
        self._services = Services(self._pool, Dialer(Proxies(os.environ)), control=self)
        self._pipeline = Pipeline(settings)
        self._memory = MemoryBudget(MAX_HELD_BYTES_IN_ALL)
        self._sessions: set[Session] = set()
        self._is_draining = False
        self._began_at = time.monotonic()
        self._all_gone = trio.Event()
        self._reloading = trio.Lock()
        self._background: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until drained.

        Raises:
            StartupError: a listener cannot be opened.
        """
        listen = self._settings.listen
        trio.socket.set_custom_hostname_resolver(Resolver())
        with (
            trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals,
            unix_listener(listen.socket_path, listen.socket_mode, listen.socket_group) as unix,
        ):
            listeners = [unix]
            if listen.tcp_port is not None:
                listeners.append(await tcp_listener(listen.tcp_port))
            async with trio.open_nursery() as nursery:
                self._background = nursery
                nursery.start_soon(self._pool.reap_forever)
                accepting = trio.CancelScope()
                await nursery.start(self._accept, accepting, listeners, nursery)
                log.info(
                    "started",
                    pid=os.getpid(),
                    version=__version__,
                    socket=listen.socket_path,
                    **({"config": self._config_file} if self._config_file else {}),
                    **({"tcp_port": listeners[1].socket.getsockname()[1]} if len(listeners) > 1 else {}),
                )
                if self._ready is not None:
                    self._ready()
                await self._stop_on(signals, accepting, nursery)
                nursery.cancel_scope.cancel()
        log.info("stopped", pid=os.getpid())

    async def _accept(
        self,
        accepting: trio.CancelScope,
        listeners: list[trio.SocketListener],
        sessions: trio.Nursery,
        task_status: trio.TaskStatus[list[trio.SocketListener]],
    ) -> None:
        with accepting:
            await trio.serve_listeners(self._serve, listeners, handler_nursery=sessions, task_status=task_status)

    async def _serve(self, stream: trio.SocketStream) -> None:
        session = Session(
            stream,
            self._services,
            self._pipeline,
            health=self._health,
            memory=MemoryBudget(parent=self._memory),
        )
        self._sessions.add(session)
        if self._is_draining:  # it was accepted in the very moment of the signal
            session.drain()
        try:
            await session.run()
        except Exception:
            # A mistake of ours on one connection must not end the others.
            log.exception("internal error; the connection is closed")
        finally:
            self._sessions.discard(session)
            if not self._sessions:
                self._all_gone.set()

    async def _stop_on(self, signals: AsyncIterator[int], accepting: trio.CancelScope, nursery: trio.Nursery) -> None:
        """Wait for the first signal to stop, then drain until all is answered, time is up, or a second one comes."""
        while (first := await anext(signals)) == signal.SIGHUP:
            nursery.start_soon(self._reload_on_signal)
        self._is_draining = True
        accepting.cancel()
        log.info("draining", signal=signal.Signals(first).name, active_requests=self._active_requests())
        self._all_gone = trio.Event()
        if not self._sessions:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_at_once_on, signals, nursery.cancel_scope)
            for session in list(self._sessions):
                session.drain()
            with trio.move_on_after(DRAIN_S) as drain:
                await self._all_gone.wait()
            if drain.cancelled_caught:
                log.warning("drain took too long", limit_s=DRAIN_S, active_requests=self._active_requests())
            nursery.cancel_scope.cancel()

    async def _stop_at_once_on(self, signals: AsyncIterator[int], drain: trio.CancelScope) -> None:
        while (second := await anext(signals)) == signal.SIGHUP:
            log.warning("configuration not reloaded", reason="draining")
        log.warning("stopping now", signal=signal.Signals(second).name, active_requests=self._active_requests())
        drain.cancel()

    # --- what its own user may ask and tell it ---

    def statistics(self) -> Statistics:
        """What the daemon holds and does now."""
        return Statistics(
            config_file=self._config_file,
            configured_at_unix_s=self._configured_at_unix_s,
            pool=self._pool.statistics(),
            policies=self._pipeline.statistics(),
        )

    async def reload(self) -> Reloaded:
        """Read the settings again, all of them, and use them from the next request on if they are valid. It is done,
        and logged, even if whoever asked for it has gone."""
        assert self._background is not None
        reloaded: list[Reloaded] = []
        ended = trio.Event()

        async def run() -> None:
            try:
                reloaded.append(await self._reload())
            except Exception:
                # A mistake of ours: nothing has changed, and nobody's request is to suffer for it.
                log.exception("internal error; configuration not reloaded")
            finally:
                ended.set()

        self._background.start_soon(run)
        await ended.wait()
        if not reloaded:
            raise RequestError(ErrorClass.PERMANENT, "internal error of the runtime; its log has the details")
        return reloaded[0]

    # --- inside ---

    async def _reload_on_signal(self) -> None:
        with contextlib.suppress(RequestError):  # it is in the log
            await self.reload()

    async def _reload(self) -> Reloaded:
        async with self._reloading:  # the file that was read last is the one that holds
            # The file's disk may hang; that must not keep the daemon from ending.
            examined, policies = await trio.to_thread.run_sync(self._read_settings, abandon_on_cancel=True)
            mistakes = tuple(mistake.text for mistake in examined.mistakes[:MAX_TOLD_MISTAKES])
            later: tuple[str, ...] = ()
            if mistakes:
                count = len(examined.mistakes)
                if count > MAX_TOLD_MISTAKES:
                    mistakes += (f"{count - MAX_TOLD_MISTAKES} more mistakes: vastar-runtime config check tells all",)
                log.error("configuration not reloaded", file=examined.file, mistakes=count, error=mistakes[0])
            else:
                later = tuple(needs_restart(self._settings, examined.settings))
                self._settings = msgspec.structs.replace(examined.settings, listen=self._settings.listen)
                self._config_file, self._configured_at_unix_s = examined.file, time.time()
                await self._pipeline.configure(self._settings, policies)
                log.info(
                    "configuration reloaded",
                    file=examined.file,
                    settings=examined.settings_in_file,
                    scopes=len(self._settings.scopes),
                    **({"needs_restart": ",".join(later)} if later else {}),
                )
            return Reloaded(
                file=examined.file,
                mistakes=mistakes,
                settings=examined.settings_in_file,
                scopes=len(self._settings.scopes),
                needs_restart=later,
            )

    def _read_settings(self) -> tuple[Examined, Policies]:
        examined = self._examine()
        return examined, Policies(examined.settings)

    def _active_requests(self) -> int:
        return sum(session.active_requests for session in self._sessions)

    def _health(self) -> Health:
        return Health(
            version=__version__,
            uptime_ms=int((time.monotonic() - self._began_at) * 1000),
            active_requests=self._active_requests(),
            is_draining=self._is_draining,
        )


def _raise_descriptor_limit() -> None:
    """Every client and every upstream connection is a descriptor; the usual soft limit of 1,024 is far too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as error:
            log.warning("the limit of open files stays", limit=soft, reason=str(error))
