"""RuntimeConfig: built-in values, the environment over them, arguments over both; and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connector_sdk import ConnectorException, ErrorClass, RuntimeConfig

VARIABLES = ("VASTAR_SOCKET_PATH", "VASTAR_USE_TCP", "VASTAR_TCP_HOST", "VASTAR_TCP_PORT", "VASTAR_TIMEOUT")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_built_in_values_are_those_of_the_existing_sdk() -> None:
    assert RuntimeConfig() == RuntimeConfig(
        tenant_id="default",
        workspace_id="",
        timeout_ms=60000,
        socket_path="/tmp/vastar-connector-runtime.sock",
        use_tcp=False,
        tcp_host="127.0.0.1",
        tcp_port=5000,
    )


def _set(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"VASTAR_{name}", value)


def test_the_environment_supplies_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, SOCKET_PATH="/run/v.sock", USE_TCP="true", TCP_HOST="localhost", TCP_PORT="6000", TIMEOUT="1.5")
    config = RuntimeConfig()
    assert (config.socket_path, config.use_tcp, config.tcp_host, config.tcp_port, config.timeout_ms) == (
        "/run/v.sock",
        True,
        "localhost",
        6000,
        1500,
    )


def test_an_argument_wins_even_over_a_bad_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, SOCKET_PATH="/run/v.sock", USE_TCP="maybe", TCP_HOST="a b", TCP_PORT="x", TIMEOUT="soon")
    config = RuntimeConfig(socket_path="/a", use_tcp=False, tcp_host="h", tcp_port=1, timeout_ms=2)
    assert (config.socket_path, config.use_tcp, config.tcp_host, config.tcp_port, config.timeout_ms) == (
        "/a",
        False,
        "h",
        1,
        2,
    )


@pytest.mark.parametrize("name", VARIABLES)
def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plain = RuntimeConfig()
    monkeypatch.setenv(name, "")
    assert RuntimeConfig() == plain


@pytest.mark.parametrize(("text", "expected"), [("TRUE", True), ("1", True), ("false", False), ("0", False)])
def test_use_tcp_in_words(monkeypatch: pytest.MonkeyPatch, text: str, expected: bool) -> None:
    monkeypatch.setenv("VASTAR_USE_TCP", text)
    assert RuntimeConfig().use_tcp is expected


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("VASTAR_USE_TCP", "yes please", "true or false"),
        ("VASTAR_TCP_PORT", "0", "a port from 1 to 65535"),
        ("VASTAR_TCP_PORT", "65536", "a port from 1 to 65535"),
        ("VASTAR_TCP_PORT", "-1", "a port from 1 to 65535"),
        ("VASTAR_TCP_PORT", "٣", "a port from 1 to 65535"),
        ("VASTAR_TCP_PORT", "9" * 5000, "a port from 1 to 65535"),
        ("VASTAR_TCP_HOST", "not a host", "a host name or an IP address"),
        ("VASTAR_TCP_HOST", "a..b", "a host name or an IP address"),
        ("VASTAR_TIMEOUT", "soon", "seconds above 0"),
        ("VASTAR_TIMEOUT", "0", "seconds above 0"),
        ("VASTAR_TIMEOUT", "-5", "seconds above 0"),
        ("VASTAR_TIMEOUT", "nan", "seconds above 0"),
        ("VASTAR_TIMEOUT", "inf", "seconds above 0"),
        ("VASTAR_SOCKET_PATH", "/tmp/" + "x" * 103, "a path of at most 107 bytes; this one has 108"),
    ],
)
def test_a_bad_variable_is_named_with_its_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConnectorException) as e:
        RuntimeConfig()
    assert str(e.value).startswith(f"{name}: ")
    assert value[:100] in str(e.value)
    assert f" cannot be used; it takes {allowed}" in str(e.value)
    assert len(str(e.value)) < 300
    assert e.value.error_class is ErrorClass.INVALID_REQUEST


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout_ms": 0},
        {"timeout_ms": 10**12},
        {"tcp_port": 0},
        {"tcp_port": 70000},
        {"tcp_host": ""},
        {"tcp_host": "a\nb"},
        {"socket_path": ""},
        {"socket_path": "a\0b"},
        {"socket_path": "\ud800"},
        {"socket_path": "/tmp/" + "ä" * 52},
    ],
)
def test_a_bad_argument_is_named_too(settings: dict[str, Any]) -> None:
    with pytest.raises(ConnectorException) as e:
        RuntimeConfig(**settings)
    assert str(e.value).startswith(f"{next(iter(settings))}: ")


@pytest.mark.parametrize(
    "settings",
    [{"timeout_ms": 1.5}, {"timeout_ms": True}, {"tcp_port": "1"}, {"use_tcp": "true"}, {"tenant_id": None}],
)
def test_a_wrong_type_is_named(settings: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(settings))):
        RuntimeConfig(**settings)


def test_a_socket_path_may_be_a_path_object() -> None:
    assert RuntimeConfig(socket_path=Path("/a/b")).socket_path == "/a/b"
