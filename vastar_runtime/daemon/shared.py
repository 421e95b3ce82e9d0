"""Limits that this daemon shares with others."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, TypedDict

import trio

from vastar_runtime.config import Settings, missing_password
from vastar_runtime.errors import StartupError
from vastar_runtime.policies.allowance import AllowanceBackend, UsedBefore
from vastar_runtime.policies.token_bucket import RateLimitBackend
from vastar_runtime.shared.opening import redis_limits

from .statistics import SharedLimitsStatistics

if TYPE_CHECKING:
    from vastar_runtime.shared.redis_limits import RedisLimits

# At the end, for what Redis has not been told.
TELL_S = 1.0


def shared_limits(settings: Settings, environ: Mapping[str, str], used_before: UsedBefore) -> RedisLimits | None:
    """Those that the settings name; None: none, the daemon counts for itself.

    Raises:
        StartupError: the password is missing; or see redis_limits.
    """
    shared = settings.shared_limits
    if shared.backend is None:
        return None
    password = None if shared.password_env is None else environ.get(shared.password_env)
    if (problem := missing_password(settings, environ)) is not None:
        raise StartupError(problem)
    return redis_limits(shared, password, daemon=_name(settings.listen.socket_path), used_before=used_before)


class Backends(TypedDict, total=False):
    """What stages count with; see LocalStages."""

    rate_limits: RateLimitBackend
    allowances: AllowanceBackend


def backends(limits: RedisLimits | None) -> Backends:
    """Those of shared limits; none: the stages count for themselves."""
    return {} if limits is None else {"rate_limits": limits.rate_limits, "allowances": limits.allowances}


def statistics_of(limits: RedisLimits | None, settings: Settings) -> SharedLimitsStatistics | None:
    """Whether the others can be asked."""
    if limits is None:
        return None
    return SharedLimitsStatistics(address=limits.address, reason=limits.reason, fail=settings.shared_limits.fail)


async def all_told(limits: RedisLimits | None) -> None:
    """At the end: the others know what was used here, if they can be told soon."""
    if limits is not None:
        with trio.move_on_after(TELL_S):
            await limits.allowances.all_told()


def _name(socket_path: str) -> str:
    """Of this daemon: the same after a restart, and no other's."""
    try:
        with open("/etc/machine-id", encoding="ascii", errors="replace") as file:
            machine = file.read(64).strip()
    except OSError:
        machine = ""
    return sha256("\0".join((machine, socket.gethostname(), socket_path)).encode("utf-8", "replace")).hexdigest()[:32]
