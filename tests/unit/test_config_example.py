"""The example file, and settings written as a file."""

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.config import Admission, Listen, Scope, Settings, examine
from vastar_runtime.config.check import check
from vastar_runtime.config.lines import key_lines
from vastar_runtime.config.origins import parse_pattern
from vastar_runtime.config.policy import Policy, Rate
from vastar_runtime.config.settings import Change, fields_of
from vastar_runtime.config.tables import AccessRule, Budget, Credential, Price
from vastar_runtime.config.text import plain, toml
from vastar_runtime.config.values import MAX_COUNT, MAX_DURATION_MS, MAX_TOKEN_COUNT

EXAMPLE = files("vastar_runtime.config").joinpath("example.toml").read_text(encoding="utf-8")


def settings(text: str) -> Settings:
    checked = check(tomllib.loads(text), key_lines(text))
    assert checked.problems == []
    return checked.settings


def with_scopes(text: str) -> str:
    """The text with the examples in its comments: a # without a blank after it."""
    return re.sub(r"^#(?=[^ \n#])", "", text, flags=re.MULTILINE)


def keys(tree: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found = set()
    for key, value in tree.items():
        found |= keys(value, (*path, key)) if isinstance(value, dict) else {(*path, key)}
    return found


def test_the_example_as_it_stands_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runtime.toml"
    path.write_text(EXAMPLE)
    assert examine({}, config_path=str(path)).valid() == Settings()


def test_the_example_holds_every_key_in_the_order_of_the_tree() -> None:
    every = plain(Settings())
    del every["scope"]
    example = tomllib.loads(EXAMPLE)
    assert keys(example) == keys(every)
    assert list(example["policy"]) == list(every["policy"])
    assert all(list(example["policy"][stage]) == list(every["policy"][stage]) for stage in every["policy"])


def test_every_key_of_the_example_is_explained_above_it() -> None:
    """By a comment of its own, or by that of its neighbour, the rate whose burst it is."""
    lines = EXAMPLE.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[a-z_]+ = ", line):
            above = lines[number - 1]
            assert above.startswith("# ") or (line.split(" = ")[0] == above.split(" = ")[0] + "_burst"), line


def test_the_scopes_of_the_example_are_loaded_when_they_are_uncommented() -> None:
    scopes = settings(with_scopes(EXAMPLE)).scopes
    assert [(scope.tenant, scope.origin) for scope in scopes] == [
        ("batch", None),
        (None, "https://*.openai.com"),
        ("batch", "https://api.openai.com"),
        ("interactive", None),
        (None, "http://127.0.0.1:*"),
    ]
    assert Change("rate_limit", "per_tenant", None) in scopes[3].changes
    assert scopes[4].changes == (Change("retry", "max_retries", 0), Change("circuit_breaker", "enabled", False))
    assert Change("rate_limit", "per_tenant", Rate(100, 1)) in scopes[0].changes
    assert all(scope.changes for scope in scopes)


def test_the_tables_of_the_example_are_loaded_when_they_are_uncommented() -> None:
    found = settings(with_scopes(EXAMPLE))
    assert [(rule.users, rule.tcp) for rule in found.access] == [(("0", "1000"), False), ((), True)]
    assert [(each.name, each.header, each.override) for each in found.credentials] == [
        ("openai", "authorization", False),
        ("anthropic", "x-api-key", False),
        ("internal", "authorization", True),
    ]
    assert found.prices[0].cached_prompt_per_million == 0.075
    assert [(budget.per, budget.tokens, budget.cost) for budget in found.budgets] == [
        ("month", None, 50.0),
        ("day", 2_000_000, None),
    ]


def test_the_numbers_in_the_example_are_those_of_the_code() -> None:
    assert f"from 1 to {MAX_DURATION_MS} (10 years)" in EXAMPLE
    assert f"may be up to {MAX_TOKEN_COUNT}." in EXAMPLE
    assert f"A count is a whole number up to {MAX_COUNT}" in " ".join(re.sub("^# ?", "", EXAMPLE, flags=re.M).split())


@pytest.mark.parametrize("text", ["", EXAMPLE, with_scopes(EXAMPLE)])
def test_settings_written_as_a_file_are_the_same_when_it_is_read(text: str) -> None:
    tree = settings(text)
    assert settings(toml(tree)) == tree
    assert tomllib.loads(toml(tree)).get("scope", []) == plain(tree)["scope"]


COUNTS = st.integers(1, MAX_COUNT)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: COUNTS,
    float: st.floats(0, 1, exclude_min=True),
    int | None: st.none() | COUNTS,
    float | None: st.none() | st.floats(0, 1, exclude_min=True),
    Rate | None: st.none() | st.builds(Rate, COUNTS, st.sampled_from([1, 60, 3600])),
}
# Keys that may stand in any scope, and contradict no other; in the order of the tree, which a scope's changes keep.
FREE = {
    (stage.name, field.name): BY_TYPE[field.type]
    for stage in fields_of(Policy)
    if stage.name in ("deadline", "rate_limit", "retry")
    for field in fields_of(stage.type)
    if not field.name.endswith("backoff_ms")
    and (stage.name != "rate_limit" or field.name.startswith("per_tenant_and_origin"))
}
CHANGES = (
    st.fixed_dictionaries({}, optional=FREE)
    .filter(bool)
    .map(lambda chosen: tuple(Change(*key, chosen[key]) for key in FREE if key in chosen))
)
ORIGINS = st.sampled_from(["https://h", "*://*", "http://[::1]:8080", "https://*.a:*"]).map(
    lambda text: str(parse_pattern(text))
)
SCOPES = st.builds(Scope, tenant=TEXTS, origin=st.none() | ORIGINS, changes=CHANGES)


