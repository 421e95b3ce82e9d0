"""What a snapshot of the admission says."""

from __future__ import annotations

import msgspec

# Tenants that a snapshot lists; and how much of a name, which may be of any length.
MAX_LISTED_TENANTS = 100
MAX_NAME_CHARACTERS = 64


class TenantAdmission(msgspec.Struct, frozen=True):
    """One tenant whose next request would wait or be refused.

    Attributes:
        tenant_id: its first 64 characters.
        limit: how many may run; None: only the limit in all holds them back.
    """

    tenant_id: str
    running: int
    waiting: int
    limit: int | None


class AdmissionStatistics(msgspec.Struct, frozen=True):
    """A snapshot.

    Attributes:
        running, waiting: requests, now.
        admitted, refused: requests, since the start.
        max_concurrent, max_queued: the limits in all; None: no limit.
        busy_tenants: how many have anything running or waiting.
        tenants: those that are at their limit or have something waiting, most waiting first; at most 100.
    """

    running: int
    waiting: int
    admitted: int
    refused: int
    max_concurrent: int | None
    max_queued: int
    busy_tenants: int
    tenants: tuple[TenantAdmission, ...]
