"""What the daemon tells its user about itself."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vastar_runtime.config import Listen
from vastar_runtime.credentials import CredentialStatistics
from vastar_runtime.http.pool import PoolStatistics
from vastar_runtime.policies.stages import PipelineStatistics


class WorkerStatistics(msgspec.Struct, frozen=True):
    """One process that serves: what it has now. ``answers``: it has said so itself, just now; else it may hang."""

    pid: int
    connections: int
    active_requests: int
    answers: bool = True


class SharedLimitsStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Where limits are shared.

    Attributes:
        address: of Redis.
        reason: why it cannot be asked; None: it can.
        fail: what holds meanwhile.
    """

    address: str
    reason: str | None
    fail: str


class Statistics(msgspec.Struct, frozen=True):
    """A snapshot of what the daemon holds and does.

    Attributes:
        config_file: absolute path; None: there is none, and the defaults hold.
        configured_at_unix_s: when that was read, at the start or at the last reload that changed anything.
        workers: the processes that serve; the daemon itself, where it is one process.
        credentials: in the order of the file; of several workers each as the one has it that is worst off.
        shared_limits: None: the daemon counts for itself.
        workers_wanted: how many there are to be; fewer while one that ended has not been replaced yet.
        pool: of all of them together.
        policies: one for all of them.
        environment: see ``environment.fingerprints``.
        listen: what it was started with, by file, variables and flags.
        usage_file: absolute path; None: usage is not kept.
        usage_not_kept: why there is none; None: there is one.
        usage_problem: why usage is not written at present, by one of the workers at least; None: it is.
        reload_refused: why the last reload changed nothing, its first mistake; None: it was used, or there was none.
    """

    config_file: str | None
    configured_at_unix_s: float
    workers: tuple[WorkerStatistics, ...]
    pool: PoolStatistics
    policies: PipelineStatistics
    credentials: tuple[CredentialStatistics, ...] = ()
    shared_limits: SharedLimitsStatistics | None = None
    workers_wanted: int = 1
    environment: Mapping[str, str] = {}
    listen: Listen = Listen()
    usage_file: str | None = None
    usage_not_kept: str | None = None
    usage_problem: str | None = None
    reload_refused: str | None = None
