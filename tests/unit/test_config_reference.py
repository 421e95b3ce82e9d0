"""The configuration reference is made from the types of the settings, and says all of them."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from vastar_runtime.config import Settings, environment
from vastar_runtime.config.environment import Flags, overrides
from vastar_runtime.config.text import plain

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "generate_config_reference.py"))
TABLES: list[Any] = SCRIPT["tables"]()

VARIABLES = {
    "VASTAR_SOCKET_PATH": "/run/x",
    "VASTAR_USE_TCP": "true",
    "VASTAR_TCP_PORT": "5001",
    "VASTAR_WORKERS": "2",
    "VASTAR_TIMEOUT": "5",
}
FLAGS = {"--socket": "/run/x", "--socket-mode": "0660", "--socket-group": "daemon", "--workers": "2"}
FLAG_FIELDS = {"--socket": "socket_path", **{flag: flag[2:].replace("-", "_") for flag in FLAGS if flag != "--socket"}}


def key(table: str, name: str) -> Any:
    ((found),) = [key for each in TABLES if ".".join(each.path) == table for key in each.keys if key.name == name]
    return found


def test_the_committed_page_is_that_of_the_committed_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main, stale = SCRIPT["main"], tmp_path / "configuration.md"
    with patch.object(sys, "argv", ["generate_config_reference.py", "--check"]):
        main()
        assert capsys.readouterr().out == "docs/configuration.md is up to date\n"
        stale.write_text("old")
        with patch.dict(main.__globals__, PAGE=stale), pytest.raises(SystemExit) as told:
            main()
    assert str(told.value) == ("Error: stale: docs/configuration.md; run: python scripts/generate_config_reference.py")
    assert stale.read_text() == "old", "--check writes nothing"


def test_every_key_of_every_table_is_there_and_explained() -> None:
    tree = plain(Settings())
    expected = {
        f"{path}.{name}"
        for path, table in {**tree, **{f"policy.{stage}": keys for stage, keys in tree["policy"].items()}}.items()
        if path != "policy" and isinstance(table, dict)
        for name in table
    }
    told = {f"{'.'.join(table.path)}.{key.name}": key for table in TABLES for key in table.keys}

    assert expected <= told.keys()
    assert {name.split(".")[0] for name in told.keys() - expected} == {
        "access",
        "credential",
        "price",
        "budget",
        "scope",
    }
    for name, each in told.items():
        assert re.fullmatch(r".{5,}\.", each.meaning), name
        assert each.allowed, name
        assert "None" not in each.meaning, name


def test_the_variables_and_flags_of_a_key_are_those_that_set_it() -> None:
    sets: dict[str, set[str]] = {}
    for variable, value in VARIABLES.items():
        # Where there is a port, the port's variable changes it without the switch.
        given = {variable: value} | ({"VASTAR_USE_TCP": "true"} if variable == "VASTAR_TCP_PORT" else {})
        for each in overrides(Settings(), given, Flags()).overrides:
            sets.setdefault(".".join(map(str, each.key)), set()).add(each.source)
    for flag, value in FLAGS.items():
        for each in overrides(Settings(), {}, Flags(**{FLAG_FIELDS[flag]: value})).overrides:
            sets.setdefault(".".join(map(str, each.key)), set()).add(each.source)
    names = r"VASTAR_[A-Z_]+|--[a-z-]+"
    told = {
        f"{'.'.join(table.path)}.{key.name}": set(re.findall(names, key.also_set_by))
        for table in TABLES
        for key in table.keys
        if key.also_set_by
    }

    assert told == sets
    source = Path(str(environment.__file__)).read_text()
    assert set(re.findall(r"VASTAR_[A-Z_]+[A-Z]", source)) == VARIABLES.keys(), "and there are no others"
    assert set(Flags._fields) == set(FLAG_FIELDS.values())


def test_it_says_what_needs_a_restart_and_what_may_stand_in_which_scope() -> None:
    assert [table.header for table in TABLES if table.needs_restart] == ["[listen]", "[usage]", "[shared_limits]"]
    assert key("policy.concurrency", "max_per_tenant").scopes == "of a tenant only"
    assert key("policy.rate_limit", "per_origin_burst").scopes == "of an origin only"
    assert {key.scopes for table in TABLES if table.path == ("policy", "retry") for key in table.keys} == {"any"}
    assert {key.scopes for table in TABLES if table.path[0] != "policy" for key in table.keys} == {""}


@pytest.mark.parametrize(
    ("table", "name", "allowed", "default"),
    [
        ("listen", "workers", 'a whole number from 1 to 64, or `"auto"`', "1"),
        ("policy.deadline", "max_duration_ms", 'milliseconds, or `"none"`', '"none"'),
        ("policy.rate_limit", "per_tenant", 'a rate, its number from 1 to 1000000, or `"none"`', '"none"'),
        ("shared_limits", "fail", '`"open"`, `"closed"`, `"local"`', '"local"'),
        ("access", "tenants", "an array of tenant ids, with \\* for any characters", None),
        ("credential", "env", "name of an environment variable (letters, digits, \\_)", "left out"),
    ],
)
def test_what_a_key_takes_and_has_is_as_the_file_has_it(
    table: str, name: str, allowed: str, default: str | None
) -> None:
    found = key(table, name)
    assert (SCRIPT["_marked_up"](found.allowed), found.default) == (allowed, default)
