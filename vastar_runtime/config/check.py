"""A file's tree against the settings there are: all unknown keys, wrong values and conflicts, not the first only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeGuard

import msgspec

from .origins import ANY_ORIGIN, parse_pattern
from .policy import Policy
from .quoting import quoted, shown_key
from .scopes import Policies
from .settings import Change, KeyPath, Scope, Settings, fields_of
from .values import read_value

_SCOPE_KEYS = ("tenant", "origin")

# After so many problems an unknown key is told without its nearest known one: looking for that takes its time.
_MAX_BEFORE_HINTS_END = 100

# Of one tenant, and of those for every tenant: each is compared with the origin of a request that is not remembered.
MAX_PATTERNS = 1000


class Problem(NamedTuple):
    """Something in the file that cannot be used.

    Attributes:
        line: counted from 1.
        key: its place in the tree; () for all of it.
        text: with the key, without file and line.
    """

    line: int
    key: KeyPath
    text: str


class Checked(NamedTuple):
    """The outcome of a check.

    Attributes:
        settings: what could be used; the rest has its default.
        lines: of the keys that are set.
        problems: in the order of their lines.
    """

    settings: Settings
    lines: Mapping[KeyPath, int]
    problems: list[Problem]


def check(tree: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> Checked:
    """Make settings of a tree as tomllib gives it, with the lines as ``key_lines`` gives them."""
    checking = _Checking(lines)
    settings = _built(Settings, checking.table(Settings, tree, ()))
    checking.conflicts(settings)
    return Checked(settings, checking.set_at, sorted(checking.problems, key=lambda problem: problem.line))


def _is_struct(kind: Any) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _built(struct: Any, values: Mapping[str, Any]) -> Any:
    kinds = {field.name: field.type for field in fields_of(struct)}
    return struct(
        **{name: _built(kinds[name], value) if isinstance(value, dict) else value for name, value in values.items()}
    )


class _Checking:
    def __init__(self, lines: Mapping[KeyPath, int]) -> None:
        self.problems: list[Problem] = []
        self.set_at: dict[KeyPath, int] = {}
        self._lines = lines
        self._scopes: list[tuple[int, Scope]] = []  # those without a problem of their own, with their index

    def table(
        self, struct: type[msgspec.Struct], found: Mapping[str, Any], path: KeyPath, beside: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """The values of a table by attribute; what is wrong is noted and left out.

        Args:
            beside: keys that may stand in it and are read elsewhere.
        """
        fields = {field.encode_name: field for field in fields_of(struct)}
        values: dict[str, Any] = {}
        for key, value in found.items():
            here = (*path, key)
            field = fields.get(key)
            if field is None:
                if key not in beside:
                    self._unknown(here, [*beside, *fields], is_table=isinstance(value, dict))
            elif field.name == "scopes":
                values[field.name] = self._scopes_in(value, here)
            elif _is_struct(field.type):
                if isinstance(value, dict):
                    values[field.name] = self.table(field.type, value, here)
                else:
                    header = ".".join(part for part in here if isinstance(part, str))
                    self._note(here, f"found {quoted(value)}; allowed: a table, [{header}]")
            else:
                try:
                    values[field.name] = read_value(key, field.type, value)
                    self.set_at[here] = self._line(here)
                except ValueError as error:
                    self._note(here, str(error))
        return values

    def conflicts(self, settings: Settings) -> None:
        """Notes keys that contradict each other, once a scope's are put over what they are sure to meet."""
        self._contradictions(settings.policy, ("policy",))
        policies = Policies(msgspec.structs.replace(settings, scopes=tuple(scope for _, scope in self._scopes)))
        for index, scope in self._scopes:
            if not any((stage, key) in _CONTRADICTING for stage, key, _ in scope.changes):
                continue
            # What is wider than this scope holds for all that it holds for; a narrower one may say otherwise.
            pattern = ANY_ORIGIN if scope.origin is None else parse_pattern(scope.origin)
            self._contradictions(policies.resolve(scope.tenant, pattern.sample), ("scope", index))

    def _scopes_in(self, found: Any, path: KeyPath) -> tuple[Scope, ...]:
        if not isinstance(found, list) or not all(isinstance(scope, dict) for scope in found):
            self._note(path, f"found {quoted(found)}; allowed: tables that each begin with [[scope]]")
            return ()
        seen: dict[tuple[str | None, str | None], int] = {}
        patterns: Counter[str | None] = Counter()
        for index, table in enumerate(found):
            here = (*path, index)
            problems = len(self.problems)
            changes = self._changes(self.table(Policy, table, here, beside=_SCOPE_KEYS))
            tenant, origin = self._tenant(table, here), self._origin(table, here)
            if tenant is None and origin is None and len(self.problems) == problems:
                self._note(here, "it names neither tenant nor origin; what holds for all belongs in [policy]")
            self._misplaced(changes, here, has_tenant="tenant" in table, has_origin="origin" in table)
            twin = seen.setdefault((tenant, origin), index)
            if twin != index and len(self.problems) == problems:
                first = f"{shown_key((*path, twin))} (line {self._line((*path, twin))})"
                self._note(here, f"the same tenant and origin as {first}; put their keys into one")
            patterns[tenant] += origin is not None
            if patterns[tenant] == MAX_PATTERNS + 1:
                self._note(here, f"more than {MAX_PATTERNS} scopes with an origin, of one tenant or of all")
            if len(self.problems) == problems and patterns[tenant] <= MAX_PATTERNS:
                self._scopes.append((index, Scope(tenant=tenant, origin=origin, changes=changes)))
        return tuple(scope for _, scope in self._scopes)

    def _changes(self, values: Mapping[str, Mapping[str, Any]]) -> tuple[Change, ...]:
        return tuple(Change(stage, key, value) for stage, keys in values.items() for key, value in keys.items())

    def _tenant(self, table: Mapping[str, Any], path: KeyPath) -> str | None:
        tenant = table.get("tenant")
        if "tenant" in table and not isinstance(tenant, str):
            self._note((*path, "tenant"), f"found {quoted(tenant)}; allowed: a string, the tenant's id")
        return tenant if isinstance(tenant, str) else None

    def _origin(self, table: Mapping[str, Any], path: KeyPath) -> str | None:
        if "origin" not in table:
            return None
        try:
            return str(parse_pattern(table["origin"]))
        except ValueError as error:
            self._note((*path, "origin"), str(error))
            return None

    def _misplaced(self, changes: tuple[Change, ...], path: KeyPath, *, has_tenant: bool, has_origin: bool) -> None:
        """A limit of a tenant is one for all origins, and the other way round: a part of it can be no other."""
        for stage, key, _ in changes:
            here = (*path, stage, key)
            of_tenant = stage == "concurrency" or key in ("per_tenant", "per_tenant_burst")
            if of_tenant and has_origin:
                rule = "counts all requests of a tenant, whatever the origin: put it into a scope without an origin"
                self._note(here, f"{key} {rule}, or into [policy]")
            elif key in ("per_origin", "per_origin_burst") and has_tenant:
                rule = "counts the requests of all tenants together: put it into a scope without a tenant"
                self._note(here, f"{key} {rule}, or into [policy]")

    def _contradictions(self, policy: Policy, level: KeyPath) -> None:
        for (stage, keys), text in _contradictions(policy):
            set_here = [(*level, stage, key) for key in keys if (*level, stage, key) in self.set_at]
            if set_here:  # else it is told where it is set
                self._note(max(set_here, key=self.set_at.__getitem__), text)

    def _unknown(self, path: KeyPath, known: Iterable[str], *, is_table: bool) -> None:
        name = str(path[-1])
        text = "unknown table" if is_table else "unknown key"
        if len(self.problems) < _MAX_BEFORE_HINTS_END:
            text += _nearest(name, list(known), is_in_scope=path[0] == "scope")
        self._note(path, text)

    def _line(self, path: KeyPath) -> int:
        while path and path not in self._lines:  # it is in an inline table, which the path without its end leads to
            path = path[:-1]
        return self._lines.get(path, 1)

    def _note(self, path: KeyPath, text: str) -> None:
        self.problems.append(Problem(self._line(path), path, f"{shown_key(path)}: {text}"))


