"""Where a command that makes requests finds the daemon, when the configuration is not for its user's eyes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vastar_runtime.config import DEFAULT_SOCKET_PATH, client_socket, examine, load_socket_path
from vastar_runtime.errors import ConfigError

DENIED = "runtime.toml: Permission denied"


@pytest.fixture(autouse=True)
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The default one, which another user keeps to itself."""

    def denied(path: str) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "runtime.toml"
    path.touch()
    monkeypatch.setattr("vastar_runtime.config.file.DEFAULT_CONFIG_PATH", str(path))
    monkeypatch.setattr("vastar_runtime.config.file._read", denied)
    return path


def test_a_client_goes_to_the_default_socket_as_the_sdk_does_and_knows_that_it_may_be_another(file: Path) -> None:
    for environ in ({}, {"VASTAR_CONFIG": str(file)}):
        found = client_socket(environ)
        assert found.path == DEFAULT_SOCKET_PATH
        assert DENIED in found.unread
        assert [mistake.is_forbidden for mistake in examine(environ).mistakes] == [True]
    assert client_socket({"VASTAR_SOCKET_PATH": "/run/v.sock"}) == ("/run/v.sock", "")


def test_who_controls_the_daemon_is_not_sent_to_one_that_may_be_another(file: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{DENIED}.* \(or say where the daemon is: --socket\)$"):
        load_socket_path({})


def test_a_file_that_was_named_on_the_command_line_or_is_wrong_is_not_passed_over(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=DENIED):
        client_socket({}, config_path=str(file))
    monkeypatch.setattr("vastar_runtime.config.file._read", lambda _: b"[listen")
    with pytest.raises(ConfigError, match=r"runtime.toml:1: "):
        client_socket({})
    monkeypatch.setattr("vastar_runtime.config.file._read", lambda _: b"listen.socket = '/run/file.sock'")
    assert client_socket({}) == ("/run/file.sock", "")
