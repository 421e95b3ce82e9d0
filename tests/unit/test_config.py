"""What the daemon is told at start, and how it says that something in it is wrong."""

import os
from pathlib import Path

import pytest
from loaded_settings import load

from vastar_runtime.config import (
    DEFAULT_SOCKET_PATH,
    MAX_SOCKET_PATH_BYTES,
    Listen,
    Settings,
    examine,
    load_socket_path,
    needs_restart,
)
from vastar_runtime.errors import ConfigError, StartupError


@pytest.fixture(autouse=True)
def no_file_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vastar_runtime.config.file.DEFAULT_CONFIG_PATH", str(tmp_path / "runtime.toml"))


def test_an_empty_environment_gives_the_defaults_that_every_sdk_knows() -> None:
    settings = load({})
    assert settings == Settings()
    assert settings.listen.socket_path == "/tmp/vastar-connector-runtime.sock"
    assert settings.listen.socket_mode == 0o600
    assert settings.listen.socket_group is None
    assert settings.listen.tcp_port is None
    assert settings.policy.deadline.idle_timeout_ms == 60_000


def test_empty_variables_are_as_good_as_none() -> None:
    names = ("VASTAR_CONFIG", "VASTAR_SOCKET_PATH", "VASTAR_USE_TCP", "VASTAR_TCP_PORT", "VASTAR_TIMEOUT")
    assert load(dict.fromkeys(names, "")) == Settings()


def test_the_socket_comes_from_the_flag_then_the_variable_then_the_default() -> None:
    environ = {"VASTAR_SOCKET_PATH": "/run/variable.sock"}
    assert load(environ, socket_path="/run/flag.sock").listen.socket_path == "/run/flag.sock"
    assert load(environ).listen.socket_path == "/run/variable.sock"
    assert load({}).listen.socket_path == DEFAULT_SOCKET_PATH


def test_a_relative_socket_path_does_not_move_with_the_working_directory() -> None:
    assert load({"VASTAR_SOCKET_PATH": "a.sock"}).listen.socket_path == os.path.join(os.getcwd(), "a.sock")


def test_mode_and_group_come_from_flags() -> None:
    settings = load({}, socket_mode="0660", socket_group="staff")
    assert settings.listen.socket_mode == 0o660
    assert settings.listen.socket_group == "staff"


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({"VASTAR_USE_TCP": "true"}, 5000),
        ({"VASTAR_USE_TCP": "TRUE"}, 5000),
        ({"VASTAR_USE_TCP": " 1 "}, 5000),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": ""}, 5000),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "0"}, 0),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "65535"}, 65535),
        ({"VASTAR_USE_TCP": "false", "VASTAR_TCP_PORT": "nonsense"}, None),
        ({"VASTAR_USE_TCP": "0"}, None),
        ({"VASTAR_TCP_PORT": "5000"}, None),
    ],
)
def test_tcp_is_for_those_who_ask(environ: dict[str, str], port: int | None) -> None:
    assert load(environ).listen.tcp_port == port


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("30", 30_000), ("0.5", 500), ("1e3", 1_000_000), (" 7 ", 7000), ("1e-9", 1), ("1e9", 2_000_000_000)],
)
def test_the_timeout_is_in_seconds(text: str, milliseconds: int) -> None:
    assert load({"VASTAR_TIMEOUT": text}).policy.deadline.idle_timeout_ms == milliseconds


NINES = "9" * 5000
SHUTS_OUT = "keeps the socket's own user out, who must be able to write: such as 0600 or 0660"
SHOWN_NINES = f"{'9' * 80!r}… (5000 characters)"
NO_TIMEOUT = "cannot be used; it takes seconds above 0"
NO_PORT = "is no port; it takes a number from 0 to 65535"
LONG = "/run/" + "x" * 200
TOO_LONG = f"the path has 205 bytes; the system allows {MAX_SOCKET_PATH_BYTES} for a socket: choose a shorter one"