_BACKOFF = ("retry", ("first_backoff_ms", "max_backoff_ms"))
_OPEN = ("circuit_breaker", ("enabled", "open_ms", "max_open_ms"))
_OPENING = ("circuit_breaker", ("enabled", "consecutive_failures", "failure_rate"))
_CONTRADICTING = {(stage, key) for stage, keys in (_BACKOFF, _OPEN, _OPENING) for key in keys}


def _contradictions(policy: Policy) -> Iterator[tuple[tuple[str, tuple[str, ...]], str]]:
    """What of a policy cannot be meant: the keys that it comes from, and a text."""
    retry, breaker = policy.retry, policy.circuit_breaker
    if retry.first_backoff_ms > retry.max_backoff_ms:
        values = f"first_backoff_ms ({retry.first_backoff_ms}) is more than max_backoff_ms ({retry.max_backoff_ms})"
        yield _BACKOFF, values
    if breaker.enabled and breaker.open_ms > breaker.max_open_ms:
        yield _OPEN, f"open_ms ({breaker.open_ms}) is more than max_open_ms ({breaker.max_open_ms})"
    if breaker.enabled and breaker.consecutive_failures is None and breaker.failure_rate is None:
        advice = "set one of them, or enabled = false"
        yield _OPENING, f"consecutive_failures and failure_rate are both none, so that nothing opens it; {advice}"


def _nearest(name: str, known: list[str], *, is_in_scope: bool) -> str:
    """What may have been meant, as the rest of a sentence."""
    from difflib import get_close_matches  # 2 ms that a start without a mistake does not take

    home = _homes().get(name)
    if home is not None and not (is_in_scope and home in ("listen", "admission")):
        table = home.replace("policy", "scope", 1) if is_in_scope else home
        return f"; it belongs in [{table}]"
    near = get_close_matches(name[:64], known, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"


@cache
def _homes() -> dict[str, str]:
    """The table of each key, and of each stage's table."""
    homes = {stage.name: "policy" for stage in fields_of(Policy)}
    for part in fields_of(Policy):
        homes |= {field.name: f"policy.{part.name}" for field in fields_of(part.type)}
    for part in (field for field in fields_of(Settings) if field.name in ("listen", "admission")):
        homes |= {field.encode_name: part.name for field in fields_of(part.type)}
    return homes
