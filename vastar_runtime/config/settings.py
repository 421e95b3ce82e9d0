"""The tree of settings. Field names are the file's keys, but for ``socket_path`` (``socket``) and the tables that there
may be any number of, whose keys are in the singular: ``[[scope]]``, ``[[credential]]``."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, get_args, get_origin

import msgspec

from connector_sdk.wire.address import DEFAULT_SOCKET_PATH as DEFAULT_SOCKET_PATH
from connector_sdk.wire.address import DEFAULT_TCP_PORT as DEFAULT_TCP_PORT
from connector_sdk.wire.address import MAX_SOCKET_PATH_BYTES as MAX_SOCKET_PATH_BYTES

from .policy import Policy, Rate
from .tables import AccessRule, Budget, Credential, Price

DEFAULT_LOG_PATH = "/tmp/vastar-runtime.log"  # noqa: S108 - where users of the existing runtime look
# "auto" in the file: as many workers as this process may use cores.
AUTO_WORKERS = 0
MAX_WORKERS = 64

Value = bool | int | float | str | Rate | tuple[str, ...] | None
"""What a key can be set to."""

KeyPath = tuple[str | int, ...]
"""A key's place in the file, with the index of a scope: ``("scope", 0, "retry", "max_retries")``."""


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """Where clients connect, and how many processes serve them.

    Attributes:
        socket_path: the Unix socket, absolute.
        socket_mode: permission bits of the socket file.
        socket_group: name or number of the group that owns the socket file; None leaves it.
        tcp_port: also listen on TCP at this port (0: any free one); None: no TCP.
        tcp_host: the IP address for that; any but a loopback one needs ``--insecure-bind``.
        workers: processes; AUTO_WORKERS: one for each core.
    """

    socket_path: str = msgspec.field(default=DEFAULT_SOCKET_PATH, name="socket")
    socket_mode: int = 0o600
    socket_group: str | None = None
    tcp_port: int | None = None
    tcp_host: str = "127.0.0.1"
    workers: int = 1


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests there may be at once, of all tenants together.

    Attributes:
        max_concurrent: running.
        max_queued: waiting for one of those to end; 0 refuses at once.
    """

    max_concurrent: int | None = None
    max_queued: int = 1024


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is kept what was used.

    Attributes:
        file: absolute path of the SQLite file; "auto": in the user's state directory; None: nowhere.
        keep_days: what is older is dropped.
        currency: of prices and budgets; only shown.
    """

    file: str | None = "auto"
    keep_days: int = 400
    currency: str = "USD"


class SharedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Where rate limits, token limits and budgets are counted.

    Attributes:
        backend: ``redis://host:port/db``, ``rediss://…`` or ``unix:///path``; None: in this daemon.
        password_env: the variable of the daemon's environment with its password; None: it has none.
        prefix: daemons with the same one count together.
        fail: what holds while it does not answer: "open", "closed" or "local".
    """

    backend: str | None = None
    password_env: str | None = None
    prefix: str = "vastar"
    fail: str = "local"


class Change(NamedTuple):
    """One key that a scope sets: ``stage`` is a field of Policy, ``key`` a field of that."""

    stage: str
    key: str
    value: Value


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What differs for some requests. At least one of tenant and origin is given.

    Attributes:
        tenant: exactly this tenant id; None: every tenant.
        origin: a pattern as ``origins.parse_pattern`` takes it, normalised; None: every origin.
        changes: the keys that differ.
    """

    tenant: str | None = None
    origin: str | None = None
    changes: tuple[Change, ...] = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of the daemon.

    Attributes:
        policy: for requests that no scope says anything about.
        access, credentials, prices, budgets, scopes: in the order of the file.
    """

    listen: Listen = Listen()
    admission: Admission = Admission()
    policy: Policy = Policy()
    usage: Usage = Usage()
    shared_limits: SharedLimits = SharedLimits()
    access: tuple[AccessRule, ...] = ()
    credentials: tuple[Credential, ...] = msgspec.field(default=(), name="credential")
    prices: tuple[Price, ...] = msgspec.field(default=(), name="price")
    budgets: tuple[Budget, ...] = msgspec.field(default=(), name="budget")
    scopes: tuple[Scope, ...] = msgspec.field(default=(), name="scope")


@cache  # msgspec evaluates every annotation anew
def fields_of(struct: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """The fields of a part of the tree; ``encode_name`` is the file's key."""
    return msgspec.structs.fields(struct)


def item_type(kind: Any) -> type[msgspec.Struct] | None:
    """Of a field that holds any number of tables: what each of them is."""
    args = get_args(kind)
    is_array = get_origin(kind) is tuple and len(args) == 2 and args[1] is Ellipsis
    return args[0] if is_array and isinstance(args[0], type) and issubclass(args[0], msgspec.Struct) else None


# What is opened at the start, and stays open.
_FIXED = ("listen", "usage", "shared_limits")


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """The keys that differ and that a reload cannot apply, as ``listen.tcp_port``."""
    parts: list[tuple[str, msgspec.Struct, msgspec.Struct]] = [
        (table, getattr(old, table), getattr(new, table)) for table in _FIXED
    ]
    return [
        f"{table}.{field.encode_name}"
        for table, before, after in parts
        for field in fields_of(type(before))
        if getattr(before, field.name) != getattr(after, field.name)
    ]


def reloaded(old: Settings, new: Settings) -> Settings:
    """The new settings, as far as a reload can apply them."""
    return msgspec.structs.replace(new, **{table: getattr(old, table) for table in _FIXED})
