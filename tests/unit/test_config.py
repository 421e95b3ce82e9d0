"""What the daemon is told at start, and how it says that something in it is wrong."""

import os
from pathlib import Path

import pytest

from vastar_runtime.config import (
    DEFAULT_SOCKET_PATH,
    MAX_SOCKET_PATH_BYTES,
    Settings,
    load,
)
from vastar_runtime.errors import ConfigError, StartupError


def test_an_empty_environment_gives_the_defaults_that_every_sdk_knows() -> None:
    settings = load({})
    assert settings == Settings()
    assert settings.socket_path == "/tmp/vastar-connector-runtime.sock"
    assert settings.socket_mode == 0o600
    assert settings.socket_group is None
    assert settings.tcp_port is None
    assert settings.timeout_s == 60.0


def test_empty_variables_are_as_good_as_none() -> None:
    names = ("VASTAR_SOCKET_PATH", "VASTAR_USE_TCP", "VASTAR_TCP_PORT", "VASTAR_TIMEOUT")
    assert load(dict.fromkeys(names, "")) == Settings()


def test_the_socket_comes_from_the_flag_then_the_variable_then_the_default() -> None:
    environ = {"VASTAR_SOCKET_PATH": "/run/variable.sock"}
    assert load(environ, socket_path="/run/flag.sock").socket_path == "/run/flag.sock"
    assert load(environ).socket_path == "/run/variable.sock"
    assert load({}).socket_path == DEFAULT_SOCKET_PATH


def test_a_relative_socket_path_does_not_move_with_the_working_directory() -> None:
    assert load({"VASTAR_SOCKET_PATH": "a.sock"}).socket_path == os.path.join(os.getcwd(), "a.sock")


def test_mode_and_group_come_from_flags() -> None:
    settings = load({}, socket_mode="0660", socket_group="staff")
    assert settings.socket_mode == 0o660
    assert settings.socket_group == "staff"


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
    assert load(environ).tcp_port == port


@pytest.mark.parametrize(("text", "seconds"), [("30", 30.0), ("0.5", 0.5), ("1e3", 1000.0), (" 7 ", 7.0)])
def test_the_timeout_is_in_seconds(text: str, seconds: float) -> None:
    assert load({"VASTAR_TIMEOUT": text}).timeout_s == seconds


NINES = "9" * 5000
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
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "http"}, {}, f"VASTAR_TCP_PORT: 'http' {NO_PORT}"),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "65536"}, {}, f"VASTAR_TCP_PORT: '65536' {NO_PORT}"),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "-1"}, {}, f"VASTAR_TCP_PORT: '-1' {NO_PORT}"),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "²"}, {}, f"VASTAR_TCP_PORT: '²' {NO_PORT}"),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": NINES}, {}, f"VASTAR_TCP_PORT: '{NINES}' {NO_PORT}"),
        ({"VASTAR_TIMEOUT": "soon"}, {}, "VASTAR_TIMEOUT: 'soon' is no number of seconds above 0"),
        ({"VASTAR_TIMEOUT": "0"}, {}, "VASTAR_TIMEOUT: '0' is no number of seconds above 0"),
        ({"VASTAR_TIMEOUT": "-5"}, {}, "VASTAR_TIMEOUT: '-5' is no number of seconds above 0"),
        ({"VASTAR_TIMEOUT": "nan"}, {}, "VASTAR_TIMEOUT: 'nan' is no number of seconds above 0"),
        ({"VASTAR_TIMEOUT": "inf"}, {}, "VASTAR_TIMEOUT: 'inf' is no number of seconds above 0"),
        ({}, {"socket_mode": "rw"}, "--socket-mode: 'rw' is no octal permission such as 0600 or 0660"),
        ({}, {"socket_mode": "0888"}, "--socket-mode: '0888' is no octal permission such as 0600 or 0660"),
        ({}, {"socket_mode": "1777"}, "--socket-mode: '1777' is no octal permission such as 0600 or 0660"),
        ({}, {"socket_mode": "-1"}, "--socket-mode: '-1' is no octal permission such as 0600 or 0660"),
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
    assert load({}, socket_path=fits).socket_path == fits
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
