"""What may have been meant by a key or a table that there is not."""

from __future__ import annotations

from functools import cache

from .policy import Policy
from .settings import KeyPath, Settings, fields_of

_SWITCHES = ("enabled", "enable", "disabled")
# Tables beside [policy], which are no part of a scope.
_TOP = ("listen", "admission", "usage", "shared_limits")
_NO_LIMIT = 'a limit that is "none" is off'
_OFF = {
    "retry": "max_retries = 0 turns retries off",
    "deadline": _NO_LIMIT,
    "concurrency": _NO_LIMIT,
    "rate_limit": _NO_LIMIT,
    "token_limit": _NO_LIMIT,
    "admission": _NO_LIMIT,
}


def hint(path: KeyPath, known: list[str], found: object) -> str:
    """What to do about it, as the rest of a sentence.

    Args:
        path: its place.
        known: what there is at that place.
        found: its value, as tomllib gives it.
    """
    from difflib import get_close_matches  # 2 ms that a start without a mistake does not take

    *_, table, name = ("", *path)
    name = str(name)
    in_part = isinstance(table, str) and table not in ("", "policy")
    # A switch is never one of another table: following that would turn off what was not meant.
    if name in _SWITCHES and "enabled" not in known:
        return f"; {_OFF[table]}" if in_part and table in _OFF else _listed(known)
    if name == "disabled" and table == "circuit_breaker":
        return "; enabled = false turns it off"
    near = next(iter(get_close_matches(name[:64], known, 1, 0.6)), "")
    home = _homes().get(name)
    is_in_scope = path[0] == "scope"
    if home is not None and not (is_in_scope and home in _TOP):
        there = f"[{home.replace('policy', 'scope', 1) if is_in_scope else home}]"
        # [policy.rate_limit] max_per_tenant: a slip of the table, or of the key?
        is_either = in_part and near and (near in name or name in near)
        return f"; did you mean {near}, or {name} in {there}?" if is_either else f"; it belongs in {there}"
    if near == "scope" and len(path) == 1:
        return f"; did you mean {scope_header(found)}?"
    return f"; did you mean {near}?" if near else _listed(known)


def scope_header(found: object) -> str:
    """The header that was meant by what began this: "[[scope]]", or "[scope.retry]" where it holds only such tables."""
    stages = {stage.name for stage in fields_of(Policy)}
    if isinstance(found, dict) and found and stages.issuperset(found):
        return f"[scope.{next(iter(found))}]"
    return "[[scope]]"


def _listed(known: list[str]) -> str:
    return f"; known: {', '.join(known)}"


@cache
def _homes() -> dict[str, str]:
    """The table of each key, and of each stage's table."""
    homes = {stage.name: "policy" for stage in fields_of(Policy)}
    for part in fields_of(Policy):
        homes |= {field.name: f"policy.{part.name}" for field in fields_of(part.type)}
    for part in (field for field in fields_of(Settings) if field.name in _TOP):
        homes |= {field.encode_name: part.name for field in fields_of(part.type)}
    return homes
