"""Which of the file's tables hold for a request: who may make it, with which key, on which budget."""

from collections.abc import Iterator
from typing import NamedTuple

from vastar_runtime.config import AccessRule, Budget, Settings
from vastar_runtime.config.origins import glob, parse_pattern, split_origin
from vastar_runtime.config.settings import KeyPath


class Holding(NamedTuple):
    """One table, in a line.

    Attributes:
        setting: a key of it.
    """

    key: str
    value: str
    setting: KeyPath


def holding(settings: Settings, tenant_id: str, origin: str) -> Iterator[Holding]:
    """Those that name this tenant and this origin, in the order of the file."""
    target = split_origin(origin)
    for number, rule in enumerate(settings.access):
        if any(glob(pattern, tenant_id) for pattern in rule.tenants):
            yield Holding("access", _who(rule), ("access", number, "tenants"))
    if settings.access and not any(glob(pattern, tenant_id) for rule in settings.access for pattern in rule.tenants):
        yield Holding("access", "no one", ("access", 0, "tenants"))
    headers: set[str] = set()
    for number, credential in enumerate(settings.credentials):
        is_allowed = credential.tenants is None or any(glob(pattern, tenant_id) for pattern in credential.tenants)
        is_meant = any(parse_pattern(pattern).matches(target) for pattern in credential.origins)
        if is_allowed and is_meant and credential.header not in headers:
            headers.add(credential.header)
            yield Holding(f"credential.{credential.header}", credential.name, ("credential", number, "name"))
    for number, budget in enumerate(settings.budgets):
        if glob(budget.tenant, tenant_id):
            yield Holding(f"budget.{budget.name}", _amount(budget, settings.usage.currency), ("budget", number, "name"))


def _who(rule: AccessRule) -> str:
    parts = [f"{kind} {', '.join(names)}" for kind, names in (("uid", rule.users), ("gid", rule.groups)) if names]
    return "; ".join([*parts, *(["TCP"] if rule.tcp else [])])


def _amount(budget: Budget, currency: str) -> str:
    amount = f"{budget.tokens} tokens" if budget.cost is None else f"{budget.cost} {currency}"
    return f"{amount} a {budget.per}"
