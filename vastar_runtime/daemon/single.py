"""The daemon in one process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

import structlog
import trio

from vastar_runtime import __version__
from vastar_runtime.config import Examined, Listen, Policies, Settings
from vastar_runtime.config.state import not_kept, usage_path
from vastar_runtime.connectors import Services
from vastar_runtime.connectors.base import Reloaded
from vastar_runtime.credentials import Credentials
from vastar_runtime.http.dial import Dialer, check_trust_store
from vastar_runtime.http.pool import Pool
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.metering.metering import Metering
from vastar_runtime.policies.pipeline import Pipeline
from vastar_runtime.policies.stages import LocalStages
from vastar_runtime.server.accepting import EagerListener
from vastar_runtime.server.health import Health
from vastar_runtime.server.listener import tcp_listener, unix_listener
from vastar_runtime.server.memory import MAX_HELD_BYTES_IN_ALL, MemoryBudget

from .configuration import Configuration
from .environment import fingerprints
from .process import run_process, use_resolver
from .serving import Serving
from .shared import all_told, backends, shared_limits, statistics_of
from .statistics import Statistics, WorkerStatistics
from .stopping import received_signals, stop_on
from .usage import usage_log, used_before

log = structlog.get_logger()


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
    run_process(lambda: Daemon(settings, examine, ready, config_file).run())


class Daemon:
    """One daemon: its listeners, its sessions, and the services that requests share."""

    def __init__(
        self,
        settings: Settings,
        examine: Callable[[], Examined],
        ready: Callable[[], None] | None = None,
        config_file: str | None = None,
    ) -> None:
        self._ready = ready
        self._pool = Pool()
        self._usage = usage_log(settings)
        self._metering = Metering(self._usage)
        self._metering.configure(settings)
        self._credentials = Credentials(os.environ)
        used = used_before(self._usage)
        self._shared = shared_limits(settings, os.environ, used)
        stages = LocalStages(settings, trio.current_time, used_before=used, **backends(self._shared))
        self._pipeline = Pipeline(settings, stages=stages)
        self._configuration = Configuration(settings, examine, config_file, self._apply)
        self._serving = Serving(
            Services(
                self._pool,
                Dialer(Proxies(os.environ)),
                control=self,
                metering=self._metering,
                credentials=self._credentials,
            ),
            self._pipeline,
            health=self._health,
            memory=MemoryBudget(MAX_HELD_BYTES_IN_ALL),
        )
        self._began_at = time.monotonic()
        self._background: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until drained.

        Raises:
            StartupError: a listener cannot be opened.
        """
        listen = self._configuration.settings.listen
        use_resolver()
        with (
            received_signals() as signals,
            unix_listener(listen.socket_path, listen.socket_mode, listen.socket_group) as unix,
        ):
            listeners = [unix]
            if listen.tcp_port is not None:
                listeners.append(await tcp_listener(listen.tcp_host, listen.tcp_port))
            async with trio.open_nursery() as nursery:
                self._background = nursery
                nursery.start_soon(self._pool.reap_forever)
                nursery.start_soon(self._usage.flush_forever)
                nursery.start_soon(self._metering.record_running)
                if self._shared is not None:
                    await nursery.start(self._shared.run)
                await self._credentials.configure(self._configuration.settings.credentials)
                nursery.start_soon(self._credentials.run)
                await nursery.start(self._serving.accept, [EagerListener(each) for each in listeners], nursery)
                log_started(self._configuration, listeners)
                if self._ready is not None:
                    self._ready()
                reload = partial(nursery.start_soon, self._configuration.reload_on_signal, nursery)
                await stop_on(signals, self._serving, reload)
                await all_told(self._shared)
                nursery.cancel_scope.cancel()
        log.info("stopped", pid=os.getpid())

    # --- what its own user may ask and tell it ---

    async def statistics(self) -> Statistics:
        """What the daemon holds and does now."""
        return Statistics(
            config_file=self._configuration.file,
            configured_at_unix_s=self._configuration.read_at_unix_s,
            workers=(
                WorkerStatistics(
                    pid=os.getpid(),
                    connections=self._serving.sessions,
                    active_requests=self._serving.active_requests,
                ),
            ),
            pool=self._pool.statistics(),
            policies=self._pipeline.statistics(),
            credentials=self._credentials.statistics(),
            shared_limits=statistics_of(self._shared, self._configuration.settings),
            environment=fingerprints(os.environ),
            listen=self._configuration.settings.listen,
            usage_file=usage_path(self._configuration.settings, os.environ),
            usage_not_kept=not_kept(self._configuration.settings, os.environ),
            usage_problem=self._usage.problem,
            reload_refused=self._configuration.refused,
        )

    async def reload(self) -> Reloaded:
        """See Configuration.reload."""
        assert self._background is not None
        return await self._configuration.reload(self._background)

    # --- inside ---

    async def _apply(self, settings: Settings, policies: Policies) -> None:
        self._metering.configure(settings)
        await self._credentials.configure(settings.credentials)
        await self._pipeline.configure(settings, policies)

    def _health(self) -> Health:
        return Health(
            version=__version__,
            uptime_ms=int((time.monotonic() - self._began_at) * 1000),
            active_requests=self._serving.active_requests,
            is_draining=self._serving.is_draining,
        )


def log_started(configuration: Configuration, listeners: list[trio.SocketListener], workers: int = 1) -> None:
    """The line that says that connections are accepted, and where.

    Args:
        listeners: the Unix one, and the TCP one if there is one.
    """
    listen = configuration.settings.listen
    log.info(
        "started",
        pid=os.getpid(),
        version=__version__,
        socket=listen.socket_path,
        **({"config": configuration.file} if configuration.file else {}),
        **({"tcp_port": listeners[1].socket.getsockname()[1]} if len(listeners) > 1 else {}),
        **({"tcp_host": listen.tcp_host} if len(listeners) > 1 and listen.tcp_host != Listen().tcp_host else {}),
        **({"workers": workers} if workers > 1 else {}),
    )
