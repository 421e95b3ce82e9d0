"""Starting: the socket and its permissions, who is there already, and what cannot be used."""

import os
import re
import socket
import stat
from contextlib import ExitStack

import pytest
import trio
from daemon_process import daemon, refused, socket_directory, starting
from wire_client import connected


@pytest.fixture
def directory():
    with socket_directory() as directory:
        yield directory


async def answers(path: str) -> bool:
    async with connected(path) as client:
        return (await client.health()).healthy


def mode(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


async def test_the_socket_is_its_owner_s_alone_unless_told_otherwise(directory):
    path = directory / "s"
    with daemon(socket_path=path):
        assert mode(path) == 0o600
        assert mode(f"{path}.lock") == 0o600
        assert await answers(str(path))
    with daemon("--socket-mode", "0660", "--socket-group", str(os.getgid()), socket_path=path):
        assert mode(path) == 0o660
        assert os.stat(path).st_gid == os.getgid()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told_once_connections_are_accepted(directory, monkeypatch, abstract, workers):
    name = f"{directory}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if abstract else name)
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        with daemon("--workers", str(workers), socket_path=directory / "s") as started:
            assert manager.recv(100) == b"READY=1"
            assert started.stop() == 0, started.log
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_a_service_manager_that_is_not_there_is_named_and_nothing_else_happens(directory, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", f"{directory}/nobody")
    with daemon(socket_path=directory / "s") as started:
        assert started.stop() == 0
    assert "the service manager cannot be told that this is ready" in started.log
    assert f"{directory}/nobody" in started.log


async def test_a_stale_socket_is_replaced(directory):
    path = str(directory / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    with daemon(socket_path=path):
        assert await answers(path)


async def test_a_live_daemon_is_not_displaced():
    with daemon() as first:
        reason = refused(socket_path=first.socket_path)
        assert f"another daemon (PID {first.process.pid}) is alive on {first.socket_path}" in reason
        assert "vastar-runtime stop" in reason
        assert await answers(first.socket_path)
        assert first.stop() == 0, first.log


def test_the_existing_runtime_which_knows_no_lock_is_not_displaced(directory):
    path = str(directory / "s")
    with socket.socket(socket.AF_UNIX) as legacy:
        legacy.bind(path)
        legacy.listen()
        assert f"another daemon is alive on {path}" in refused(socket_path=path)
        assert os.path.exists(path)
        assert not os.path.exists(f"{path}.lock")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_an_existing_runtime_that_accepts_no_one_is_not_displaced_either(directory):
    path = str(directory / "s")
    with ExitStack() as stack:
        legacy = stack.enter_context(socket.socket(socket.AF_UNIX))
        legacy.bind(path)
        legacy.listen(0)
        for _ in range(2):  # its backlog is full
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            waiting.connect_ex(path)
        assert f"another daemon holds {path} and does not answer" in refused(socket_path=path)


@pytest.mark.unmeasured
@pytest.mark.parametrize("attempt", range(3))
async def test_of_two_daemons_that_start_at_the_same_moment_one_runs(directory, attempt):
    path = str(directory / "s")
    with starting(socket_path=path) as one, starting(socket_path=path) as other:
        said = {one: one.ready(), other: other.ready()} if attempt % 2 else {other: other.ready(), one: one.ready()}
        assert sorted(said.values())[1] == "ready", said
        (loser,) = [daemon for daemon, words in said.items() if words != "ready"]
        (winner,) = [daemon for daemon, words in said.items() if words == "ready"]
        assert loser.wait() == 1
        assert "another daemon (PID" in said[loser]
        assert await answers(path)
        assert winner.stop() == 0
    assert os.listdir(directory) == []


@pytest.mark.unmeasured
async def test_after_kill_9_the_next_one_starts(directory):
    path = str(directory / "s")
    with daemon(socket_path=path) as killed:
        killed.process.kill()
        killed.wait()
        assert sorted(os.listdir(directory)) == ["s", "s.lock"]
    with daemon(socket_path=path) as running:
        assert await answers(path)
        assert running.stop() == 0
    assert os.listdir(directory) == []


def test_a_file_that_is_no_socket_is_left_alone(directory):
    path = directory / "s"
    path.write_text("precious")
    assert refused(socket_path=path) == (
        f"{path} exists and is no socket; remove it, or choose another VASTAR_SOCKET_PATH"
    )
    assert path.read_text() == "precious"
    path.unlink()
    path.symlink_to(directory / "elsewhere")
    assert "is no socket" in refused(socket_path=path)


def test_a_lock_that_is_a_link_is_not_followed(directory):
    (directory / "s.lock").symlink_to(directory / "precious")
    assert "cannot listen on" in refused(socket_path=directory / "s")
    assert not (directory / "precious").exists()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/sys/s", "(Permission denied|Read-only file system|Operation not permitted)"),  # not even root may
        ("/dev/null/s", "Not a directory"),
        ("{directory}/missing/s", "No such file or directory"),
        ("{directory}", "Is a directory|no socket"),
    ],
)
def test_a_directory_that_cannot_be_used_is_named(directory, path, why):
    path = path.format(directory=directory)
    reason = refused(socket_path=path)
    assert path in reason
    assert "VASTAR_SOCKET_PATH" in reason
    assert re.search(why, reason), reason


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"VASTAR_USE_TCP": "yes"}, "VASTAR_USE_TCP: 'yes' is neither true nor false"),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "70000"}, "VASTAR_TCP_PORT: '70000'"),
        ({"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "-1"}, "VASTAR_TCP_PORT: '-1'"),
        ({"VASTAR_TIMEOUT": "soon"}, "VASTAR_TIMEOUT: 'soon'"),
        ({"VASTAR_TIMEOUT": "0"}, "VASTAR_TIMEOUT: '0'"),
        ({"VASTAR_TIMEOUT": "inf"}, "VASTAR_TIMEOUT: 'inf'"),
        ({"HTTPS_PROXY": "socks5://h:1"}, "HTTPS_PROXY"),
        ({"http_proxy": "http://h:99999"}, "http_proxy"),
    ],
    ids=str,
)
def test_a_variable_that_cannot_be_used_is_named(variables, words):
    exit_code = 2 if all(name.startswith("VASTAR_") for name in variables) else 1
    assert words in refused(variables=variables, exit_code=exit_code)


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--socket-mode", "999"], "--socket-mode: '999'"),
        (["--socket-mode", "01777"], "--socket-mode: '01777'"),
        (["--socket-group", "no-such-group"], "--socket-group: there is no group 'no-such-group'"),
        (["--socket-group", "4294967295"], "--socket-group: there is no group '4294967295'"),
        (["--socket-group", "9" * 5000], "--socket-group: there is no group '999"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_flag_that_cannot_be_used_is_named(options, words):
    assert words in refused(*options, exit_code=2)


def test_a_socket_path_that_is_too_long_is_said():
    reason = refused(socket_path="/tmp/" + "x" * 200, exit_code=2)
    assert "205 bytes" in reason
    assert "107" in reason


async def test_tcp_on_a_free_port_of_127_0_0_1_only():
    with daemon(variables={"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "0"}) as running:
        async with connected(running.tcp_port) as client:
            assert (await client.health()).healthy
        assert await answers(running.socket_path)
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.2", running.tcp_port)


def test_a_tcp_port_that_is_taken_is_named_and_no_socket_is_left(directory):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        reason = refused(
            socket_path=directory / "s", variables={"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": str(port)}
        )
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in reason
    assert os.listdir(directory) == []
