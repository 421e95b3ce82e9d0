"""What the SDK raises, one tree:

    ConnectorException       a request failed; error_class says how, is_retryable() whether another try may help
    ├── StreamError          an event stream broke off inside an event, or holds what is no event stream
    └── APIError             the API answered, with an error; carries its status, type, code, param and message

A wrong Python type in an argument (a url that is no str) is a ``TypeError``.
"""

from __future__ import annotations

from .wire.messages import ErrorClass

_RETRYABLE = frozenset({ErrorClass.TRANSIENT, ErrorClass.RATE_LIMITED, ErrorClass.TIMEOUT})

# The API answers 429 for both; waiting helps against the rate limit, not against an account without money.
_QUOTA_CODES = frozenset({"insufficient_quota"})
_RATE_LIMIT_NAMES = frozenset({"rate_limit_exceeded", "rate_limit_error"})
_SERVER_FAULT_NAMES = frozenset({"server_error", "api_error", "overloaded_error"})


class ConnectorException(Exception):
    """A request failed. ``str()`` is one line: what happened, to what, and what to do.

    Attributes:
        message: the line.
        error_class: how it failed (protocol.md part 1, error classes).
        request_id: the request's id on its connection, 0 when there was none yet.
        retry_after_ms: how long the daemon, or the API, asks to wait before another try, in milliseconds; 0: it asks
            for nothing.
        attempts: how often the daemon tried to send the request; 0: it never did, or did not say.
    """

    def __init__(
        self,
        message: str,
        error_class: ErrorClass = ErrorClass.TRANSIENT,
        request_id: int = 0,
        *,
        retry_after_ms: int = 0,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, error_class, request_id)  # what cannot be left out when it is unpickled
        self.message = message
        self.error_class = ErrorClass(error_class)
        self.request_id = request_id
        self.retry_after_ms = retry_after_ms
        self.attempts = attempts

    def __str__(self) -> str:
        return self.message

    def is_retryable(self) -> bool:
        """True when the same request may succeed later: TRANSIENT, RATE_LIMITED, TIMEOUT."""
        return self.error_class in _RETRYABLE

    def get_error_class_name(self) -> str:
        """The name of the error class, such as "TRANSIENT" or "RATE_LIMITED"."""
        return self.error_class.name


class StreamError(ConnectorException):
    """An event stream that cannot be read to its end."""


class APIError(ConnectorException):
    """The API answered with an error.

    Attributes:
        status: HTTP status; 200 when the error came inside a stream that had begun well.
        type: the API's kind of error, such as "invalid_request_error"; None when it gave none.
        code: the API's code, such as "model_not_found"; None when it gave none.
        param: the parameter that the API names; None when it named none.
    """

    def __init__(
        self,
        message: str,
        error_class: ErrorClass = ErrorClass.PERMANENT,
        request_id: int = 0,
        *,
        status: int = 0,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_ms: int = 0,
    ) -> None:
        super().__init__(message, error_class, request_id, retry_after_ms=retry_after_ms)
        self.status = status
        self.type = type
        self.code = code
        self.param = param

    @classmethod
    def from_error_object(cls, error: object, status: int, request_id: int = 0, *, retry_after_ms: int = 0) -> APIError:
        """The exception for the value of ``"error"`` in an answer of the API.

        Args:
            error: ``{"message", "type", "code", "param"}``, any of them absent; some servers send a bare string.
            status: HTTP status of the answer.
            retry_after_ms: what the answer's headers ask for; 0: nothing.
        """
        fields = error if isinstance(error, dict) else {"message": error}
        kind, code, param = (_text(fields.get(name)) for name in ("type", "code", "param"))
        return cls(
            _text(fields.get("message")) or f"the API answered with an error without a message (status {status})",
            _classify(status, kind, code),
            request_id,
            status=status,
            type=kind,
            code=code,
            param=param,
            retry_after_ms=retry_after_ms,
        )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _classify(status: int, kind: str | None, code: str | None) -> ErrorClass:
    names = {kind, code}
    if names & _QUOTA_CODES:
        return ErrorClass.PERMANENT
    if status < 400 and code is not None and len(code) == 3 and code.isascii() and code.isdigit():
        status = int(code)  # inside a stream, several servers give as code the status that they could no longer send
    if status == 429 or names & _RATE_LIMIT_NAMES:
        return ErrorClass.RATE_LIMITED
    if status == 408:
        return ErrorClass.TIMEOUT
    if status >= 500 or (status < 400 and names & _SERVER_FAULT_NAMES):
        return ErrorClass.TRANSIENT
    return ErrorClass.PERMANENT
