"""``vastar-runtime config``: check, show, explain, example."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from loaded_settings import load

from vastar_runtime.cli import _group
from vastar_runtime.config import Settings
from vastar_runtime.errors import ConfigError

RUNNING = "A running daemon goes by what it read at its start or its last reload"
THREE_SCOPES = """
[policy.retry]
max_retries = 1

[[scope]]
tenant = "batch"
[scope.rate_limit]
per_tenant = "100/s"

[[scope]]
origin = "https://*.openai.com"
retry.max_retries = 0
circuit_breaker.enabled = false

[[scope]]
tenant = "batch"
origin = "https://api.openai.com"
deadline = { first_byte_timeout_ms = 7000 }
"""


@pytest.fixture(autouse=True)
def default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The default path, where no file is yet; and no variables."""
    path = tmp_path / "etc.toml"
    monkeypatch.setattr("vastar_runtime.config.file.DEFAULT_CONFIG_PATH", str(path))
    for name in ("CONFIG", "SOCKET_PATH", "USE_TCP", "TCP_PORT", "TIMEOUT"):
        monkeypatch.delenv(f"VASTAR_{name}", raising=False)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "runtime.toml"
    path.write_text(THREE_SCOPES)
    return path


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(_group, ["config", *arguments], env=environ)


def test_a_valid_file_is_said_to_be_so(file: Path) -> None:
    done = run("check", "--config", str(file))
    assert (done.exit_code, done.output) == (0, f"{file} is valid: 5 settings, 3 scopes\n")


