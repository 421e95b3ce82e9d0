"""What both kinds of connection to the daemon share: how long they wait, and what failures mean to a caller. No I/O."""

from __future__ import annotations

from .errors import ConnectorException
from .wire import ErrorClass, ExecuteResponse, LocalProtocolError, ProtocolError

# The daemon ends a request at its deadline by itself; its answer then has to get here from a loaded machine.
ANSWER_GRACE_MS = 5_000

# A daemon on this machine accepts at once; one that takes longer is stuck.
CONNECT_TIMEOUT_MS = 10_000

# What can go wrong with a connection; failure() says what it means.
FAILURES = (OSError, EOFError, ProtocolError)


def connect_limits(timeout_ms: int, connect_ms: int | None) -> tuple[int, int]:
    """How long the daemon may take to accept a connection, and to answer on it; see ``Connection``."""
    greeting_ms = timeout_ms + ANSWER_GRACE_MS if connect_ms is None else connect_ms
    accept_ms = timeout_ms if connect_ms is None else connect_ms
    return min(accept_ms, CONNECT_TIMEOUT_MS), min(greeting_ms, CONNECT_TIMEOUT_MS)


def failure(error: Exception, endpoint: str, request_id: int, timeout_ms: int) -> ConnectorException:
    """What an error on an open connection means to the caller of a request with this timeout."""
    error_class = ErrorClass.TRANSIENT
    match error:
        case TimeoutError():
            error_class = ErrorClass.TIMEOUT
            message = (
                f"the daemon at {endpoint} did not answer within {timeout_ms + ANSWER_GRACE_MS} ms "
                f"(the request's timeout of {timeout_ms} ms and {ANSWER_GRACE_MS} ms of grace)"
            )
        case LocalProtocolError():
            error_class = ErrorClass.INVALID_REQUEST
            message = f"the request cannot be sent: {error}"
        case ProtocolError():
            error_class = ErrorClass.PERMANENT
            message = f"what answers at {endpoint} broke the protocol: {error}; see whether it is the daemon"
        case _:
            reason = error.strerror if isinstance(error, OSError) else None
            message = f"lost the connection to the daemon at {endpoint}: {reason or error}"
    return ConnectorException(message, error_class, request_id)


def nothing_came(within_ms: int, request_id: int) -> ConnectorException:
    """The caller's limit for one message has passed, while the exchange has time left."""
    return ConnectorException(
        f"HTTP request timed out: nothing came for {within_ms} ms", ErrorClass.TIMEOUT, request_id
    )


def no_greeting(endpoint: str, timeout_ms: int) -> ConnectorException:
    """Nothing answered the Hello in time."""
    return ConnectorException(
        f"the daemon at {endpoint} accepted a connection and did not answer on it within {timeout_ms / 1000:g} s; "
        "see whether it is stuck: `vastar-runtime status`",
        ErrorClass.TIMEOUT,
    )


def unreadable(answer: ExecuteResponse, request_id: int) -> ConnectorException:
    """The daemon could not read a frame, and said so with request_id 0 (protocol.md part 1)."""
    return ConnectorException(
        f"the daemon could not read the request: {answer.error_message or 'no reason given'}",
        ErrorClass.INVALID_REQUEST if answer.error_class is ErrorClass.SUCCESS else answer.error_class,
        request_id,
    )


def closed_early(request_id: int) -> ConnectorException:
    """What reading on after ``close`` gets."""
    return ConnectorException("the response was closed before its end", ErrorClass.CANCELLED, request_id)
