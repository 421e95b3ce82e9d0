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
from connector_sdk.wire import (
    BodyChunk,
    Cancel,
    CreditUpdate,
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    Hello,
    HttpResponse,
    Message,
    PayloadFormat,
    ResponseEnd,
    ResponseHead,
    ResponseMode,
    encode_message,
)
from connector_sdk.wire.daemon_connection import Admitted, DaemonConnection, DaemonEvent
from connector_sdk.wire.messages import HTTP_REQUEST_CODEC, HTTP_RESPONSE_CODEC


def response_frame(request: ExecuteRequest, **payload: Any) -> bytes:
    """The frame of a successful answer, in the form that the request asks for."""
    return encode_message(_response(request, **payload))


def _response(
    request: ExecuteRequest,
    status_code: int = 200,
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    body: str | bytes = "",
    **more: Any,
) -> ExecuteResponse:
    if request.payload_format is PayloadFormat.HTTP_REQUEST:
        items = tuple(headers.items() if isinstance(headers, dict) else headers or ())
        data = body.encode() if isinstance(body, str) else body
        payload = HTTP_RESPONSE_CODEC.encode(HttpResponse(status_code=status_code, headers=items, body=data))
    else:
        answer = {"status_code": status_code, "headers": headers or {}, "body": body, "is_streaming": False, **more}
        payload = json.dumps(answer).encode()
    return ExecuteResponse(request_id=request.request_id, payload=payload, duration_us=1234)


def error_frame(request_id: int, error_class: ErrorClass, message: str | None) -> bytes:
    """The frame of an answer that says what went wrong."""
    return encode_message(ExecuteResponse(request_id=request_id, error_class=error_class, error_message=message))


def http_of(request: ExecuteRequest) -> dict[str, Any]:
    """What a request asks for, as the JSON form has it, whichever form it came in."""
    if request.payload_format is PayloadFormat.JSON:
        asked: dict[str, Any] = json.loads(request.payload or b"")
        return asked
    http = HTTP_REQUEST_CODEC.decode(request.payload or b"")
    asked = {"method": http.method, "url": http.url, "timeout_ms": http.timeout_ms}
    if http.headers is not None:
        asked["headers"] = dict(http.headers)
    if http.body is not None:
        try:
            asked["body"] = http.body.decode()
        except UnicodeDecodeError:
            asked["body"] = http.body
    return asked


class Peer:
    """The daemon's side of one connection."""

    def __init__(self, daemon: ScriptedDaemon, sock: socket.socket, number: int) -> None:
        self.daemon = daemon
        self.socket = sock
        self.number = number
        self.wire = DaemonConnection()

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the client has gone: the test's assertions say what that means
            self.socket.sendall(data)

    def say(self, message: Message) -> None:
        """Send a message that the rules allow now."""
        self.send(self.wire.send(message))

    def next_event(self) -> DaemonEvent | None:
        """What the client sends next; None when it has gone."""
        while (event := self.wire.next_event()) is None:
            try:
                data = self.socket.recv(65536)
            except OSError:
                return None
            if not data:
                return None
            self.wire.receive_data(data)
        return event

    def answer(self, request: ExecuteRequest, **answer: Any) -> None:
        """A whole successful answer, in the mode and form that the request asks for."""
        if request.response_mode is ResponseMode.BUFFERED:
            self.say(_response(request, **answer))
            return
        self.head(request, answer.get("status_code", 200), *answer.get("headers", {}).items())
        body = answer.get("body", "")
        self.chunk(request, body.encode() if isinstance(body, str) else body)
        self.end(request.request_id)

    def head(self, request: ExecuteRequest, status_code: int = 200, *headers: tuple[str, str]) -> None:
        self.say(ResponseHead(request_id=request.request_id, status_code=status_code, headers=headers))

    def chunk(self, request: ExecuteRequest, data: bytes) -> None:
        self.say(BodyChunk(request_id=request.request_id, data=data))

    def end(self, request_id: int, error_class: ErrorClass = ErrorClass.SUCCESS, message: str | None = None) -> None:
        self.say(ResponseEnd(request_id=request_id, error_class=error_class, error_message=message))

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


def _end_stream(peer: Peer, request_id: int) -> None:
    peer.end(request_id, ErrorClass.CANCELLED, "cancelled")


def _greet(peer: Peer) -> None:
    peer.say(Hello(protocol_version=1, agent="scripted"))


def _greet_as_existing_runtime(peer: Peer) -> None:
    peer.send(error_frame(0, ErrorClass.INVALID_REQUEST, "Invalid FlatBuffers message"))


class ScriptedDaemon:
    """Listens on ``path``, or on a free TCP port when that is None; runs ``script`` for every request.

    A cancelled request ends as the rules say, and its id is kept. With ``is_legacy``, Hello is answered as the existing
    runtime answers it.
    """

    def __init__(self, script: Script, path: str | None, *, is_legacy: bool = False) -> None:
        self.script = script
        self.greet = _greet_as_existing_runtime if is_legacy else _greet
        self.end_cancelled = _end_stream
        self.hellos: list[Hello] = []
        self.cancelled: list[int] = []
        self.credits: list[CreditUpdate] = []
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
        return [http_of(request) for request in self.requests]

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
        with peer.socket:
            while (event := peer.next_event()) is not None:
                match event:
                    case Hello():
                        self.hellos.append(event)
                        self.greet(peer)
                    case Admitted(request=request):
                        self.requests.append(request)
                        self.script(peer, request)
                    case Cancel():
                        self.cancelled.append(event.request_id)
                        self.end_cancelled(peer, event.request_id)
                    case CreditUpdate():
                        self.credits.append(event)
                    case _:
                        raise AssertionError(event)


@pytest.fixture
def socket_path() -> Iterator[str]:
    """A path for a socket, short enough for one."""
    directory = tempfile.mkdtemp(dir="/tmp")
    yield f"{directory}/daemon.sock"
    shutil.rmtree(directory)


def config_for(path: str, **settings: Any) -> RuntimeConfig:
    """The client's settings for a daemon on a Unix socket, whatever the environment says."""
    return RuntimeConfig(socket_path=path, use_tcp=False, **settings)