def test_one_scope_is_one_scope(file: Path) -> None:
    file.write_text("[[scope]]\ntenant = 'a'\nretry.max_retries = 0")
    assert run("check", VASTAR_CONFIG=str(file)).output == f"{file} is valid: 1 setting, 1 scope\n"


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"# later\n", b"[policy.retry]\n"])
def test_a_file_that_sets_nothing_is_said_to_be_so(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    done = run("check", "--config", str(file))
    assert (done.exit_code, done.output) == (0, f"{file} is valid and sets nothing: the defaults hold\n")


def test_check_prints_json_for_scripts(file: Path, tmp_path: Path) -> None:
    valid = run("check", "--json", "--config", str(file))
    assert valid.exit_code == 0
    assert json.loads(valid.output) == {
        "valid": True,
        "file": str(file),
        "settings": 5,
        "scopes": 3,
        "mistakes": [],
        "notes": [],
    }
    assert json.loads(run("check", "--json").output)["file"] is None
    missing = tmp_path / "missing.toml"
    refused = run("check", "--json", "--config", str(missing), VASTAR_TIMEOUT="soon")
    assert refused.exit_code == 1
    found = json.loads(refused.output)
    assert (found["valid"], found["file"], len(found["mistakes"])) == (False, str(missing), 2)
    assert found["mistakes"][1] == "VASTAR_TIMEOUT: 'soon' cannot be used; it takes seconds above 0"


def test_what_json_prints_drives_no_terminal(tmp_path: Path) -> None:
    """CSI (U+009B) stands in the name of the file, and in what it sets."""
    file = tmp_path / "a\x9b31m.toml"
    file.write_text('usage.file = "/u\x9b31m"\n')
    for command in ("check", "show"):
        done = run(command, "--json", "--config", str(file))
        assert (done.exit_code, done.output.isascii()) == (0, True)
        assert r"\u009b31m" in done.output
    explained = run("explain", "--url", "https://a.example", "--json", "--config", str(file))
    assert json.loads(explained.output)[0]["source"] == "default"


def test_a_group_that_this_machine_does_not_have_is_a_note_as_the_file_may_be_for_another(file: Path) -> None:
    file.write_text("[listen]\nsocket_group = 'no-such-group'\n")
    note = f"{file}:2: listen.socket_group: there is no group 'no-such-group' on this machine"
    done = run("check", "--config", str(file))
    assert (done.exit_code, done.output) == (
        0,
        f"{file} is valid: 1 setting, 0 scopes\nNote: {note}: no daemon starts here with it\n",
    )
    assert json.loads(run("check", "--json", "--config", str(file)).output)["notes"] == [
        f"{note}: no daemon starts here with it"
    ]
    with pytest.raises(ConfigError, match=re.escape(note)):
        load({}, config_path=str(file), insecure_bind=False)
    with pytest.raises(ConfigError, match=r"^--socket-group: there is no group 'nor-this' on this machine$"):
        load({}, config_path=str(file), socket_group="nor-this", insecure_bind=True)
    assert load({}, config_path=str(file), socket_group="0", insecure_bind=False).listen.socket_group == "0"


def test_check_prints_json_for_a_path_that_is_no_utf_8() -> None:
    done = run("check", "--json", "--config", "/missing-\udcff.toml")
    assert done.exit_code == 1
    assert json.loads(done.output)["file"] == "/missing-\\udcff.toml"


def test_no_file_is_no_mistake() -> None:
    done = run("check")
    assert done.exit_code == 0
    assert done.output.startswith("No file (")
    assert done.output.endswith("does not exist): the defaults hold\n")


def test_every_mistake_is_told_in_a_line_of_its_own(file: Path) -> None:
    file.write_text("[policy.retry]\nmax_retrys = 1\nmax_backoff_ms = '10s'\n[[scope]]\norigin = 'api.openai.com'\n")
    done = run("check", "--config", str(file), VASTAR_TIMEOUT="soon")
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert len(lines) == 4
    assert lines[0] == f"{file}:2: policy.retry.max_retrys: unknown key; did you mean max_retries?"
    assert lines[1].endswith("write milliseconds: 10000")
    assert lines[2].startswith(f"{file}:5: [[scope]] number 1: origin: found 'api.openai.com'")
    assert lines[3] == "VASTAR_TIMEOUT: 'soon' cannot be used; it takes seconds above 0"


@pytest.mark.parametrize("command", [["check"], ["show"], ["explain", "--url", "http://h"]])
def test_a_file_that_is_not_there_is_a_mistake(command: list[str], tmp_path: Path) -> None:
    done = run(*command, "--config", str(tmp_path / "none.toml"))
    assert done.exit_code == 1
    said = done.output if command == ["check"] else str(done.exception)
    assert "cannot read" in said
    assert isinstance(done.exception, SystemExit if command == ["check"] else ConfigError)


def test_show_prints_a_file_that_gives_the_same_settings(file: Path, tmp_path: Path) -> None:
    environ = {"VASTAR_TIMEOUT": "7", "VASTAR_USE_TCP": "1", "VASTAR_SOCKET_PATH": "/run/v.sock"}
    done = run("show", "--config", str(file), **environ)
    assert done.exit_code == 0
    first, second, *_ = done.output.splitlines()
    assert first == f"# From {file}, with VASTAR_SOCKET_PATH, VASTAR_USE_TCP, VASTAR_TIMEOUT over it"
    assert second == f"# {RUNNING}"
    again = tmp_path / "again.toml"
    again.write_text(done.output)
    assert load({}, config_path=str(again)) == load(environ, config_path=str(file))
    assert load({}, config_path=str(again)).policy.deadline.idle_timeout_ms == 7000


def test_show_without_a_file_prints_the_defaults() -> None:
    done = run("show")
    assert done.output.startswith("# No file: the built-in defaults\n")
    assert 'max_concurrent = "none"' in done.output


def test_show_prints_json_for_scripts(file: Path) -> None:
    shown = json.loads(run("show", "--json", "--config", str(file)).output)
    text = tomllib.loads(run("show", "--config", str(file)).output)
    assert shown == text
    assert shown["scope"][0] == {"tenant": "batch", "rate_limit": {"per_tenant": "100/s"}}


def test_explain_prints_every_key_and_where_it_is_set(file: Path) -> None:
    done = run(
        "explain",
        "--config",
        str(file),
        "--tenant",
        "batch",
        "--url",
        "https://API.openai.com:443/v1",
        VASTAR_TIMEOUT="7",
    )
    assert done.exit_code == 0
    who, source, running, blank, *lines = done.output.splitlines()
    assert who == "Tenant 'batch', origin https://api.openai.com"
    assert source == f"From {file}, with VASTAR_TIMEOUT over it"
    assert (running, blank) == (RUNNING, "")
    rows = {key: (value, where) for key, value, where in (line.split(None, 2) for line in lines)}
    assert len(rows) == len(lines) == 36
    assert rows["retry.max_retries"] == ("0", f"{file}:12 [[scope]] number 2")
    assert rows["circuit_breaker.enabled"] == ("false", f"{file}:13 [[scope]] number 2")
    assert rows["rate_limit.per_tenant"] == ("100/s", f"{file}:8 [[scope]] number 1")
    assert rows["deadline.first_byte_timeout_ms"] == ("7000", f"{file}:18 [[scope]] number 3")
    assert rows["deadline.idle_timeout_ms"] == ("7000", "VASTAR_TIMEOUT")
    assert rows["deadline.max_duration_ms"] == ("none", "default")


def test_explain_shows_the_limits_of_all_tenants_first(file: Path) -> None:
    file.write_text("[admission]\nmax_concurrent = 8\n")
    lines = run("explain", "--config", str(file), "--url", "http://h").output.splitlines()[4:]
    assert [line.split() for line in lines[:2]] == [
        ["admission.max_concurrent", "8", f"{file}:2"],
        ["admission.max_queued", "1024", "default"],
    ]
    (first, *_) = json.loads(run("explain", "--json", "--config", str(file), "--url", "http://h").output)
    assert first == {"key": "admission.max_concurrent", "value": 8, "source": f"{file}:2"}


def test_explain_says_when_there_is_no_file() -> None:
    assert run("explain", "--url", "http://h").output.splitlines()[1] == "No file: the built-in defaults"


def test_explain_takes_a_host_with_the_dot_of_the_root_for_the_host(file: Path) -> None:
    done = run("explain", "--config", str(file), "--url", "https://api.openai.com.")
    assert "origin https://api.openai.com\n" in done.output
    assert f"{file}:12 [[scope]] number 2" in done.output


def test_explain_of_what_no_scope_is_about(file: Path) -> None:
    done = run("explain", "--config", str(file), "--url", "http://h:8080/x?y")
    assert done.output.startswith("No tenant, origin http://h:8080\n")
    assert re.search(rf"^retry\.max_retries +1 +{re.escape(str(file))}:3$", done.output, re.MULTILINE)
    assert "[[scope]]" not in done.output


def test_explain_prints_json_for_scripts(file: Path) -> None:
    done = run("explain", "--json", "--config", str(file), "--url", "https://a.openai.com")
    effects = {effect["key"]: effect for effect in json.loads(done.output)}
    assert effects["retry.max_retries"] == {
        "key": "retry.max_retries",
        "value": 0,
        "source": f"{file}:12 [[scope]] number 2",
    }
    assert effects["deadline.max_duration_ms"]["value"] == "none"


@pytest.mark.parametrize("url", ["", "api.openai.com", "ftp://h", "https://", "http://h:99999"])
def test_explain_refuses_what_the_daemon_would_refuse(url: str) -> None:
    done = run("explain", "--url", url)
    assert done.exit_code == 2
    assert "Invalid value for --url" in done.output


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("openai.com:443", "; write https://openai.com:443\n"),
        ("openai.com/v1?key=secret", "; write https://openai.com\n"),
        ("https://*.openai.com", "; a pattern is no URL: name one host, such as https://api.openai.com\n"),
        ("http://127.0.0.1:*", "; a pattern is no URL: name one host, such as https://api.openai.com\n"),
        ("ftp://h", "http and https are supported\n"),
        ("me:secret@h", "http and https are supported\n"),
        ("", "it must begin with http:// or https://\n"),
    ],
)
def test_explain_says_how_to_write_what_was_meant(url: str, hint: str) -> None:
    done = run("explain", "--url", url)
    assert done.exit_code == 2
    assert done.output.endswith(hint)
    assert "secret" not in done.output


