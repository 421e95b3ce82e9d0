"""A file's tree against the settings there are: all unknown keys, wrong values and conflicts, not the first only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

import msgspec

from .hints import hint, scope_header
from .origins import ANY_ORIGIN, OriginPattern, parse_pattern
from .policy import Policy
from .quoting import quoted, shown_key
from .scopes import Policies
from .settings import Change, KeyPath, Scope, Settings, fields_of, item_type
from .table_values import MAX_ITEMS, contradictions
from .values import read_value

_SCOPE_KEYS = ("tenant", "origin")

# After so many problems an unknown key is told without its nearest known one: looking for that takes its time.
_MAX_BEFORE_HINTS_END = 100

# Of one tenant, and of those for every tenant: each is compared with the origin of a request that is not remembered.
MAX_PATTERNS = 1000

# The daemon refuses requests with a longer one (connector_sdk.wire.daemon_connection, MAX_NAME_CHARACTERS).
MAX_TENANT_CHARACTERS = 256


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


def _is_array_of_tables(found: object) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(item, dict) for item in found)


def _no_scopes(found: object) -> str:
    header = scope_header(found)
    if header != "[[scope]]":
        return f"{header} must come after a [[scope]], which says for whom it holds"
    text = f"found {quoted(found)}; allowed: tables that each begin with [[scope]]"
    return f"{text}; write double brackets" if isinstance(found, dict) else text


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
                    self._unknown(here, [*beside, *fields], value)
            elif field.name == "scopes":
                values[field.name] = self._scopes_in(value, here)
            elif (item := item_type(field.type)) is not None:
                values[field.name] = self._items_in(item, value, here)
            elif _is_struct(field.type):
                if isinstance(value, dict):
                    values[field.name] = self.table(field.type, value, here)
                else:
                    header = f"[{'.'.join(part for part in here if isinstance(part, str))}]"
                    if _is_array_of_tables(value):
                        self._note(here, f"found an array of tables; write {header}, with single brackets")
                    else:
                        self._note(here, f"found {quoted(value)}; allowed: a table, {header}")
            else:
                try:
                    values[field.name] = read_value(struct, key, field.type, value)
                    self.set_at[here] = self._line(here)
                except ValueError as error:
                    self._note(here, str(error))
        return values

    def conflicts(self, settings: Settings) -> None:
        """Notes keys that contradict each other, once a scope's are put over what they are sure to meet."""
        if not settings.prices and ("price", 0, "model") not in self._lines:
            for index, budget in enumerate(settings.budgets):
                if budget.cost is not None:
                    self._note(("budget", index, "cost"), "nothing costs anything: there is no [[price]]")
        self._contradictions(settings.policy, ("policy",), lambda stage, key: ("policy", stage, key))
        policies = Policies(msgspec.structs.replace(settings, scopes=tuple(scope for _, scope in self._scopes)))
        for index, scope in self._scopes:
            if not any((stage, key) in _CONTRADICTING for stage, key, _ in scope.changes):
                continue
            # What is wider than this scope holds for all that it holds for; a narrower one may say otherwise.
            pattern = ANY_ORIGIN if scope.origin is None else parse_pattern(scope.origin)

            def setting(stage: str, key: str, scope: Scope = scope, pattern: OriginPattern = pattern) -> KeyPath:
                effects = policies.effects(scope.tenant, pattern.sample)
                (path,) = (effect.setting for effect in effects if (effect.stage, effect.key) == (stage, key))
                return ("scope", self._scopes[path[1]][0], *path[2:]) if isinstance(path[1], int) else path

            self._contradictions(policies.resolve(scope.tenant, pattern.sample), ("scope", index), setting)

    def _items_in(self, struct: type[msgspec.Struct], found: Any, path: KeyPath) -> tuple[msgspec.Struct, ...]:
        """The tables of an array; what has a mistake is noted and left out."""
        header = f"[[{path[-1]}]]"
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            hint = "; write double brackets" if isinstance(found, dict) else ""
            shown = "" if isinstance(found, str) else f"found {quoted(found)}; "  # it may be a secret
            self._note(path, f"{shown}allowed: tables that each begin with {header}{hint}")
            return ()
        if len(found) > MAX_ITEMS:
            self._note(path, f"there are {len(found)} of them; allowed: at most {MAX_ITEMS}")
            return ()
        items: list[msgspec.Struct] = []
        names: dict[str, int] = {}
        for index, table in enumerate(found):
            here = (*path, index)
            problems = len(self.problems)
            values = self.table(struct, table, here)
            for field in fields_of(struct):
                if field.required and field.encode_name not in table:
                    self._note(here, f"it has no {field.encode_name}")
            if len(self.problems) > problems:
                continue
            item = struct(**values)
            for key, text in contradictions(item):
                self._note((*here, key) if key else here, text)
            if "name" in values and names.setdefault(values["name"], index) != index:
                first = (
                    f"{shown_key((*path, names[values['name']]))} (line {self._line((*path, names[values['name']]))})"
                )
                self._note((*here, "name"), f"{first} has the same")
            if len(self.problems) == problems:
                items.append(item)
        return tuple(items)

    def _scopes_in(self, found: Any, path: KeyPath) -> tuple[Scope, ...]:
        if not isinstance(found, list) or not all(isinstance(scope, dict) for scope in found):
            self._note(path, _no_scopes(found))
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
            if not changes and len(self.problems) == problems:
                self._note(here, "it sets nothing; take it out, or say what differs")
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
        elif isinstance(tenant, str) and len(tenant) > MAX_TENANT_CHARACTERS:
            allowed = f"at most {MAX_TENANT_CHARACTERS} characters, as requests with a longer one are refused"
            self._note((*path, "tenant"), f"found {quoted(tenant)}; allowed: {allowed}")
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

    def _contradictions(self, policy: Policy, level: KeyPath, setting: Callable[[str, str], KeyPath]) -> None:
        """Notes what of a policy cannot be meant, at the last key of this level that it comes from.

        Args:
            setting: where a key of the policy would be set.
        """
        for stage, keys, too_much in _contradictions(policy):
            set_here = [(*level, stage, key) for key in keys if (*level, stage, key) in self.set_at]
            if not set_here:  # it is told where it is set
                continue
            if isinstance(too_much, str):
                text = too_much
            else:
                low, high = (self._told(policy, setting(stage, key), level) for key in too_much)
                elsewhere = [key for key in too_much if (*level, stage, key) not in self.set_at]
                advice = f"set {' or '.join(elsewhere)}, too" if elsewhere else "raise the one or lower the other"
                text = f"{low} is more than {high}; {advice}"
            self._note(max(set_here, key=self.set_at.__getitem__), text)

    def _told(self, policy: Policy, setting: KeyPath, level: KeyPath) -> str:
        """A key with its value, and where that comes from if that is not here."""
        *_, stage, key = map(str, setting)
        value = getattr(getattr(policy, stage), key)
        if setting not in self.set_at:
            return f"{key} ({value}, the default)"
        where = "" if setting[: len(level)] == level else f", line {self.set_at[setting]}"
        return f"{key} ({value}{where})"

    def _unknown(self, path: KeyPath, known: list[str], found: object) -> None:
        text = "unknown table" if isinstance(found, dict) or _is_array_of_tables(found) else "unknown key"
        if len(self.problems) < _MAX_BEFORE_HINTS_END:
            text += hint(path, known, found)
        self._note(path, text)

    def _line(self, path: KeyPath) -> int:
        while path and path not in self._lines:  # it is in an inline table, which the path without its end leads to
            path = path[:-1]
        return self._lines.get(path, 1)

    def _note(self, path: KeyPath, text: str) -> None:
        self.problems.append(Problem(self._line(path), path, f"{shown_key(path)}: {text}"))


_BACKOFF = ("first_backoff_ms", "max_backoff_ms")
_OPEN = ("open_ms", "max_open_ms")
_OPENING = ("consecutive_failures", "failure_rate")
_CONTRADICTING = {
    *(("retry", key) for key in _BACKOFF),
    *(("circuit_breaker", key) for key in ("enabled", *_OPEN, *_OPENING)),
}


def _contradictions(policy: Policy) -> Iterator[tuple[str, tuple[str, ...], tuple[str, str] | str]]:
    """What of a policy cannot be meant: its stage, the keys that it comes from, and a text; or the two of those keys
    of which the first is more than the second.
    """
    retry, breaker = policy.retry, policy.circuit_breaker
    if retry.first_backoff_ms > retry.max_backoff_ms:
        yield "retry", _BACKOFF, _BACKOFF
    if breaker.enabled and breaker.open_ms > breaker.max_open_ms:
        yield "circuit_breaker", ("enabled", *_OPEN), _OPEN
    if breaker.enabled and breaker.consecutive_failures is None and breaker.failure_rate is None:
        advice = "set one of them, or enabled = false"
        text = f"consecutive_failures and failure_rate are both none, so that nothing opens it; {advice}"
        yield "circuit_breaker", ("enabled", *_OPENING), text
