"""Daemons that are started, found and stopped with a configuration file."""

from collections.abc import Iterator

import pytest
from command_place import Place, place, read_until


@pytest.fixture
def runtime() -> Iterator[Place]:
    """No variable names the socket: the file does."""
    with place() as opened:
        del opened.environ["VASTAR_SOCKET_PATH"]
        yield opened


def write(runtime: Place, more: str = "") -> None:
    (runtime.directory / "runtime.toml").write_text(f'[listen]\nsocket = "{runtime.socket}"\n{more}')


def test_a_daemon_listens_where_a_file_with_a_relative_path_says(runtime: Place) -> None:
    write(runtime, 'socket_mode = "0640"\n')
    done = runtime.run("start", "--config", "runtime.toml")
    assert done.returncode == 0, done.stderr
    assert f"Socket: {runtime.socket}" in done.stdout
    assert runtime.socket.stat().st_mode & 0o777 == 0o640
    status = runtime.run("status", "--config", "runtime.toml")
    assert status.returncode == 0
    assert f"Socket: {runtime.socket}" in status.stdout
    again = runtime.run("start", VASTAR_CONFIG="runtime.toml")
    assert "Already running" in again.stdout
    stopped = runtime.run("stop", VASTAR_CONFIG="runtime.toml")
    assert stopped.returncode == 0
    assert "Stopped" in stopped.stdout


def test_a_file_that_the_variable_names_by_a_relative_path_is_found_by_the_daemon(runtime: Place) -> None:
    write(runtime)
    done = runtime.run("start", VASTAR_CONFIG="runtime.toml")
    assert done.returncode == 0, done.stderr
    assert runtime.run("stop", "--socket", str(runtime.socket)).returncode == 0


def test_a_daemon_is_stopped_though_its_file_is_broken_by_now(runtime: Place) -> None:
    write(runtime)
    assert runtime.run("start", "--config", "runtime.toml").returncode == 0
    write(runtime, "[policy.retry]\nmax_retrys = 1\n")
    refused = runtime.run("restart", "--config", "runtime.toml")
    assert refused.returncode == 1
    assert "runtime.toml:4: policy.retry.max_retrys: unknown key; did you mean max_retries?" in refused.stderr
    assert runtime.run("status", "--config", "runtime.toml").returncode == 0, "a refused restart stops nothing"
    stopped = runtime.run("stop", "--config", "runtime.toml")
    assert stopped.returncode == 0, stopped.stderr
    assert "Stopped" in stopped.stdout


def test_run_tells_what_is_wrong_in_one_line(runtime: Place) -> None:
    write(runtime, "tcp_port = -1\n")
    done = runtime.run("run", "--config", "runtime.toml")
    assert done.returncode == 1
    path = runtime.directory / "runtime.toml"
    assert done.stderr == (
        f'Error: {path}:3: listen.tcp_port: found -1; allowed: a whole number from 0 to 65535, or "none"\n'
    )
    assert not runtime.socket.exists()


def test_run_listens_where_the_file_says(runtime: Place) -> None:
    write(runtime, "tcp_port = 0\n")
    daemon = runtime.begin("run", "--config", "runtime.toml")
    started = read_until(daemon.stderr, "started")
    assert str(runtime.socket) in started
    assert "tcp_port" in started
