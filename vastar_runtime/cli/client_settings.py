"""How the commands that make requests, as any program with the SDK does, reach the daemon."""

from __future__ import annotations

import os

from connector_sdk.config import RuntimeConfig
from connector_sdk.errors import ConnectorException
from vastar_runtime import config

from .exit_codes import CommandFailed, ExitCode


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
