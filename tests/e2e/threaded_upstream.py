"""An upstream in threads, for clients that block, and the daemon between them."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from daemon_process import daemon

from connector_sdk import RuntimeConfig

PATIENCE_S = 20


@dataclass
class Seen:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


class Call(BaseHTTPRequestHandler):
    """One request at the upstream, read whole. The connection ends with it."""

    seen: Seen

    def _serve(self) -> None:
        self.seen = Seen(self.command, self.path, self.headers.items(), self._read_body())
        self.upstream.seen.append(self.seen)
        self.upstream.answer(self)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = _serve

    @property
    def upstream(self) -> Upstream:
        assert isinstance(self.server, _Server)
        return self.server.upstream

    def _read_body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def head(self, status: int, *headers: tuple[str, str]) -> None:
        """A head; without a Content-Length the body ends with the connection."""
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers), "Connection: close"]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        """A response, whole."""
        self.head(status, ("Content-Length", str(len(body))), *headers)
        self.send(body)

    def send(self, data: bytes) -> None:
        self.wfile.write(data)

    def wait_until_left(self) -> None:
        """Return when the other side has closed the connection."""
        self.connection.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionError):
            assert self.connection.recv(1) == b""
        self.upstream.was_left.set()

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Upstream:
    answer: Callable[[Call], None]
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    was_left: threading.Event = field(default_factory=threading.Event)

    @property
    def last(self) -> Seen:
        return self.seen[-1]


class _Server(ThreadingHTTPServer):
    upstream: Upstream
    tls: ssl.SSLContext | None = None

    def finish_request(self, request, client_address):
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        # What a client thinks of the certificate is said by the test.
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),
            self.tls.wrap_socket(request, server_side=True) as secured,
        ):
            super().finish_request(secured, client_address)


@contextmanager
def upstream(answer: Callable[[Call], None], tls: ssl.SSLContext | None = None) -> Iterator[Upstream]:
    """Serve ``answer``, called in a thread for each request, on a free port."""
    with _Server(("127.0.0.1", 0), Call) as server:
        running = Upstream(answer, f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}")
        server.upstream, server.tls = running, tls
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def config() -> Iterator[RuntimeConfig]:
    """The way to a daemon of the module's own."""
    with daemon() as running:
        yield RuntimeConfig(socket_path=running.socket_path, use_tcp=False)
