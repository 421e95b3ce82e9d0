"""The tree of settings. Field names are the file's keys, but ``socket_path`` and ``scopes``: ``socket``, ``scope``."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import msgspec

from .policy import Policy, Rate

DEFAULT_SOCKET_PATH = "/tmp/vastar-connector-runtime.sock"  # noqa: S108 - protocol.md part 1: every SDK knows it
DEFAULT_LOG_PATH = "/tmp/vastar-runtime.log"  # noqa: S108 - where users of the existing runtime look
DEFAULT_TCP_PORT = 5000
# "auto" in the file: as many workers as this process may use cores.
AUTO_WORKERS = 0
MAX_WORKERS = 64

# sun_path holds 108 bytes with its NUL (unix(7)); a longer path fails in bind() with a message that names nothing.
MAX_SOCKET_PATH_BYTES = 107

Value = bool | int | float | str | Rate | None
"""What a key can be set to."""

KeyPath = tuple[str | int, ...]
"""A key's place in the file, with the index of a scope: ``("scope", 0, "retry", "max_retries")``."""


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """Where clients connect, and how many processes serve them.

    Attributes:
        socket_path: the Unix socket, absolute.
        socket_mode: permission bits of the socket file.
        socket_group: name or number of the group that owns the socket file; None leaves it.
        tcp_port: also listen on 127.0.0.1 at this port (0: any free one); None: no TCP.
        workers: processes; AUTO_WORKERS: one for each core.
    """

    socket_path: str = msgspec.field(default=DEFAULT_SOCKET_PATH, name="socket")
    socket_mode: int = 0o600
    socket_group: str | None = None
    tcp_port: int | None = None
    workers: int = 1


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests there may be at once, of all tenants together.

    Attributes:
        max_concurrent: running.
        max_queued: waiting for one of those to end; 0 refuses at once.
    """

    max_concurrent: int | None = None
    max_queued: int = 1024


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
        scopes: in the order of the file.
    """

    listen: Listen = Listen()
    admission: Admission = Admission()
    policy: Policy = Policy()
    scopes: tuple[Scope, ...] = msgspec.field(default=(), name="scope")


@cache  # msgspec evaluates every annotation anew
def fields_of(struct: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """The fields of a part of the tree; ``encode_name`` is the file's key."""
    return msgspec.structs.fields(struct)


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """The keys that differ and that a reload cannot apply, as ``listen.tcp_port``; the listeners stay as they are."""
    return [
        f"listen.{field.encode_name}"
        for field in fields_of(Listen)
        if getattr(old.listen, field.name) != getattr(new.listen, field.name)
    ]
