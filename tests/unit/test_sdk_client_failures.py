"""What the client makes of a daemon that is not there, goes away or does not answer, and of an interrupt or a fork."""

from __future__ import annotations

import grp
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

import pytest
from scripted_daemon import (
    Peer,
    ScriptedDaemon,
    config_for,
    error_frame,
    response_frame,
    say_hello,
    socket_path,
    stay_silent,
)

import connector_sdk.connection
import connector_sdk.connection_errors
from connector_sdk import GET, ConnectorException, ErrorClass, RuntimeClient, RuntimeConfig
from connector_sdk.wire import ExecuteRequest

__all__ = ["socket_path"]

REQUEST = GET("http://u/")
PORT_OF_NOBODY = 1


def _failure(client: RuntimeClient) -> ConnectorException:
    with pytest.raises(ConnectorException) as e:
        client.execute_http(REQUEST)
    assert "\n" not in str(e.value)
    return e.value


@pytest.mark.parametrize("error_class", [c for c in ErrorClass if c is not ErrorClass.SUCCESS])
def test_an_error_of_the_daemon_is_raised_and_the_connection_goes_on(socket_path: str, error_class: ErrorClass) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.send(error_frame(request.request_id, error_class, "what happened"))

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        errors = [_failure(client) for _ in range(2)]
        assert len(daemon.peers) == 1
    assert {(str(error), error.error_class) for error in errors} == {("what happened", error_class)}
    assert [error.request_id for error in errors] == [request.request_id for request in daemon.requests]


def test_no_socket(socket_path: str) -> None:
    """The message names the socket and the command that helps."""
    for call in (lambda c: c.connect(), lambda c: c.execute_http(REQUEST), lambda c: c.__enter__()):
        with pytest.raises(ConnectorException, match="vastar-runtime start") as e:
            call(RuntimeClient(config_for(socket_path)))
        assert socket_path in str(e.value)
        assert e.value.error_class is ErrorClass.TRANSIENT


