"""How the commands that make requests, as any program with the SDK does, reach the daemon, or find none."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from connector_sdk.config import RuntimeConfig
from connector_sdk.connection import Connection
from connector_sdk.errors import ConnectorException
from connector_sdk.wire import LocalProtocolError, ProtocolError
from connector_sdk.wire.messages import ErrorClass
from vastar_runtime import config

from .exit_codes import CommandFailed, ExitCode

_Answer = TypeVar("_Answer")
# What connecting and the first question end with, besides what has a code of its own.
_CODES = {ErrorClass.TRANSIENT: ExitCode.NOT_RUNNING, ErrorClass.PERMANENT: ExitCode.FAILED}


def client_settings(
    config_path: str | None, socket_path: str | None, tenant_id: str, timeout_ms: int | None = None
) -> tuple[RuntimeConfig, str]:
    """As the SDK has it, at the socket that the other commands would use; and why that may be the wrong one, or "".

    Args:
        timeout_ms: over the variable; None: that holds.

    Raises:
        CommandFailed: USAGE, a flag or a variable cannot be used.
        ConfigError: which socket it is cannot be told.
    """
    config.named_socket(os.environ, socket_path)
    try:
        if timeout_ms is None:
            settings = RuntimeConfig(tenant_id=tenant_id)
        else:
            settings = RuntimeConfig(tenant_id=tenant_id, timeout_ms=timeout_ms)  # the variable is not looked at
    except ConnectorException as error:
        raise CommandFailed(ExitCode.USAGE, str(error)) from error
    if socket_path is None and config_path is None and settings.use_tcp:
        return settings, ""
    settings.use_tcp = False  # what is said here goes over what a variable says
    settings.socket_path, unread = config.client_socket(config_path=config_path, socket_path=socket_path)
    if not unread:
        return settings, ""
    return settings, f"the default socket was asked: {unread} (or say where the daemon is: --socket)"


def reached(ask: Callable[[], _Answer], settings: RuntimeConfig, doubt: str) -> _Answer:
    """What ``ask`` gets, which connects and asks.

    Args:
        doubt: as ``client_settings`` tells it.

    Raises:
        CommandFailed: NOT_RUNNING, nobody listens; FAILED, who listens may not be reached, or is no daemon.
        ConnectorException: the daemon's own, and that it has not answered in time.
    """
    ends_at = time.monotonic() + settings.timeout_ms / 1000
    try:
        return ask()
    except ConnectorException as first:
        error = _second_look(first, settings, ends_at) if _was_closed(first) else first
        failure = not_a_daemon(error, settings)
        if failure is None:
            if error.request_id != 0 or error.error_class not in _CODES:  # it was asked, or has no time
                raise error from error.__cause__
            failure = CommandFailed(_CODES[error.error_class], error.message)
        raise CommandFailed(failure.exit_code, f"{failure}; {doubt}" if doubt else str(failure)) from error


def _second_look(error: ConnectorException, settings: RuntimeConfig, ends_at: float) -> ConnectorException:
    """A daemon that ends may take a connection and close it; what the next one meets, in what time is left."""
    left_ms = int((ends_at - time.monotonic()) * 1000)
    if left_ms <= 0:
        return error
    try:
        Connection(settings, left_ms, left_ms).close()
    except ConnectorException as second:
        return second
    message = f"the daemon at {settings.endpoint} has just begun, in place of one that ended: ask again"
    return ConnectorException(message, ErrorClass.TRANSIENT)


def not_a_daemon(error: ConnectorException, settings: RuntimeConfig) -> CommandFailed | None:
    """What ends a command that met something else in the daemon's place; None: this error has another reason."""
    if _was_closed(error):
        reason = "it closed the connection without an answer"
    else:
        cause = next(filter(_is_of_strangers, _causes(error)), None)
        if cause is None:
            return None
        reason = str(getattr(cause, "strerror", None) or cause)
    advice = "port (VASTAR_TCP_PORT)" if settings.use_tcp else "path (--socket, VASTAR_SOCKET_PATH)"
    return CommandFailed(
        ExitCode.FAILED,
        f"what listens at {settings.endpoint} is no vastar-connector-runtime ({reason}): choose another {advice}",
    )


def _was_closed(error: ConnectorException) -> bool:
    """Before it was asked anything."""
    return error.request_id == 0 and isinstance(error.__cause__, ConnectionResetError | BrokenPipeError | EOFError)


def _is_of_strangers(cause: BaseException) -> bool:
    if isinstance(cause, OSError):
        return cause.errno == errno.EPROTOTYPE  # a socket of datagrams
    return isinstance(cause, ProtocolError) and not isinstance(cause, LocalProtocolError)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
