"""What every process of the daemon begins with: its log, its limit of open files, its event loop."""

from __future__ import annotations

import gc
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import trio

from vastar_runtime.errors import RuntimeFault
from vastar_runtime.http.resolver import Resolver
from vastar_runtime.telemetry import log as logging
from vastar_runtime.telemetry.background_writer import BackgroundWriter, write_all

# More of them than were let go, since the last look: some MiB at most.
COLLECTED_OBJECTS = 10_000

log = structlog.get_logger()


def run_process(main: Callable[[], Awaitable[None]], write: Callable[[int, bytes], object] = write_all) -> None:
    """Run this in an event loop, with a log that goes to standard error; to nobody where that was closed.

    Args:
        write: how lines get there: a file descriptor, and whole lines.

    Raises:
        RuntimeFault: the first one that ``main`` ended with, bare.
    """
    # Closed, its number may be another file's by now, and a client's socket at that.
    sink = _nowhere if sys.stderr is None else partial(write, sys.stderr.fileno())
    with BackgroundWriter(sink) as writer:
        logging.configure(writer)
        # Ignored by whoever started this, it would keep from us how a credential's command has ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _raise_descriptor_limit()
        _spare_the_collector()
        fault: BaseException | None = None
        try:
            trio.run(main, strict_exception_groups=True)
        except* RuntimeFault as group:
            fault = group
            while isinstance(fault, BaseExceptionGroup):
                fault = fault.exceptions[0]
        if fault is not None:  # raised in there, it would come out in a group again (Python 3.11.2)
            raise fault from None


def _nowhere(_data: bytes) -> None:
    """Takes lines that nobody is to be told."""


def _spare_the_collector() -> None:
    """What was imported stays for good, and requests leave hardly any cycles behind: to look through all of it at every
    few hundred objects took a seventh of a busy daemon's time, and each time all requests waited."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_OBJECTS)


def use_resolver() -> None:
    """Host names are looked up our way in this event loop."""
    trio.socket.set_custom_hostname_resolver(Resolver())


def _raise_descriptor_limit() -> None:
    """Every client and every upstream connection is a descriptor; the usual soft limit of 1,024 is far too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as error:
            log.warning("the limit of open files stays", limit=soft, reason=str(error))