def test_a_socket_that_a_dead_daemon_left_behind(socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(socket_path)
    message = str(_failure(RuntimeClient(config_for(socket_path))))
    assert f"no daemon answers at socket {socket_path} (Connection refused)" in message
    assert message.endswith("; if it is shutting down, wait until it has ended")  # from here it looks the same


def test_nobody_at_the_tcp_port() -> None:
    config = RuntimeConfig(use_tcp=True, tcp_host="127.0.0.1", tcp_port=PORT_OF_NOBODY)
    error = _failure(RuntimeClient(config))
    assert f"127.0.0.1:{PORT_OF_NOBODY}" in str(error)
    assert "vastar-runtime start" in str(error)
    assert error.is_retryable()


@contextmanager
def _not_as_root() -> Iterator[None]:
    """Root may connect to everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_something_else_than_a_socket_is_told_as_such_to_who_may_write_it_and_to_who_may_not(socket_path: str) -> None:
    os.chmod(os.path.dirname(socket_path), 0o755)
    with open(socket_path, "w"):
        pass
    for user in (nullcontext(), _not_as_root()):
        with user:
            error = _failure(RuntimeClient(config_for(socket_path)))
        assert str(error) == (
            f"no daemon answers at socket {socket_path} (what lies there is no socket, and its owner has uid "
            f"{os.geteuid()}); remove it, or choose another path (VASTAR_SOCKET_PATH), for the daemon as well"
        )
        assert error.error_class is ErrorClass.TRANSIENT


def test_a_mode_that_keeps_out_the_socket_s_own_user(socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(socket_path)
    if os.geteuid() == 0:
        os.chown(socket_path, 65534, -1)
        os.chmod(os.path.dirname(socket_path), 0o755)
    os.chmod(socket_path, 0o007)
    with _not_as_root():
        error = _failure(RuntimeClient(config_for(socket_path)))
    advice = f"its mode is 0007 and its owner is this user, whom that keeps out: chmod u+rw {socket_path}"
    assert str(error) == f"no permission to use socket {socket_path}: {advice}"


def test_a_socket_that_belongs_to_someone_else(socket_path: str) -> None:
    with ScriptedDaemon(say_hello, socket_path):
        os.chmod(os.path.dirname(socket_path), 0o755)
        os.chmod(socket_path, 0o000)
        with _not_as_root():
            error = _failure(RuntimeClient(config_for(socket_path)))
        assert f"no permission to use socket {socket_path}: its mode is 0000" in str(error)
        assert "--socket-mode" in str(error)
        assert error.error_class is ErrorClass.PERMANENT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to any group")
def test_a_socket_for_a_group_that_this_user_is_not_in(socket_path: str) -> None:
    with ScriptedDaemon(say_hello, socket_path):
        os.chmod(os.path.dirname(socket_path), 0o755)
        os.chmod(socket_path, 0o660)
        for gid, group in ((54321, "gid 54321"), (1, f"{grp.getgrgid(1).gr_name} (gid 1)")):
            os.chown(socket_path, -1, gid)
            with _not_as_root():
                error = _failure(RuntimeClient(config_for(socket_path)))
            assert str(error) == (
                f"no permission to use socket {socket_path}: its mode is 0660 and its owner has uid 0; "
                f"its group is {group}: put this user into it, and log in again, or run as its owner"
            )


def test_a_directory_that_belongs_to_someone_else(socket_path: str) -> None:
    with ScriptedDaemon(say_hello, socket_path):
        os.chmod(os.path.dirname(socket_path), 0o000)
        with _not_as_root():
            error = _failure(RuntimeClient(config_for(socket_path)))
        os.chmod(os.path.dirname(socket_path), 0o700)
        assert f"no permission to reach socket {socket_path}" in str(error)
        assert error.error_class is ErrorClass.PERMANENT


def test_a_daemon_that_accepts_nobody(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is full: the client waits its turn, but not for ever."""
    monkeypatch.setattr(connector_sdk.connection_errors, "CONNECT_TIMEOUT_MS", 30)
    waiting = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(socket_path)
        listener.listen(0)
        try:
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(socket_path)
        except BlockingIOError:
            error = _failure(RuntimeClient(config_for(socket_path)))
        finally:
            for sock in waiting:
                sock.close()
    assert error.error_class is ErrorClass.TIMEOUT
    assert f"socket {socket_path} accepted no connection within 0.03 s" in str(error)


def test_a_daemon_that_never_answers(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (connector_sdk.connection, connector_sdk.connection_errors):
        monkeypatch.setattr(module, "ANSWER_GRACE_MS", 20)
    config = config_for(socket_path, timeout_ms=10)
    with ScriptedDaemon(stay_silent, socket_path) as daemon, RuntimeClient(config) as client:
        error = _failure(client)
        daemon.script = say_hello
        assert client.execute_http(REQUEST.with_timeout(10_000)).body == b"hello"
        assert len(daemon.peers) == 2
    assert error.error_class is ErrorClass.TIMEOUT
    assert f"the daemon at socket {socket_path} did not answer within 30 ms" in str(error)


def test_a_daemon_that_drips_its_answer_does_not_get_around_the_timeout(
    socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time counts for the whole answer, not for each piece of it."""
    monkeypatch.setattr(connector_sdk.connection, "ANSWER_GRACE_MS", 50)

    def drip(peer: Peer, request: ExecuteRequest) -> None:
        peer.send(struct.pack(">IB", 1_000_000, 1))
        while not peer.daemon.stopping.wait(0.005):
            peer.send(b".")

    config = config_for(socket_path, timeout_ms=1)
    with ScriptedDaemon(drip, socket_path), RuntimeClient(config) as client:
        assert _failure(client).error_class is ErrorClass.TIMEOUT


def test_a_daemon_that_stops_reading_does_not_hold_the_client(
    socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_sdk.connection, "ANSWER_GRACE_MS", 50)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(socket_path)
        listener.listen()
        with pytest.raises(ConnectorException) as e:
            RuntimeClient(config_for(socket_path)).execute_http(REQUEST.with_body("x" * 5_000_000).with_timeout(1))
        assert e.value.error_class is ErrorClass.TIMEOUT


@pytest.mark.parametrize("sent_bytes", [0, 2, 30])
def test_a_connection_lost_during_a_call(socket_path: str, sent_bytes: int) -> None:
    """The call fails, worth another try; the next one works, on a connection of its own."""

    def tear(peer: Peer, request: ExecuteRequest) -> None:
        peer.send(response_frame(request)[:sent_bytes])
        peer.hang_up()

    with ScriptedDaemon(tear, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        error = _failure(client)
        daemon.script = say_hello
        assert client.execute_http(REQUEST).body == b"hello"
    assert error.is_retryable()
    assert f"lost the connection to the daemon at socket {socket_path}: it was closed before" in str(error)


def test_a_restart_of_the_daemon_between_two_calls_goes_unnoticed(socket_path: str) -> None:
    client = RuntimeClient(config_for(socket_path))
    for _ in range(2):
        with ScriptedDaemon(say_hello, socket_path) as daemon:
            assert client.execute_http(REQUEST).body == b"hello"
            assert len(daemon.peers) == 1
    assert "vastar-runtime start" in str(_failure(client))
    client.close()


def test_an_interrupted_call_leaves_nothing_behind(socket_path: str) -> None:
    """Half an answer is in when the user presses Ctrl-C; the next call starts on a fresh connection."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.send(response_frame(request)[:20])
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
            with pytest.raises(KeyboardInterrupt):
                client.execute_http(REQUEST)
            daemon.script = say_hello
            assert client.execute_http(REQUEST).body == b"hello"
            assert len(daemon.peers) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)


FORKING_PROGRAM = """
import os, sys
from connector_sdk import GET, RuntimeClient, RuntimeConfig

client = RuntimeClient(RuntimeConfig(socket_path=sys.argv[1], use_tcp=False))
client.execute_http(GET("http://u/").with_trace_id("parent"))
client._idle.lock.acquire()  # as another thread of the parent may have it at the moment of the fork
child = os.fork()
if child == 0:
    client.execute_http(GET("http://u/").with_trace_id("child"))
    client.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
client._idle.lock.release()
client.execute_http(GET("http://u/").with_trace_id("parent"))
client.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_takes_a_connection_of_its_own_and_leaves_the_parents_alone(socket_path: str) -> None:
    seen: list[tuple[str | None, int]] = []

    def script(peer: Peer, request: ExecuteRequest) -> None:
        seen.append((request.trace_id, peer.number))
        peer.answer(request)

    with ScriptedDaemon(script, socket_path):
        program = [sys.executable, "-W", "error", "-c", FORKING_PROGRAM, socket_path]
        result = subprocess.run(program, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (0, "")
    assert seen == [("parent", 0), ("child", 1), ("parent", 0)]
