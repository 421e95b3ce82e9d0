"""What the daemon is set to: one file, ``VASTAR_*`` variables over it, flags over both; one frozen tree, ``Settings``.

The rooms: ``settings``, ``tables`` and ``policy`` (the tree), ``file``, ``lines`` and ``no_toml`` (reading TOML, where
a key stands, and what is wrong with other text), ``check``, ``values``, ``table_values``, ``networks`` and ``hints``
(what is allowed, and what was meant), ``environment`` (variables and flags), ``groups`` (of the socket's file),
``loading`` (all of that together), ``origins`` and ``scopes`` (which policy holds for a tenant and an origin),
``text`` (the tree as TOML).
"""

from .environment import missing_password, named_socket
from .file import DEFAULT_CONFIG_PATH, named_file
from .groups import group_id, missing_group
from .loading import ClientSocket, Examined, client_socket, examine, load_socket_path
from .scopes import Effect, Policies
from .settings import (
    AUTO_WORKERS,
    DEFAULT_LOG_PATH,
    DEFAULT_SOCKET_PATH,
    DEFAULT_TCP_PORT,
    MAX_SOCKET_PATH_BYTES,
    MAX_WORKERS,
    Admission,
    Listen,
    Scope,
    Settings,
    SharedLimits,
    Usage,
    needs_restart,
    reloaded,
)
from .tables import AccessRule, Budget, Credential, Price

__all__ = [
    "AUTO_WORKERS",
    "DEFAULT_CONFIG_PATH",
    "DEFAULT_LOG_PATH",
    "DEFAULT_SOCKET_PATH",
    "DEFAULT_TCP_PORT",
    "MAX_SOCKET_PATH_BYTES",
    "MAX_WORKERS",
    "AccessRule",
    "Admission",
    "Budget",
    "ClientSocket",
    "Credential",
    "Effect",
    "Examined",
    "Listen",
    "Policies",
    "Price",
    "Scope",
    "Settings",
    "SharedLimits",
    "Usage",
    "client_socket",
    "examine",
    "group_id",
    "load_socket_path",
    "missing_group",
    "missing_password",
    "named_file",
    "named_socket",
    "needs_restart",
    "reloaded",
]
