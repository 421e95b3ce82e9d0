"""The message that ends a request."""

from __future__ import annotations

from connector_sdk.wire import ErrorClass, ExecuteRequest, ExecuteResponse, ResponseEnd, ResponseMode
from vastar_runtime.errors import RequestError


def terminal_message(
    request: ExecuteRequest, payload: bytes | None, error: RequestError | None, duration_us: int, attempts: int
) -> ExecuteResponse | ResponseEnd:
    """A stream's end, or the whole answer.

    Args:
        payload: of a whole answer; it goes nowhere beside an error.
        error: None: it succeeded.
        attempts: how often it was sent upstream.
    """
    error_class = ErrorClass.SUCCESS if error is None else error.error_class
    error_message = None if error is None else error.message
    retry_after_ms = 0 if error is None else error.retry_after_ms
    if request.response_mode is ResponseMode.STREAM:
        return ResponseEnd(
            request_id=request.request_id,
            error_class=error_class,
            error_message=error_message,
            duration_us=duration_us,
            retry_after_ms=retry_after_ms,
            attempts=attempts,
        )
    return ExecuteResponse(
        request_id=request.request_id,
        error_class=error_class,
        error_message=error_message,
        payload=payload if error is None else None,
        duration_us=duration_us,
        retry_after_ms=retry_after_ms,
        attempts=attempts,
    )
