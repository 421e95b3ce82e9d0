"""What the exit codes of the commands mean, in one table."""

import enum

from connector_sdk.errors import ConnectorException
from connector_sdk.wire.messages import ErrorClass
from vastar_runtime.errors import GivenError, StartupError


class ExitCode(enum.IntEnum):
    """How a command ended. Those that curl has, too, mean what they mean there: 22, 23, 28."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3  # as an init script's status says it (LSB)
    TRANSIENT = 11
    PERMANENT = 12
    RATE_LIMITED = 13
    INVALID_REQUEST = 15
    CANCELLED = 16
    HTTP_ERROR = 22
    NOT_WRITTEN = 23
    TIMEOUT = 28
    INTERRUPTED = 130  # 128 + SIGINT, as shells say it


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "any other failure; a daemon that runs and is not well, or something else in its place",
    ExitCode.USAGE: "the command line, or a VASTAR_* variable, is wrong; nothing was done",
    ExitCode.NOT_RUNNING: "no daemon runs there",
    ExitCode.TRANSIENT: "Transient: no answer; another try may get one",
    ExitCode.PERMANENT: "Permanent: no answer, and none with another try",
    ExitCode.RATE_LIMITED: "RateLimited: a limit of the daemon refuses it for now",
    ExitCode.INVALID_REQUEST: "InvalidRequest: nothing that could be sent",
    ExitCode.CANCELLED: "Cancelled: the daemon gave the request up",
    ExitCode.HTTP_ERROR: "an HTTP status of 400 or above, with --fail",
    ExitCode.NOT_WRITTEN: "the output cannot be written, or nobody reads it any more",
    ExitCode.TIMEOUT: "Timeout: a time limit passed",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
}

_OF_CLASS = {
    ErrorClass.TRANSIENT: ExitCode.TRANSIENT,
    ErrorClass.PERMANENT: ExitCode.PERMANENT,
    ErrorClass.RATE_LIMITED: ExitCode.RATE_LIMITED,
    ErrorClass.TIMEOUT: ExitCode.TIMEOUT,
    ErrorClass.INVALID_REQUEST: ExitCode.INVALID_REQUEST,
    ErrorClass.CANCELLED: ExitCode.CANCELLED,
}


class CommandFailed(StartupError):
    """A command did not do what it was asked for, in a way that has an exit code of its own.

    Attributes:
        exit_code: which one.
    """

    def __init__(self, exit_code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(error: StartupError | ConnectorException) -> ExitCode:
    """The code of a command that ends with this error."""
    if isinstance(error, ConnectorException):
        return _OF_CLASS.get(error.error_class, ExitCode.FAILED)
    if isinstance(error, GivenError):
        return ExitCode.USAGE
    return error.exit_code if isinstance(error, CommandFailed) else ExitCode.FAILED


def table() -> str:
    """The codes and their meanings, one line each, for a terminal."""
    return "\n".join(f"  {code:<5}{meaning}" for code, meaning in MEANINGS.items())
