"""Which policy holds for a tenant and an origin: defaults, tenant, origin, tenant and origin; the narrowest wins."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from .origins import OriginPattern, Target, parse_pattern, split_origin
from .policy import ConcurrencyPolicy, Policy
from .settings import Change, KeyPath, Scope, Settings, Value, fields_of

# Resolved policies that are kept, the least recently used dropped first. An origin has at most some 270 characters
# and of the tenants only those that the file names are told apart: a few MiB at most.
MAX_RESOLVED = 4096


class Effect(NamedTuple):
    """One key as it holds for a tenant and an origin.

    Attributes:
        stage, key: fields of Policy and of its part.
        setting: where it would be set: ``("scope", 0, stage, key)``, or ``("policy", stage, key)``.
    """

    stage: str
    key: str
    value: Value
    setting: KeyPath


class _Placed(NamedTuple):
    """A scope, and its place in the file."""

    number: int
    scope: Scope
    pattern: OriginPattern | None

    @property
    def rank(self) -> tuple[int, bool, int, int]:
        level = 2 * (self.pattern is not None) + (self.scope.tenant is not None)
        is_exact, characters = (True, 0) if self.pattern is None else self.pattern.rank
        return level, is_exact, characters, self.number


class Policies:
    """Resolves policies for one tree of settings; a new tree gets a new object.

    Attributes:
        open_policy: what holds for nearly all requests of nearly all daemons: one that lets each go at once, to
            anywhere, and however often. None: there is no such policy.
    """

    def __init__(self, settings: Settings) -> None:
        """Take over defaults and scopes.

        Args:
            settings: valid ones.
        """
        self._default = settings.policy
        self._of_all: list[_Placed] = []
        self._of_tenants: dict[str, list[_Placed]] = {}
        for number, scope in enumerate(settings.scopes):
            placed = _Placed(number, scope, None if scope.origin is None else parse_pattern(scope.origin))
            if scope.tenant is None:
                self._of_all.append(placed)
            else:
                self._of_tenants.setdefault(scope.tenant, []).append(placed)
        self._has_scopes = bool(settings.scopes)
        self.open_policy = self._default if not settings.budgets and _is_open(self._default) else None
        # Asked at every request; nearly nobody has such rules.
        self._limits_origins = self._default.egress.limits_origins or any(
            change.stage == "egress" for scope in settings.scopes for change in scope.changes
        )
        self._resolved = lru_cache(MAX_RESOLVED)(self._resolve)
        self._concurrency = {
            placed.scope.tenant: _changed(self._default, placed.scope.changes).concurrency
            for tenant in self._of_tenants.values()
            for placed in tenant
            if placed.pattern is None
        }

    def policy_for(self, tenant_id: str, origin: str) -> Policy:
        """What holds for a request.

        Args:
            tenant_id: "" for a client that names none.
            origin: ``str(Url.origin)``.
        """
        if not self._has_scopes:
            return self._default
        return self._resolved(tenant_id if tenant_id in self._of_tenants else None, origin)

    def limits_origins_of(self, tenant_id: str, origin: str) -> bool:
        """Whether where a request may go is limited by what the place is called."""
        return self._limits_origins and self.policy_for(tenant_id, origin).egress.limits_origins

    def concurrency_for(self, tenant_id: str) -> ConcurrencyPolicy:
        """The ``concurrency`` of ``policy_for``, which is the same for all origins of a tenant."""
        return self._concurrency.get(tenant_id, self._default.concurrency)

    def explain(self, tenant_id: str, origin: str) -> list[Effect]:
        """Every key of ``policy_for``, in the order of the example file, and where it is set."""
        return self.effects(tenant_id, split_origin(origin))

    def effects(self, tenant_id: str | None, target: Target) -> list[Effect]:
        """As ``explain``, of what ``resolve`` gives."""
        effects = {
            (stage.name, field.name): Effect(stage.name, field.name, value, ("policy", stage.name, field.name))
            for stage in fields_of(Policy)
            for field in fields_of(stage.type)
            for value in [getattr(getattr(self._default, stage.name), field.name)]
        }
        for placed in self._matching(tenant_id, target):
            for stage, key, value in placed.scope.changes:
                effects[stage, key] = Effect(stage, key, value, ("scope", placed.number, stage, key))
        return list(effects.values())

    def resolve(self, tenant_id: str | None, target: Target) -> Policy:
        """As ``policy_for``, and never from memory; without a tenant: what holds for those that no scope names."""
        policy = self._default
        for placed in self._matching(tenant_id, target):
            policy = _changed(policy, placed.scope.changes)
        return policy

    def _resolve(self, tenant_id: str | None, origin: str) -> Policy:
        return self.resolve(tenant_id, split_origin(origin))

    def _matching(self, tenant_id: str | None, target: Target) -> Iterator[_Placed]:
        """The scopes that say something about it, the narrowest last."""
        of_tenant = [] if tenant_id is None else self._of_tenants.get(tenant_id, [])
        matching = [
            placed for placed in (*self._of_all, *of_tenant) if placed.pattern is None or placed.pattern.matches(target)
        ]
        yield from sorted(matching, key=lambda placed: placed.rank)


def _is_open(policy: Policy) -> bool:
    limits = (policy.egress, policy.token_limit, policy.rate_limit)
    return policy.deadline.first_byte_timeout_ms is None and not any(limit.limits_anything for limit in limits)


def _changed(policy: Policy, changes: tuple[Change, ...]) -> Policy:
    stages: dict[str, Any] = {}
    for stage, key, value in changes:
        stages[stage] = msgspec.structs.replace(stages.get(stage) or getattr(policy, stage), **{key: value})
    return msgspec.structs.replace(policy, **stages) if stages else policy
