"""``vastar-runtime request`` and ``chat`` where something listens that is no daemon."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from command_line import run
from request_command import URL, no_variables
from scripted_daemon import socket_path

from connector_sdk.config import RuntimeConfig
from connector_sdk.errors import ConnectorException
from connector_sdk.wire import CreditUpdate, ErrorClass, Hello, encode_message
from vastar_runtime.cli import client_settings

__all__ = ["no_variables", "socket_path"]  # the fixtures

CLOSED = "it closed the connection without an answer"
TOO_LONG = "exceeds the limit of 10485760 bytes"


def close(_client: socket.socket) -> None:
    pass


def reset(client: socket.socket) -> None:
    client.recv(1)  # a Unix socket that is closed with unread data is reset


def echo(client: socket.socket) -> None:
    while data := client.recv(65536):
        client.sendall(data)


def http(client: socket.socket) -> None:
    client.recv(65536)
    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def banner(client: socket.socket) -> None:
    client.sendall(b"SSH-2.0-x\r\n")
    client.recv(65536)


@contextlib.contextmanager
def listening(
    address: str | tuple[str, int], answer: Callable[[socket.socket], None], most: int | None = None
) -> Iterator[socket.socket]:
    """Each connection is answered so and closed; after so many, nobody listens any more."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen()

        def serve() -> None:
            taken = 0
            while taken != most:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                taken += 1
                if taken == most:
                    listener.close()
                with client, contextlib.suppress(ConnectionError):
                    answer(client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def said_of(place: str, reason: str, advice: str = "path (--socket, VASTAR_SOCKET_PATH)") -> str:
    return f"what listens at {place} is no vastar-connector-runtime ({reason}): choose another {advice}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (close, CLOSED),
        (reset, CLOSED),
        (echo, "ExecuteRequest is not for a daemon to send"),
        (http, f"frame length 1213486160 {TOO_LONG}"),
        (banner, f"frame length 1397966893 {TOO_LONG}"),
    ],
)
def test_who_is_no_daemon_has_one_code_and_one_sentence(
    socket_path: str, answer: Callable[[socket.socket], None], reason: str
) -> None:
    with listening(socket_path, answer):
        done = run("request", "--json", "--socket", socket_path, URL)
        talk = run("chat", "--socket", socket_path, data=b"Hi\n", environ={"VASTAR_CONFIG": os.devnull})
    words = said_of(f"socket {socket_path}", reason)
    assert (done.exit_code, done.stderr) == (1, f"Error: {words}\n")
    assert json.loads(done.stdout)["error"] == {"class": None, "message": words, "retry_after_ms": 0}
    assert (talk.exit_code, talk.stderr.splitlines()[0]) == (1, f"Error: {words}")


def test_a_socket_of_another_type_is_no_place_where_one_could_be_started(socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(socket_path)
        done = run("request", "--socket", socket_path, URL)
    words = said_of(f"socket {socket_path}", "Protocol wrong type for socket")
    assert (done.exit_code, done.output) == (1, f"Error: {words}\n")


def test_over_tcp_it_is_the_port_that_is_to_be_another() -> None:
    with listening(("127.0.0.1", 0), http) as listener:
        port = listener.getsockname()[1]
        done = run("request", URL, environ={"VASTAR_USE_TCP": "1", "VASTAR_TCP_PORT": str(port)})
    words = said_of(f"127.0.0.1:{port}", f"frame length 1213486160 {TOO_LONG}", "port (VASTAR_TCP_PORT)")
    assert (done.exit_code, done.output) == (1, f"Error: {words}\n")


def test_a_daemon_that_ends_while_it_is_met_is_no_stranger(socket_path: str) -> None:
    with listening(socket_path, close, most=1):
        done = run("request", "--socket", socket_path, URL)
    assert done.exit_code == 3
    assert done.stderr.endswith("; if it is shutting down, wait until it has ended\n")


def test_a_stranger_that_takes_its_time_is_not_given_it_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 3.0])
    monkeypatch.setattr(client_settings, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    late = ConnectorException("it did not answer", ErrorClass.TIMEOUT)
    times_ms: list[tuple[int, int]] = []

    def ask() -> None:
        raise ConnectorException("it closed the connection") from EOFError()

    def connect(_settings: RuntimeConfig, timeout_ms: int, connect_ms: int) -> None:
        times_ms.append((timeout_ms, connect_ms))
        raise late

    monkeypatch.setattr(client_settings, "Connection", connect)
    with pytest.raises(ConnectorException) as ended:
        client_settings.reached(ask, RuntimeConfig(timeout_ms=4000), "")
    assert (ended.value, times_ms) == (late, [(1000, 1000)])


def test_a_daemon_that_has_just_begun_is_not_asked_with_the_time_of_the_one_before(socket_path: str) -> None:
    def greet_the_second(client: socket.socket) -> None:
        taken.append(client)
        if len(taken) > 1:
            client.recv(65536)
            client.sendall(encode_message(Hello(protocol_version=1)) + encode_message(CreditUpdate(total_credits=8)))
            client.recv(65536)

    taken: list[socket.socket] = []
    with listening(socket_path, greet_the_second):
        done = run("request", "--socket", socket_path, URL)
    assert (done.exit_code, len(taken)) == (3, 2)
    assert done.stderr.endswith(" has just begun, in place of one that ended: ask again\n")
