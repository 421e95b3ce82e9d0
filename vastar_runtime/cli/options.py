"""Options that several commands share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from vastar_runtime.config import DEFAULT_CONFIG_PATH, DEFAULT_LOG_PATH, DEFAULT_SOCKET_PATH
from vastar_runtime.config.paths import given_path

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_Function = Callable[..., Any]


def complete_file(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """``shell_complete`` of an option whose value is a path: the shell looks for files itself."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def config_option(function: _Function) -> _Function:
    """``--config``: argument ``config_path`` (str, or None when not given: the variable or the default holds)."""
    return click.option(
        "--config",
        "config_path",
        metavar="PATH",
        shell_complete=complete_file,
        help=f"The configuration file.  [env var: VASTAR_CONFIG; default: {DEFAULT_CONFIG_PATH}, if it exists]",
    )(function)


def socket_option(function: _Function) -> _Function:
    """``--socket``: argument ``socket_path`` (str, or None: the variable, the file or the default holds)."""
    return click.option(
        "--socket",
        "socket_path",
        metavar="PATH",
        shell_complete=complete_file,
        help=f"The daemon's Unix socket.  [env var: VASTAR_SOCKET_PATH; default: {DEFAULT_SOCKET_PATH}]",
    )(function)


def json_option(function: _Function) -> _Function:
    """``--json``: argument ``as_json`` (bool)."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


def listen_options(function: _Function) -> _Function:
    """``--config``, ``--socket``, ``--socket-mode``, ``--socket-group``, ``--workers``, ``--insecure-bind``: arguments
    as ``config.examine`` takes them."""
    function = click.option(
        "--insecure-bind",
        is_flag=True,
        help="Let others than this machine's processes reach the TCP port, if listen.tcp_host says so.",
    )(function)
    function = click.option(
        "--workers",
        metavar="N|auto",
        help="Processes that serve; auto: as many as there are cores.  [env var: VASTAR_WORKERS; default: 1]",
    )(function)
    function = click.option("--socket-group", metavar="GROUP", help="Group that owns the socket (name or number).")(
        function
    )
    function = click.option(
        "--socket-mode", metavar="MODE", help="Permissions of the socket, in octal.  [default: 0600]"
    )(function)
    return config_option(socket_option(function))


def log_option(function: _Function) -> _Function:
    """``--log-file``: argument ``log_path`` (str, absolute)."""
    return click.option(
        "--log-file",
        "log_path",
        metavar="PATH",
        shell_complete=complete_file,
        envvar="VASTAR_LOG_FILE",
        show_envvar=True,
        default=DEFAULT_LOG_PATH,
        show_default=True,
        callback=_log_path,
        help="The daemon's log.",
    )(function)


def _log_path(context: click.Context, _parameter: click.Parameter, path: str) -> str:
    is_variable = context.get_parameter_source("log_path") is ParameterSource.ENVIRONMENT
    return given_path("VASTAR_LOG_FILE" if is_variable else "--log-file", path)
