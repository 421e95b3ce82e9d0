"""What a HealthCheck is answered with."""

from __future__ import annotations

import msgspec

from connector_sdk.wire import HealthCheckResponse


class Health(msgspec.Struct, frozen=True):
    """What a HealthCheck tells of the whole daemon."""

    version: str
    uptime_ms: int
    active_requests: int
    is_draining: bool


def health_response(health: Health, available_credits: int) -> HealthCheckResponse:
    """The answer (protocol.md part 1, and part 2 for what it adds).

    Args:
        available_credits: how many more requests this connection may have in flight.
    """
    return HealthCheckResponse(
        healthy=not health.is_draining,
        message="draining" if health.is_draining else "ok",
        active_requests=health.active_requests,
        available_credits=available_credits,
        version=health.version,
        uptime_ms=health.uptime_ms,
        draining=health.is_draining,
    )
