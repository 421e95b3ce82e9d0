"""``vastar-runtime usage``: which file, since when, and what it prints."""

import json
import os
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from usage_books import HOUR, batch, counts

from vastar_runtime.cli import _group
from vastar_runtime.cli.usage import since_unix_s
from vastar_runtime.config.permissions import user_name
from vastar_runtime.errors import ConfigError, StartupError
from vastar_runtime.metering.batch import UsageKey
from vastar_runtime.metering.store import UsageFileError, UsageStore

NOW = 1_793_534_400.5  # 2026-11-01 12:00 UTC
NOVEMBER = 1_793_491_200


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No configuration, no variables, and a home where nothing is yet."""
    monkeypatch.setattr("vastar_runtime.config.file.DEFAULT_CONFIG_PATH", str(tmp_path / "etc.toml"))
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME", "VASTAR_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "usage.db"
    hour = int(time.time()) // 3600
    store = UsageStore(str(path))
    store.add(batch("gpt-4o", hour=hour, requests=2, prompt=1000, completion=500, cost_nano=12_500_000, cached=7))
    store.add({UsageKey(hour - 48, "batch", "o", "local"): counts(prompt=3, estimated=1)})
    store.close()
    return path


def run(*arguments: object, **environ: str) -> Result:
    return CliRunner().invoke(_group, ["usage", *map(str, arguments)], env=environ)


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("2026-11-01", NOVEMBER),
        ("1970-01-01", 0),
        ("1969-12-31", 0),
        ("0001-01-01", 0),
        ("9999-12-31", 253_402_214_400),
        ("7d", NOW - 7 * 86_400),
        ("0d", NOW),
        ("24h", NOW - 86_400),
        ("90min", NOW - 5400),
        ("999999d", 0),
    ],
)
def test_since_is_a_day_or_so_long_ago(text: str, unix_s: float) -> None:
    assert since_unix_s(text, NOW) == unix_s


@pytest.mark.parametrize(
    "text",
    ["", "7", "d", "7m", "7 d", "-7d", "1.5h", "1000000d", "7D", "٧d", "2026-11-1", "2026-11-01T00:00", "yesterday\n"],
)
def test_what_is_neither_is_told_how_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="is neither a date nor a duration; write 2026-11-01, 7d, 24h or 90min"):
        since_unix_s(text, NOW)
    done = run("--since", text)
    assert done.exit_code == 2
    assert "Invalid value for '--since'" in done.output


@pytest.mark.parametrize("text", ["2026-13-01", "2026-02-29", "0000-01-01", "2026-00-10"])
def test_a_day_that_there_is_not(text: str) -> None:
    with pytest.raises(ValueError, match="is no day of the calendar"):
        since_unix_s(text, NOW)


def test_before_the_first_request_it_says_where_usage_will_be(home: Path) -> None:
    done = run()
    assert done.exit_code == 0
    path = home / ".local/state/vastar/usage.db"
    assert done.output == f"No usage yet: {path} does not exist; the daemon writes it as requests come\n"
    printed = json.loads(run("--json", "--since", "2026-11-01").output)
    total = printed.pop("total")
    assert printed == {
        "file": str(path),
        "since": "2026-11-01T00:00:00Z",
        "by": "model",
        "tenant": None,
        "currency": "USD",
        "groups": [],
        "more_groups": 0,
    }
    assert (total["requests"], total["cost"]) == (0, "0")
    assert not home.exists()


def test_a_file_that_nobody_or_not_this_user_can_make_is_not_said_to_come(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    shut = run("--file", home / "state" / "usage.db")
    assert shut.exit_code == 0
    assert (
        f"/usage.db does not exist, and a daemon of {user_name(os.geteuid())} cannot make it: {home} may "
        in shut.output
    )
    home.rmdir()
    home.touch()
    blocked = run()
    assert blocked.exit_code == 0
    assert f"/usage.db does not exist, and no daemon can make it: {home} is no directory" in blocked.output
    assert "as requests come" not in shut.output + blocked.output
    assert shut.output.endswith("; name another with --file\n")
    assert blocked.output.endswith("; name another file in [usage]\n")


def test_the_table_begins_with_what_it_is_about(file: Path) -> None:
    done = run("--file", file, "--tenant", "acme", "--since", "2026-01-01")
    assert done.exit_code == 0
    first, source, blank, titles, row, total = done.output.splitlines()
    assert first == "Usage of tenant 'acme' since 2026-01-01 00:00 UTC"
    assert source == f"From {file}"  # a daemon of another user may keep it elsewhere
    assert blank == ""
    assert titles.split() == ["model", "requests", "prompt", "completion", "total", "cost", "USD", "share"]
    assert row.split()[:6] == ["gpt-4o", "2", "1,000", "500", "1,500", "0.012500"]
    assert total.split()[0] == "total"


def test_json_is_exact_and_has_everything(file: Path) -> None:
    printed = json.loads(run("--json", "--file", file, "--by", "tenant").output)
    assert printed["file"] == str(file)
    assert printed["by"] == "tenant"
    assert printed["groups"] == [
        {
            "name": "acme",
            "requests": 2,
            "estimated_requests": 0,
            "prompt_tokens": 1000,
            "cached_prompt_tokens": 7,
            "completion_tokens": 500,
            "cost": "0.0125",
        },
        {
            "name": "batch",
            "requests": 1,
            "estimated_requests": 1,
            "prompt_tokens": 3,
            "cached_prompt_tokens": 0,
            "completion_tokens": 0,
            "cost": "0",
        },
    ]
    assert (printed["total"]["name"], printed["total"]["requests"]) == ("total", 3)


def test_json_lists_ten_thousand_groups_and_says_how_many_more_there_are(tmp_path: Path) -> None:
    store = UsageStore(str(tmp_path / "usage.db"))
    store.add({UsageKey(HOUR * 2, "t", "o", f"m{n}"): counts() for n in range(10_003)})
    store.close()
    printed = json.loads(run("--json", "--file", tmp_path / "usage.db").output)
    assert (len(printed["groups"]), printed["more_groups"], printed["total"]["requests"]) == (10_000, 3, 10_003)


def test_json_of_names_that_would_drive_a_terminal_is_ascii(tmp_path: Path) -> None:
    store = UsageStore(str(tmp_path / "usage.db"))
    store.add(batch("\x1b[2J模", hour=HOUR * 2))
    store.close()
    done = run("--json", "--file", tmp_path / "usage.db", "--tenant", "acme")
    assert done.output.isascii()
    assert "\x1b" not in done.output
    assert json.loads(done.output)["groups"][0]["name"] == "\x1b[2J模"


def test_only_what_is_recent_counts(file: Path) -> None:
    assert json.loads(run("--json", "--file", file, "--since", "24h").output)["total"]["requests"] == 2
    assert json.loads(run("--json", "--file", file, "--since", "3d").output)["total"]["requests"] == 3
    done = run("--file", file, "--tenant", "batch", "--since", "24h")
    assert done.output.startswith("No usage of tenant 'batch' since 20")
    assert done.output.endswith(f"\nFrom {file}\n")


def test_the_file_and_the_currency_are_those_of_the_configuration(file: Path, tmp_path: Path) -> None:
    config = tmp_path / "runtime.toml"
    config.write_text(f'[usage]\nfile = "{file}"\ncurrency = "EUR"\n')
    assert "cost EUR" in run("--config", config).output
    assert json.loads(run("--json", VASTAR_CONFIG=str(config)).output)["currency"] == "EUR"


def test_the_state_directory_of_a_service_is_looked_into(file: Path) -> None:
    assert json.loads(run("--json", STATE_DIRECTORY=str(file.parent)).output)["total"]["requests"] == 3


def test_where_usage_is_not_kept_it_says_so(tmp_path: Path) -> None:
    config = tmp_path / "runtime.toml"
    config.write_text('[usage]\nfile = "none"\n')
    done = run("--config", config)
    assert (done.exit_code, done.output) == (0, "Usage is not kept: [usage] file is none\n")
    assert json.loads(run("--json", "--config", config).output)["file"] is None


def test_mistakes_of_other_settings_are_no_obstacle(file: Path, tmp_path: Path) -> None:
    config = tmp_path / "runtime.toml"
    config.write_text(f'[listen]\nworkers = "many"\n[usage]\nfile = "{file}"\n')
    assert run("--config", config).exit_code == 0
    config.write_text("[usage]\nfile = 7\n")
    done = run("--config", config)
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).endswith("(or say where usage is kept: --file)")
    assert run("--config", config, "--file", file).exit_code == 0


def test_errors_are_those_that_commands_print_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    done = run("--file", tmp_path / "text")
    assert isinstance(done.exception, UsageFileError)
    assert "\n" not in str(done.exception)
    assert str(done.exception).endswith("move it away, or choose another with --file")


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"HOME": ""}, "neither HOME nor XDG_STATE_HOME is set"),
        ({"HOME": "rel/home"}, "HOME is relative: 'rel/home'"),
        ({"HOME": "", "XDG_STATE_HOME": "s"}, "XDG_STATE_HOME is relative: 's'"),
    ],
)
def test_why_no_variable_says_where_is_told_as_it_is(environ: dict[str, str], reason: str) -> None:
    done = run(**environ)
    assert isinstance(done.exception, StartupError)
    assert str(done.exception) == f"no variable says where usage is kept ({reason}); say it with --file"


def test_a_terminal_that_takes_only_ascii_gets_only_that(tmp_path: Path) -> None:
    store = UsageStore(str(tmp_path / "usage.db"))
    store.add(batch("模型-" * 40, hour=HOUR * 2, prompt=5))
    store.close()
    runner = CliRunner(charset="ascii")
    done = runner.invoke(_group, ["usage", "--file", str(tmp_path / "usage.db")])
    assert done.exit_code == 0
    assert done.output.isascii()
    assert "#" in done.output
    assert "..." in done.output


def test_the_command_is_listed_after_config() -> None:
    commands = _group.list_commands(click.Context(_group))
    assert commands[commands.index("config") + 1] == "usage"