NAMES = st.text("abcxyz019._-", min_size=1, max_size=20)
PATTERNS = st.lists(TEXTS.filter(lambda text: "**" not in text), min_size=1, max_size=3, unique=True).map(tuple)
ACCESS = st.builds(AccessRule, tenants=PATTERNS, users=st.just(("0", "12")), groups=st.just(("7",)), tcp=st.booleans())
CREDENTIALS = st.builds(
    Credential,
    name=NAMES,
    origins=st.just(("https://*.a.b", "http://127.0.0.1:*")),
    tenants=st.none() | PATTERNS,
    header=st.sampled_from(["authorization", "x-api-key"]),
    scheme=st.sampled_from(["auto", "Basic", None]),
    file=st.sampled_from(["/run/a", "/run/é \"'\\\n"]),
    ttl_ms=COUNTS,
    override=st.booleans(),
)
PRICES = st.builds(
    Price,
    model=TEXTS.filter(lambda text: "**" not in text),
    origin=st.none() | ORIGINS,
    prompt_per_million=st.floats(0, 1e6),
    cached_prompt_per_million=st.none() | st.floats(0, 1e6),
    completion_per_million=st.floats(0, 1e6),
)
BUDGETS = st.builds(Budget, name=NAMES, per=st.sampled_from(["day", "month"]), tokens=COUNTS) | st.builds(
    Budget, name=NAMES, cost=st.floats(0, 4e6, exclude_min=True)
)


TREES = st.builds(
    Settings,
    listen=st.builds(
        Listen,
        socket_path=st.text("abc \t\n\"'\\#é\x7f", max_size=20).map(lambda name: f"/run/{name}x"),
        socket_mode=st.integers(0, 0o777).map(lambda mode: mode | 0o600),
        socket_group=st.none() | TEXTS.filter(lambda text: text not in ("", "none") and "\0" not in text),
        tcp_port=st.none() | st.integers(0, 65535),
    ),
    admission=st.builds(Admission, max_concurrent=BY_TYPE[int | None], max_queued=COUNTS),
    access=st.lists(ACCESS, max_size=2).map(tuple),
    credentials=st.lists(CREDENTIALS, max_size=2, unique_by=lambda each: each.name).map(tuple),
    prices=st.lists(PRICES, min_size=1, max_size=2).map(tuple),
    budgets=st.lists(BUDGETS, max_size=2, unique_by=lambda each: each.name).map(tuple),
    scopes=st.lists(SCOPES, max_size=3, unique_by=lambda scope: (scope.tenant, scope.origin)).map(tuple),
)


@given(TREES)
def test_any_settings_written_as_a_file_are_the_same_when_it_is_read(tree: Settings) -> None:
    assert settings(toml(tree)) == tree
