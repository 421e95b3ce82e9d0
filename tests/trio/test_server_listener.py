"""The listening socket: nobody gets in before its permissions are set, and nobody's place is taken."""

import errno
import fcntl
import grp
import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from wire_client import connected

from vastar_runtime.errors import StartupError
from vastar_runtime.server.listener import tcp_listener, unix_listener


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="vcr-") as directory:
        yield f"{directory}/s"
        assert os.listdir(directory) == []


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    assert os.umask(before) == 0, "the process's umask has been changed"


def mode(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


async def test_nobody_can_connect_before_the_socket_has_its_mode_and_it_never_has_more(path, open_umask, monkeypatch):
    seen = []
    real_chmod = os.chmod

    def watched_chmod(target, bits):
        seen.append(mode(target))
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect(target)
        real_chmod(target, bits)

    monkeypatch.setattr("os.chmod", watched_chmod)
    with unix_listener(path, 0o660, str(os.getgid())):
        assert seen == [0o600]
        assert mode(path) == 0o660
        async with connected(path):
            pass


def test_the_group_may_be_named(path):
    with unix_listener(path, 0o660, grp.getgrgid(os.getgid()).gr_name):
        assert os.stat(path).st_gid == os.getgid()


def test_a_group_that_may_not_be_given_leaves_no_socket(path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.chown", refuse)
    advice = r"; the daemon's user must be in that group \(SupplementaryGroups= in a unit\)"
    with pytest.raises(StartupError, match=rf"cannot give .*/s its group or mode: Operation not permitted{advice}$"):
        unix_listener(path, 0o660, "0").__enter__()
    assert not os.path.lexists(path)
    with pytest.raises(StartupError, match=r"^listen\.socket_group: there is no group 'no-such' on this machine$"):
        unix_listener(path, 0o660, "no-such").__enter__()


def test_a_lock_that_its_last_holder_removes_meanwhile_is_not_taken_for_one(path, monkeypatch):
    """Between our open and our lock the holder has ended, and a third daemon may hold a new file of that name."""
    real_flock = fcntl.flock
    calls = []

    def flock(fd, operation):
        if not calls:
            os.unlink(f"{path}.lock")
        calls.append(fd)
        real_flock(fd, operation)

    monkeypatch.setattr("fcntl.flock", flock)
    with unix_listener(path, 0o600, None):
        assert len(calls) == 2
        assert Path(f"{path}.lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_without_a_pid_is_a_live_daemon_too(path):
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StartupError, match=r"another daemon \(PID unknown\) on .* is starting or shutting down"):
            unix_listener(path, 0o600, None).__enter__()
        os.unlink(lock.name)


def test_a_file_system_without_locks_is_said(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StartupError, match=r"cannot listen on .*: No locks available"):
        unix_listener(path, 0o600, None).__enter__()
    os.unlink(f"{path}.lock")


def test_a_full_disk_under_the_lock_is_said_of_the_lock(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.write", refuse)
    with pytest.raises(StartupError, match=r"cannot listen on .*/s\.lock: No space left on device; make room, or "):
        unix_listener(path, 0o600, None).__enter__()


def test_another_daemon_s_lock_is_left_to_it(path):
    """A cleaner of old files has removed ours, and a daemon that started after that has one of its own."""
    with unix_listener(path, 0o600, None):
        os.unlink(f"{path}.lock")
        Path(f"{path}.lock").write_text("4711\n")
    assert Path(f"{path}.lock").read_text() == "4711\n"
    os.unlink(f"{path}.lock")


async def test_a_stale_lock_file_is_no_obstacle(path):
    Path(f"{path}.lock").write_text("4711\n")
    with unix_listener(path, 0o600, None):
        async with connected(path):
            pass


async def test_the_directory_may_vanish_while_listening(path):
    with unix_listener(path, 0o600, None):
        os.unlink(path)
        os.unlink(f"{path}.lock")


async def test_a_port_that_is_taken_is_named():
    async with await tcp_listener("127.0.0.1", 0) as taken:
        host, port = taken.socket.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(StartupError, match=rf"127\.0\.0\.1:{port}: Address already in use; .*VASTAR_TCP_PORT"):
            await tcp_listener(host, port)


async def test_an_address_of_another_machine_is_named():
    with pytest.raises(StartupError, match=r"192\.0\.2\.7:0: Cannot assign .*listen\.tcp_host"):
        await tcp_listener("192.0.2.7", 0)
