"""The daemon put together: start, ready, serve, reload, drain, stop.

The rooms: ``single`` (all of it in one process), and what it is made of, which ``vastar_runtime.workers`` shares:
``process`` (the log, the event loop, how it ends), ``serving`` (accepting, sessions, draining), ``configuration``
(reading the settings again), ``stopping`` (signals).
"""

from .serving import DRAIN_S
from .single import Daemon, run

__all__ = ["DRAIN_S", "Daemon", "run"]
