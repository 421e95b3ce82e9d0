"""What all workers hold, of what each has told."""

from __future__ import annotations

from collections.abc import Collection

from vastar_runtime.credentials import CredentialStatistics
from vastar_runtime.http.pool import PoolStatistics

from .messages import Holdings


def pool_of(told: Collection[Holdings]) -> PoolStatistics:
    """Their pools, added up."""
    return PoolStatistics(
        active=sum(held.pool.active for held in told),
        waiting=sum(held.pool.waiting for held in told),
        idle=sum(held.pool.idle for held in told),
    )


def credentials_of(told: Collection[Holdings]) -> tuple[CredentialStatistics, ...]:
    """Each credential as the worker has it that is worst off."""
    worst: dict[str, CredentialStatistics] = {}
    for held in told:
        for credential in held.credentials:
            known = worst.get(credential.name)
            if known is None or _badness(credential) > _badness(known):
                worst[credential.name] = credential
    return tuple(worst.values())


def _badness(credential: CredentialStatistics) -> tuple[bool, bool]:
    return not credential.is_usable, credential.problem is not None
