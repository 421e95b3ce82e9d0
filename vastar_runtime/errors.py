"""The daemon's errors, one tree:

RuntimeFault
├── StartupError        the daemon cannot start; the message is one line for a person
│   └── ConfigError     a variable or a flag is wrong
└── RequestError        one request failed; carries the wire's ErrorClass
    ├── InvalidRequest  our client's mistake
    └── UpstreamError   what happened between us and the upstream
"""

from connector_sdk.wire.messages import ErrorClass


class RuntimeFault(Exception):
    """The root of every error that this package raises on purpose."""


class StartupError(RuntimeFault):
    """The daemon cannot start. ``str()`` is one line: what happened, to what, and what to do."""


class ConfigError(StartupError):
    """An environment variable or a flag has a value that cannot be used."""


class RequestError(RuntimeFault):
    """One request failed; the session turns it into the terminal frame of that request.

    Attributes:
        error_class: what the wire says (protocol.md part 1, error classes).
        message: the text of ``error_message``.
    """

    def __init__(self, error_class: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message


class InvalidRequest(RequestError):
    """The client asked for something that cannot be asked for; nothing was sent upstream."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorClass.INVALID_REQUEST, message)


class UpstreamError(RequestError):
    """The exchange with the upstream failed.

    Transient by default (protocol.md part 1: refused, DNS failure, reset, cut short); the message begins
    with "HTTP request failed: ", as the existing runtime's does, and goes on with the cause.
    """

    def __init__(self, cause: str, error_class: ErrorClass = ErrorClass.TRANSIENT) -> None:
        super().__init__(error_class, f"HTTP request failed: {cause}")
