"""Which credentials apply to a request."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from vastar_runtime.config import Credential
from vastar_runtime.config.origins import OriginPattern, glob, parse_pattern, split_origin
from vastar_runtime.config.table_values import is_loopback_host

from .injection import Injection

# Tenants' names and origins are the clients' to choose. 2 MiB at most.
MAX_REMEMBERED = 1024
MAX_REMEMBERED_CHARACTERS = 256


class _Rule(NamedTuple):
    injection: Injection
    origins: tuple[OriginPattern, ...]
    tenants: tuple[str, ...] | None


class Rules:
    """Finds credentials for one state of the configuration; another one gets a new object.

    Args:
        injections: with what the file says of each, in its order.
    """

    def __init__(self, injections: Iterable[tuple[Credential, Injection]]) -> None:
        self._rules = [
            _Rule(injection, tuple(map(parse_pattern, credential.origins)), credential.tenants)
            for credential, injection in injections
        ]
        self._of_origin = lru_cache(MAX_REMEMBERED)(self._find_for_origin)
        self._of_tenant = lru_cache(MAX_REMEMBERED)(self._find_for_tenant)

    def for_request(self, tenant_id: str, origin: str) -> tuple[Injection, ...]:
        """Those that apply, at most one for each header, in the order of the file.

        Args:
            tenant_id: "" for a client that names none.
            origin: as policies go by: ``Origin.without_root``.
        """
        if not self._rules:
            return ()
        rules, is_for_all = self._of_origin(origin)
        if is_for_all:
            return self._of_tenant("", origin)
        if not rules:
            return ()
        if len(tenant_id) > MAX_REMEMBERED_CHARACTERS:
            return self._find_for_tenant(tenant_id, origin)
        return self._of_tenant(tenant_id, origin)

    def _find_for_origin(self, origin: str) -> tuple[tuple[_Rule, ...], bool]:
        """And whether there are any, and all tenants may use all of them."""
        target = split_origin(origin)
        if target.scheme != "https" and not is_loopback_host(target.host):  # whatever a pattern says
            return (), False
        rules = tuple(rule for rule in self._rules if any(pattern.matches(target) for pattern in rule.origins))
        return rules, bool(rules) and all(rule.tenants is None for rule in rules)

    def _find_for_tenant(self, tenant_id: str, origin: str) -> tuple[Injection, ...]:
        first: dict[bytes, Injection] = {}
        for rule in self._of_origin(origin)[0]:
            if rule.tenants is None or any(glob(pattern, tenant_id) for pattern in rule.tenants):
                first.setdefault(rule.injection.header, rule.injection)
        return tuple(first.values())