def test_explain_does_not_print_a_password() -> None:
    done = run("explain", "--url", "https://me:secret@api.openai.com/secret")
    assert done.exit_code == 0
    assert "secret" not in done.output


def test_the_example_can_be_put_in_place(tmp_path: Path) -> None:
    path = tmp_path / "from example.toml"
    path.write_text(run("example").output)
    assert load({}, config_path=str(path)) == Settings()
    assert run("check", "--config", str(path)).output == f"{path} is valid: 48 settings, 0 scopes\n"


@pytest.mark.parametrize("command", ["check", "show", "explain", "example"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    assert "Example: vastar-runtime config" in done.output


@pytest.mark.parametrize("command", ["run", "start", "restart", "stop", "status"])
def test_the_commands_that_need_the_file_take_it_as_an_option(command: str) -> None:
    done = CliRunner().invoke(_group, [command, "--help"])
    assert "--config PATH" in done.output


@pytest.mark.parametrize("command", ["run", "start", "restart"])
def test_a_daemon_does_not_start_with_a_wrong_file(command: str, file: Path) -> None:
    file.write_text("[policy.retry]\nmax_retrys = 1\n")
    done = CliRunner().invoke(_group, [command, "--config", str(file)])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == f"{file}:2: policy.retry.max_retrys: unknown key; did you mean max_retries?"


def test_explain_names_the_tables_that_hold_for_the_request(tmp_path: Path) -> None:
    path = tmp_path / "runtime.toml"
    path.write_text(
        "[[access]]\nusers = [0, 1000]\ngroups = [7]\ntenants = ['a*']\n"
        "[[access]]\ntcp = true\ntenants = ['b']\n"
        "[[credential]]\nname = 'mine'\norigins = ['https://*.a.example']\ntenants = ['b']\nenv = 'A'\n"
        "[[credential]]\nname = 'ours'\norigins = ['https://api.a.example']\nenv = 'B'\n"
        "[[credential]]\nname = 'shadowed'\norigins = ['https://api.a.example']\nenv = 'C'\n"
        "[[budget]]\nname = 'daily'\nper = 'day'\ntokens = 5\n"
        "[[budget]]\nname = 'monthly'\ntenant = 'b'\ncost = 2.5\n"
        "[[price]]\nmodel = '*'\n"
    )

    def tables(tenant: str, url: str = "https://api.a.example/v1") -> list[list[str]]:
        done = run("explain", "--config", str(path), "--tenant", tenant, "--url", url)
        assert done.exit_code == 0
        rows = [re.split(" {2,}", line) for line in done.output.splitlines()]
        return [row for row in rows if row[0].startswith(("access", "credential", "budget"))]

    assert tables("abc") == [
        ["access", "uid 0, 1000; gid 7", f"{path}:4 [[access]] number 1"],
        ["credential.authorization", "ours", f"{path}:14 [[credential]] number 2"],
        ["budget.daily", "5 tokens a day", f"{path}:22 [[budget]] number 1"],
    ]
    assert [row[1] for row in tables("b")] == ["TCP", "mine", "5 tokens a day", "2.5 USD a month"]
    assert [row[1] for row in tables("c", "http://api.a.example")] == ["no one", "5 tokens a day"]


def test_budgets_that_a_restart_would_forget_are_a_note(file: Path) -> None:
    file.write_text('[[budget]]\nname = "monthly"\nper = "month"\ntokens = 7\n')
    homeless = {"HOME": "home", "XDG_STATE_HOME": "", "STATE_DIRECTORY": ""}
    done = run("check", "--config", str(file), **homeless)
    note = "Budgets will not survive a restart: usage is not kept (HOME is relative: 'home'); name a file in [usage]"
    assert (done.exit_code, done.output.splitlines()[1:]) == (0, [f"Note: {note}"])
    assert json.loads(run("check", "--json", "--config", str(file), **homeless).output)["notes"] == [note]
    assert "Note" not in run("check", "--config", str(file), HOME="/home/app").output