@pytest.mark.parametrize(
    ("environ", "flags", "message"),
    [
        ({"VASTAR_SOCKET_PATH": "a\0b"}, {}, "VASTAR_SOCKET_PATH: 'a\\x00b' is no path of a socket"),
        ({}, {"socket_path": "a\0b"}, "--socket: 'a\\x00b' is no path of a socket"),
        ({}, {"socket_path": ""}, "--socket: '' is no path of a socket"),
        ({"VASTAR_SOCKET_PATH": LONG}, {}, f"VASTAR_SOCKET_PATH: {TOO_LONG}"),
        ({}, {"socket_path": LONG}, f"--socket: {TOO_LONG}"),
        ({"VASTAR_USE_TCP": "yes"}, {}, "VASTAR_USE_TCP: 'yes' is neither true nor false"),
        ({"VASTAR_USE_TCP": "yes", "VASTAR_TCP_PORT": "5000"}, {}, "VASTAR_USE_TCP: 'yes' is neither true nor false"),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "http"}, {}, f"VASTAR_TCP_PORT: 'http' {NO_PORT}"),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "65536"}, {}, f"VASTAR_TCP_PORT: '65536' {NO_PORT}"),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "-1"}, {}, f"VASTAR_TCP_PORT: '-1' {NO_PORT}"),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "²"}, {}, f"VASTAR_TCP_PORT: '²' {NO_PORT}"),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": NINES}, {}, f"VASTAR_TCP_PORT: {SHOWN_NINES} {NO_PORT}"),
        ({"VASTAR_TIMEOUT": "soon"}, {}, f"VASTAR_TIMEOUT: 'soon' {NO_TIMEOUT}"),
        ({"VASTAR_TIMEOUT": "0"}, {}, f"VASTAR_TIMEOUT: '0' {NO_TIMEOUT}"),
        ({"VASTAR_TIMEOUT": "-5"}, {}, f"VASTAR_TIMEOUT: '-5' {NO_TIMEOUT}"),
        ({"VASTAR_TIMEOUT": "nan"}, {}, f"VASTAR_TIMEOUT: 'nan' {NO_TIMEOUT}"),
        ({"VASTAR_TIMEOUT": "inf"}, {}, f"VASTAR_TIMEOUT: 'inf' {NO_TIMEOUT}"),
        ({}, {"socket_mode": "rw"}, "--socket-mode: 'rw' is no octal permission such as 0600 or 0660"),
        ({}, {"socket_mode": "0888"}, "--socket-mode: '0888' is no octal permission such as 0600 or 0660"),
        ({}, {"socket_mode": "1777"}, "--socket-mode: '1777' is no octal permission such as 0600 or 0660"),
        ({}, {"socket_mode": "-1"}, "--socket-mode: '-1' is no octal permission such as 0600 or 0660"),
        ({}, {"socket_mode": "7"}, f"--socket-mode: '7' {SHUTS_OUT}"),
        ({}, {"socket_mode": ""}, "--socket-mode: '' is no octal permission such as 0600 or 0660"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_named_with_what_is_allowed(
    environ: dict[str, str], flags: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ, **flags)
    assert isinstance(caught.value, StartupError)
    assert "\n" not in str(caught.value)
    assert str(caught.value) == message


def test_the_length_of_a_socket_path_is_counted_in_bytes() -> None:
    fits = "/" + "ü" * 53
    assert load({}, socket_path=fits).listen.socket_path == fits
    with pytest.raises(ConfigError, match="the path has 109 bytes"):
        load({}, socket_path=fits + "ü")


def test_a_relative_path_that_is_too_long_once_it_is_absolute_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.chdir(deep)
    with pytest.raises(ConfigError, match="choose a shorter one"):
        load({}, socket_path="a.sock")


LISTEN = """
[listen]
socket = "/run/file.sock"
socket_mode = "0660"
socket_group = "staff"
tcp_port = 6000
[policy.deadline]
idle_timeout_ms = 1500
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "listen.toml"
    path.write_text(LISTEN)
    return str(path)


def test_the_file_goes_over_the_defaults(file: str) -> None:
    settings = load({}, config_path=file)
    assert settings.listen == Listen(
        socket_path="/run/file.sock", socket_mode=0o660, socket_group="staff", tcp_port=6000
    )
    assert settings.policy.deadline.idle_timeout_ms == 1500


def test_variables_go_over_the_file_and_flags_over_both(file: str) -> None:
    environ = {"VASTAR_CONFIG": file, "VASTAR_SOCKET_PATH": "/run/variable.sock", "VASTAR_TIMEOUT": "7"}
    settings = load(environ)
    assert settings.listen.socket_path == "/run/variable.sock"
    assert settings.policy.deadline.idle_timeout_ms == 7000
    settings = load(environ, socket_path="/run/flag.sock", socket_mode="0640", socket_group="app")
    assert settings.listen.socket_path == "/run/flag.sock"
    assert (settings.listen.socket_mode, settings.listen.socket_group) == (0o640, "app")


@pytest.mark.parametrize(
    ("environ", "in_file", "port"),
    [
        ({}, 6000, 6000),
        ({"VASTAR_USE_TCP": "true"}, 6000, 6000),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "7000"}, 6000, 7000),
        ({"VASTAR_TCP_PORT": "7000"}, 6000, 7000),
        ({"VASTAR_USE_TCP": "false"}, 6000, None),
        ({"VASTAR_USE_TCP": "0", "VASTAR_TCP_PORT": "nonsense"}, 6000, None),
        ({"VASTAR_USE_TCP": "true"}, "none", 5000),
        ({"VASTAR_TCP_PORT": "7000"}, "none", None),
    ],
)
def test_a_variable_can_turn_tcp_on_off_and_elsewhere(
    environ: dict[str, str], in_file: object, port: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "tcp.toml"
    path.write_text(f"listen.tcp_port = {in_file!r}")
    assert load(environ, config_path=str(path)).listen.tcp_port == port


def test_loading_again_reads_the_file_again(file: str) -> None:
    before = load({}, config_path=file)
    Path(file).write_text(LISTEN.replace("6000", "6001").replace("0660", "0600") + "[admission]\nmax_queued = 0")
    after = load({}, config_path=file)
    assert after.admission.max_queued == 0
    assert needs_restart(before, after) == ["listen.socket_mode", "listen.tcp_port"]
    assert needs_restart(after, load({}, config_path=file)) == []


def test_one_mistake_is_raised_and_the_command_for_the_others_is_named(tmp_path: Path) -> None:
    path = tmp_path / "two words.toml"
    path.write_text("[admission]\nmax_queued = -1\nmax_queud = 2\n")
    with pytest.raises(ConfigError) as caught:
        load({"VASTAR_TIMEOUT": "soon"}, config_path=str(path))
    assert str(caught.value) == (
        f"{path}:2: admission.max_queued: found -1; allowed: a whole number from 0 to 1000000"
        f" (and 2 more: vastar-runtime config check --config '{path}')"
    )


def test_the_mistakes_of_file_and_variables_come_together() -> None:
    examined = examine({"VASTAR_TIMEOUT": "soon", "VASTAR_USE_TCP": "x"}, socket_mode="rw")
    assert [mistake.key[-1] for mistake in examined.mistakes] == ["socket_mode", "tcp_port", "idle_timeout_ms"]
    assert examined.settings == Settings()


def test_both_variables_of_tcp_are_told_when_both_are_wrong(file: str) -> None:
    environ = {"VASTAR_USE_TCP": "yes", "VASTAR_TCP_PORT": "abc"}
    expected = ["VASTAR_USE_TCP: 'yes' is neither true nor false", f"VASTAR_TCP_PORT: 'abc' {NO_PORT}"]
    for examined in (examine(environ), examine(environ, config_path=file)):
        assert [mistake.text for mistake in examined.mistakes] == expected
    assert examine(environ).settings == Settings()


def test_what_the_file_sets_is_counted_and_what_goes_over_it_too_but_not_whom_it_is_about(file: str) -> None:
    with open(file, "a") as opened:
        opened.write("[[scope]]\ntenant = 'a'\norigin = 'http://h'\nretry = { max_retries = 1, budget_minimum = 0 }\n")
    assert examine({"VASTAR_TIMEOUT": "1"}, config_path=file, socket_group="x").settings_in_file == 7
    assert examine({"VASTAR_TIMEOUT": "1"}).settings_in_file == 0


def test_a_file_that_cannot_be_used_is_named_all_the_same(tmp_path: Path) -> None:
    default = tmp_path / "runtime.toml"
    assert examine({}).file is None
    assert examine({}, config_path=str(tmp_path)).file == str(tmp_path)
    missing = examine({"VASTAR_CONFIG": str(tmp_path / "missing.toml"), "VASTAR_TIMEOUT": "soon"})
    assert missing.file == str(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match=r"and 1 more: vastar-runtime config check --config .*missing\.toml\)$"):
        missing.valid()
    default.write_text("[listen")
    broken = examine({})
    assert (broken.file, len(broken.mistakes)) == (str(default), 1)
    assert examine({}, config_path="a\0b").file is None


def test_sources_tell_where_a_key_is_set(file: str) -> None:
    sources = examine({"VASTAR_TIMEOUT": "1"}, config_path=file, socket_mode="0600").sources
    assert sources == {
        ("listen", "socket"): f"{file}:3",
        ("listen", "socket_mode"): "--socket-mode",
        ("listen", "socket_group"): f"{file}:5",
        ("listen", "tcp_port"): f"{file}:6",
        ("policy", "deadline", "idle_timeout_ms"): "VASTAR_TIMEOUT",
    }


class TestFindingTheDaemon:
    """``stop`` must work with a file that would not let ``start``."""

    def test_a_socket_that_is_named_needs_no_file(self, tmp_path: Path) -> None:
        environ = {"VASTAR_CONFIG": str(tmp_path / "missing.toml")}
        assert load_socket_path(environ, socket_path="/run/flag.sock") == "/run/flag.sock"
        assert load_socket_path(environ | {"VASTAR_SOCKET_PATH": "/run/v.sock"}) == "/run/v.sock"

    def test_the_files_socket_counts_whatever_else_is_wrong_in_it(self, tmp_path: Path) -> None:
        path = tmp_path / "runtime.toml"  # the default one
        path.write_text("[listen]\nsocket = '/run/file.sock'\ntcp_port = 'no'\n[policy]\nretries = 9\n")
        assert load_socket_path({"VASTAR_TIMEOUT": "soon"}) == "/run/file.sock"

    @pytest.mark.parametrize("text", ["[listen", "listen = 3", "listen.socket = 7"])
    def test_a_file_that_does_not_tell_is_refused_with_the_way_round_it(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "runtime.toml"
        path.write_text(text)
        with pytest.raises(
            ConfigError, match=r"^[^\n]*runtime.toml:1: [^\n]* \(or say where the daemon is: --socket\)$"
        ):
            load_socket_path({})
