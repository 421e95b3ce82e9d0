"""The tables that a file may hold any number of: who may speak, with which key, at what price, up to which budget."""

from __future__ import annotations

import msgspec


class AccessRule(msgspec.Struct, frozen=True, kw_only=True):
    """Who may speak for which tenants. Where there is any rule, all that none of them allows is denied.

    Attributes:
        users: numbers of users whose processes may; on the Unix socket.
        groups: numbers of groups whose members may; on the Unix socket.
        tcp: every process that reaches the TCP port may.
        tenants: patterns of tenant ids; * stands for any characters.
    """

    tenants: tuple[str, ...]
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tcp: bool = False


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that is put into requests on their way out. Where it comes from is one of env, file and command.

    Attributes:
        name: what logs and errors call it.
        origins: patterns of the origins that get it: https ones, and loopback.
        tenants: patterns of the tenants that may use it; None: all.
        header: the field's name.
        scheme: what stands before the secret (RFC 9110, section 11.1); "auto": Bearer in Authorization, nothing
            elsewhere; None: nothing.
        env: a variable of the daemon's environment.
        file: an absolute path; read again when it changes.
        command: a program, by its absolute path, and its arguments; its standard output.
        ttl_ms: how long the command's output may be used.
        override: it replaces a header that the request has already.
    """

    name: str
    origins: tuple[str, ...]
    tenants: tuple[str, ...] | None = None
    header: str = "authorization"
    scheme: str | None = "auto"
    env: str | None = None
    file: str | None = None
    command: tuple[str, ...] | None = None
    ttl_ms: int = 300_000
    override: bool = False


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What tokens of a model cost, in the currency of ``Usage``, for a million each. The first that matches holds.

    Attributes:
        model: a pattern of its name, as the answer says it; * stands for any characters.
        origin: a pattern; None: any.
        cached_prompt_per_million: of the prompt what the provider had in its cache; None: as the rest of it.
    """

    model: str
    origin: str | None = None
    prompt_per_million: float = 0.0
    cached_prompt_per_million: float | None = None
    completion_per_million: float = 0.0


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant may use up in a day or a month (UTC): tokens, or money.

    Attributes:
        name: what errors call it.
        tenant: a pattern; each tenant that matches has the budget for itself.
        per: "day" or "month".
        tokens, cost: one of them is given; ``cost`` in the currency of ``Usage``.
    """

    name: str
    tenant: str = "*"
    per: str = "month"
    tokens: int | None = None
    cost: float | None = None
