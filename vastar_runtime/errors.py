"""The daemon's errors, one tree:

RuntimeFault
├── StartupError        the daemon cannot start; the message is one line for a person
│   └── ConfigError     the file, a variable or a flag is wrong
└── RequestError        one request failed; carries the wire's ErrorClass
    ├── InvalidRequest  our client's mistake
    ├── RateLimited     a limit of ours refuses it
    ├── Denied          a rule of ours forbids it
    │   └── EgressDenied    it may not go there
    └── UpstreamError   what happened between us and the upstream
"""

import enum

from connector_sdk.wire.messages import ErrorClass

MAX_RETRY_AFTER_MS = 2**32 - 1  # the wire's field


class RuntimeFault(Exception):
    """The root of every error that this package raises on purpose."""


class StartupError(RuntimeFault):
    """The daemon cannot start. ``str()`` is one line: what happened, to what, and what to do."""


class ConfigError(StartupError):
    """The configuration file, an environment variable or a flag says something that cannot be used."""


class GivenError(ConfigError):
    """Not the file: a flag or a ``VASTAR_*`` variable."""


class RequestError(RuntimeFault):
    """One request failed; the session turns it into the terminal frame of that request.

    Attributes:
        error_class: what the wire says (protocol.md part 1, error classes).
        message: the text of ``error_message``.
        retry_after_ms: when trying again makes sense, milliseconds from now; 0: nobody knows.
        quotes_names_only: what the message quotes is names, of the configuration or of tenants, and no secret.
    """

    quotes_names_only = False

    def __init__(self, error_class: ErrorClass, message: str, *, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message
        self.retry_after_ms = min(retry_after_ms, MAX_RETRY_AFTER_MS)


class InvalidRequest(RequestError):
    """The client asked for something that cannot be asked for; nothing was sent upstream."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorClass.INVALID_REQUEST, message)


class RateLimited(RequestError):
    """A limit of the configuration refuses the request; nothing was sent upstream."""

    quotes_names_only = True

    def __init__(self, message: str, *, retry_after_ms: int) -> None:
        super().__init__(ErrorClass.RATE_LIMITED, message, retry_after_ms=retry_after_ms)


class Denied(RequestError):
    """The configuration does not allow the request, now or later; nothing was sent upstream."""

    quotes_names_only = True

    def __init__(self, message: str) -> None:
        super().__init__(ErrorClass.PERMANENT, message)


class EgressDenied(Denied):
    """The configuration's rules of egress do not let a request go where it leads; nothing was sent there."""


class Failure(enum.Enum):
    """How far an attempt came: what retries and circuit breakers judge a failure by."""

    UNSENT = "unsent"
    """Not one byte of the request was written: DNS, TCP, TLS or a proxy's tunnel failed, or took too long."""
    LOST = "lost"
    """The connection was lost after that, and before a response head."""
    NO_HEAD_IN_TIME = "no head in time"
    """first_byte_timeout_ms passed."""
    OTHER = "other"
    """What came was no HTTP, or broke off after the head: nothing that another attempt is made for."""


class UpstreamError(RequestError):
    """The exchange with the upstream failed.

    Transient by default (protocol.md part 1: refused, DNS failure, reset, cut short); the message begins
    with "HTTP request failed: ", as the existing runtime's does, and goes on with the cause.

    Attributes:
        failure: how far it came.
    """

    def __init__(
        self, cause: str, error_class: ErrorClass = ErrorClass.TRANSIENT, *, failure: Failure = Failure.OTHER
    ) -> None:
        super().__init__(error_class, f"HTTP request failed: {cause}")
        self.failure = failure
