"""The SDK against the real daemon and the simulator, each in a process of its own, as a user has them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from connector_sdk import (
    GET,
    POST,
    APIError,
    ConnectorException,
    ErrorClass,
    HTTPResponseHelper,
    RuntimeClient,
    RuntimeConfig,
)
from connector_sdk.openai import ChatCompletionRequest, Message, OpenAIConnector

# A proxy or a setting of the machine must not come between.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("VASTAR_")}


@contextmanager
def _process(*command: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """``python -m vastar_runtime COMMAND``, and the line that it says when it is ready."""
    reader, writer = os.pipe()
    arguments = [sys.executable, "-m", "vastar_runtime", *command, "--ready-fd", str(writer)]
    process = subprocess.Popen(
        arguments, pass_fds=[writer], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with process:
        try:
            os.close(writer)
            with open(reader) as ready:
                yield process, ready.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def socket_path() -> Iterator[str]:
    directory = tempfile.mkdtemp(dir="/tmp")
    yield f"{directory}/daemon.sock"
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def config(socket_path: str) -> Iterator[RuntimeConfig]:
    with _process("run", "--socket", socket_path) as (_, line):
        assert line == "ready"
        yield RuntimeConfig(socket_path=socket_path, use_tcp=False, timeout_ms=10_000)


@pytest.fixture
def client(config: RuntimeConfig) -> Iterator[RuntimeClient]:
    with RuntimeClient(config) as client:
        yield client


@pytest.fixture(scope="module")
def simulator_url() -> Iterator[str]:
    options = ("--port", "0", "--tokens-per-second", "0", "--require-key", "sk-right")
    with _process("simulator", *options) as (_, url):
        yield url


class Upstream(BaseHTTPRequestHandler):
    """Echoes a POST with status 418; a GET is answered once as many are there as its path says."""

    protocol_version = "HTTP/1.1"
    waiting: dict[str, threading.Barrier]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(418, body, self.headers["X-Seen"])

    def do_GET(self) -> None:
        try:
            self.waiting[self.path].wait()
        except threading.BrokenBarrierError:
            return
        self._answer(200, self.path.encode(), "")

    def _answer(self, status: int, body: bytes, seen: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Seen", seen)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def upstream_url() -> Iterator[str]:
    Upstream.waiting = {"/8": threading.Barrier(8), "/nobody": threading.Barrier(2)}
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        for barrier in Upstream.waiting.values():
            barrier.abort()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("body", [b"", "text é".encode(), bytes(range(256)) * 1000])
def test_any_body_comes_back_exactly(client: RuntimeClient, upstream_url: str, body: bytes) -> None:
    response = client.execute_http(POST(upstream_url).with_header("X-Seen", "yes").with_body(body))
    assert (response.status_code, response.body) == (418, body)
    assert HTTPResponseHelper.get_header(response, "X-Seen") == "yes"
    assert HTTPResponseHelper.is_4xx(response)
    assert response.duration_us > 0


def test_eight_threads_are_served_at_the_same_time(client: RuntimeClient, upstream_url: str) -> None:
    """The upstream answers none of them before it has all."""
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.execute_http, GET(f"{upstream_url}/8")) for _ in range(8)]
        assert [call.result().body for call in calls] == [b"/8"] * 8


def test_an_upstream_that_does_not_answer_is_a_timeout_of_the_daemon(client: RuntimeClient, upstream_url: str) -> None:
    """The daemon says so itself, long before the client would give it up."""
    began_at = time.monotonic()
    with pytest.raises(ConnectorException) as e:
        client.execute_http(GET(f"{upstream_url}/nobody").with_timeout(50))
    assert e.value.error_class is ErrorClass.TIMEOUT
    assert "the daemon at" not in str(e.value)
    assert time.monotonic() - began_at < 4


@pytest.mark.parametrize(
    ("url", "error_class", "named"),
    [
        ("http://127.0.0.1:1/", ErrorClass.TRANSIENT, "127.0.0.1:1"),
        ("file:///etc/passwd", ErrorClass.INVALID_REQUEST, "file"),
        ("http://h:99999/", ErrorClass.INVALID_REQUEST, "99999"),
    ],
)
def test_what_the_daemon_refuses_or_cannot_reach(
    client: RuntimeClient, url: str, error_class: ErrorClass, named: str
) -> None:
    with pytest.raises(ConnectorException) as e:
        client.execute_http(GET(url))
    assert e.value.error_class is error_class
    assert named in str(e.value)


@pytest.mark.parametrize(("name", "value"), [("X-A", "a\r\nX-B: b"), ("X A", "a"), ("X-A", "\0")])
def test_a_header_that_http_cannot_carry_is_judged_by_the_daemon(
    client: RuntimeClient, upstream_url: str, name: str, value: str
) -> None:
    with pytest.raises(ConnectorException) as e:
        client.execute_http(POST(upstream_url).with_header(name, value).with_body(b""))
    assert e.value.error_class is ErrorClass.INVALID_REQUEST


def test_a_client_outlives_its_daemon(upstream_url: str) -> None:
    """The daemon is stopped and started again: the client that was there all the time goes on."""
    request = POST(upstream_url).with_header("X-Seen", "").with_body(b"a")
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = f"{directory}/daemon.sock"
        client = RuntimeClient(RuntimeConfig(socket_path=path, use_tcp=False))
        for _ in range(2):
            with _process("run", "--socket", path) as (process, line):
                assert line == "ready"
                assert client.execute_http(request).body == b"a"
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=10) == 0
            with pytest.raises(ConnectorException, match="vastar-runtime start"):
                client.execute_http(request)
        client.close()


def test_a_chat(config: RuntimeConfig, simulator_url: str) -> None:
    """Whole, as a stream, and with history: the simulator tells how much of it arrived."""
    history = [Message("user", "Hello"), Message("assistant", "Hi."), Message("user", "Go on.")]
    request = ChatCompletionRequest("any", history)
    with OpenAIConnector(simulator_url, "sk-right", config=config) as connector:
        assert connector.test_connection()
        whole = connector.chat_completion(request)
        pieces = list(connector.chat_completion_stream(request))
    assert "2 earlier messages" in whole
    assert "".join(pieces) == whole
    assert len(pieces) > 3


@pytest.mark.parametrize(
    ("key", "model", "status"),
    [("sk-wrong-key", "any", 401), ("sk-right", "simulate-quota", 429), ("sk-right", "simulate-unknown", 404)],
)
def test_the_errors_of_the_api(config: RuntimeConfig, simulator_url: str, key: str, model: str, status: int) -> None:
    with OpenAIConnector(f"{simulator_url}/v1", key, config=config) as connector:
        with pytest.raises(APIError) as e:
            list(connector.chat_completion_stream(ChatCompletionRequest(model, [Message("user", "Hello")])))
        assert e.value.code
        assert e.value.type
        assert e.value.message
        assert key not in str(e.value)
        assert e.value.status == status
        assert not e.value.is_retryable()
