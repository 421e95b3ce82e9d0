"""A daemon that does what a test tells it to, on a real socket, speaking the wire."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest

from connector_sdk import RuntimeConfig
from connector_sdk.wire import ErrorClass, ExecuteRequest, ExecuteResponse, FrameDecoder, decode_message, encode_message


def response_frame(request: ExecuteRequest, **payload: Any) -> bytes:
    """The frame of a successful answer with this JSON payload."""
    answer = {"status_code": 200, "headers": {}, "body": "", "is_streaming": False, **payload}
    return encode_message(
        ExecuteResponse(request_id=request.request_id, payload=json.dumps(answer).encode(), duration_us=1234)
    )


def error_frame(request_id: int, error_class: ErrorClass, message: str | None) -> bytes:
    """The frame of an answer that says what went wrong."""
    return encode_message(ExecuteResponse(request_id=request_id, error_class=error_class, error_message=message))


class Peer:
    """The daemon's side of one connection."""

    def __init__(self, daemon: ScriptedDaemon, sock: socket.socket, number: int) -> None:
        self.daemon = daemon
        self.socket = sock
        self.number = number

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the client has gone: the test's assertions say what that means
            self.socket.sendall(data)

    def answer(self, request: ExecuteRequest, **payload: Any) -> None:
        self.send(response_frame(request, **payload))

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


Script = Callable[[Peer, ExecuteRequest], None]


def say_hello(peer: Peer, request: ExecuteRequest) -> None:
    """The script of a daemon that works."""
    peer.answer(request, body="hello")


def stay_silent(peer: Peer, request: ExecuteRequest) -> None:
    """The script of a daemon that never answers."""
    peer.daemon.stopping.wait()


class ScriptedDaemon:
    """Listens on ``path``, or on a free TCP port when that is None; runs ``script`` for every request."""

    def __init__(self, script: Script, path: str | None) -> None:
        self.script = script
        self.path = path
        self.requests: list[ExecuteRequest] = []
        self.peers: list[Peer] = []
        self.stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
        else:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(path)
            self._listener.listen()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(request.payload or b"") for request in self.requests]

    def __enter__(self) -> ScriptedDaemon:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopping.set()
        with socket.socket(self._listener.family) as wake:
            wake.connect(self._listener.getsockname())
        self._threads[0].join()
        self._listener.close()
        for peer in self.peers:
            peer.hang_up()
        for thread in self._threads:
            thread.join()
        if self.path is not None:
            os.unlink(self.path)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self.stopping.is_set():
                sock.close()
                return
            peer = Peer(self, sock, len(self.peers))
            self.peers.append(peer)
            self._start(self._serve, peer)

    def _serve(self, peer: Peer) -> None:
        decoder = FrameDecoder()
        with peer.socket:
            while data := self._receive(peer):
                decoder.receive_data(data)
                while (frame := decoder.next_frame()) is not None:
                    request = decode_message(*frame)
                    assert isinstance(request, ExecuteRequest)
                    self.requests.append(request)
                    self.script(peer, request)

    @staticmethod
    def _receive(peer: Peer) -> bytes:
        try:
            return peer.socket.recv(65536)
        except OSError:
            return b""


@pytest.fixture
def socket_path() -> Iterator[str]:
    """A path for a socket, short enough for one."""
    directory = tempfile.mkdtemp(dir="/tmp")
    yield f"{directory}/daemon.sock"
    shutil.rmtree(directory)


def config_for(path: str, **settings: Any) -> RuntimeConfig:
    """The client's settings for a daemon on a Unix socket, whatever the environment says."""
    return RuntimeConfig(socket_path=path, use_tcp=False, **settings)
