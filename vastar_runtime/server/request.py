"""One request, from its message to its answer: exactly one, whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
import trio

from connector_sdk.wire import ErrorClass, ExecuteRequest, ExecuteResponse, LocalProtocolError, encode_message
from vastar_runtime.connectors import CONNECTORS, Services
from vastar_runtime.connectors.base import Outcome
from vastar_runtime.errors import InvalidRequest, RequestError
from vastar_runtime.policies.deadline import Deadline
from vastar_runtime.telemetry.log import clean, without_quotations

from .memory import Holding

log = structlog.get_logger()


async def answer(
    request: ExecuteRequest, size: int, services: Services, idle_timeout_s: float, holding: Holding
) -> bytes:
    """Run the request; its terminal frame.

    Args:
        size: bytes of the request's message.
        holding: what the request may hold of the connection's memory.
    """
    began_ns = time.perf_counter_ns()
    outcome = Outcome()
    payload = None
    error: RequestError | None = None
    try:
        holding.hold(size)
        payload = await _execute(request, services, idle_timeout_s, holding.hold, outcome)
    except RequestError as failure:
        error = failure
    except trio.Cancelled:
        cancelled = RequestError(ErrorClass.CANCELLED, "the client left, or the runtime was stopped")
        _log_line(request, outcome, cancelled, (time.perf_counter_ns() - began_ns) // 1000)
        raise
    except Exception:
        error = _internal_error(request, outcome)
    duration_us = (time.perf_counter_ns() - began_ns) // 1000
    try:
        frame = _frame(request, payload, error, duration_us)
    except LocalProtocolError:
        error = _internal_error(request, outcome)
        frame = _frame(request, None, error, duration_us)
    _log_line(request, outcome, error, duration_us)
    return frame


def _internal_error(request: ExecuteRequest, outcome: Outcome) -> RequestError:
    """A mistake of ours, being handled: it must not take the connection's other requests with it."""
    log.exception("internal error", tenant=clean(request.tenant_id), origin=outcome.origin)
    return RequestError(ErrorClass.PERMANENT, "internal error of the runtime; its log has the details")


def _frame(request: ExecuteRequest, payload: bytes | None, error: RequestError | None, duration_us: int) -> bytes:
    return encode_message(
        ExecuteResponse(
            request_id=request.request_id,
            error_class=error.error_class if error else ErrorClass.SUCCESS,
            error_message=error.message if error else None,
            payload=payload,
            duration_us=duration_us,
        )
    )


async def _execute(
    request: ExecuteRequest,
    services: Services,
    idle_timeout_s: float,
    hold: Callable[[int], None],
    outcome: Outcome,
) -> bytes:
    connector = CONNECTORS.get(request.connector_name)
    if connector is None:
        known = ", ".join(sorted(CONNECTORS))
        raise InvalidRequest(f"Unknown connector: {request.connector_name[:64]} (known: {known})")
    call = connector.prepare(request, outcome)
    deadline = Deadline(
        deadline_at_ms=request.deadline_at_ms,
        timeout_ms=call.timeout_ms,
        idle_timeout_s=idle_timeout_s,
        unix_now_s=time.time(),
    )
    with deadline.scope:
        return await call.execute(services, request.tenant_id, deadline.progress, hold)
    raise deadline.passed()


def _log_line(request: ExecuteRequest, outcome: Outcome, error: RequestError | None, duration_us: int) -> None:
    """One line a request: no query values, no header values, no bodies."""
    fields = {
        "method": outcome.method,
        "origin": outcome.origin,
        "path": clean(outcome.path),
        "status": outcome.status_code,
        "bytes": outcome.body_bytes,
        "duration_ms": round(duration_us / 1000, 1),
        "tenant": clean(request.tenant_id),
        "trace": clean(request.trace_id or ""),
    }
    if error is not None:
        fields |= {"error_class": error.error_class.name.lower(), "error": clean(without_quotations(error.message))}
    log.info("request", **{key: value for key, value in fields.items() if value not in ("", 0)})
