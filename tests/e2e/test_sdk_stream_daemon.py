"""Streams through the real daemon and from the real simulator, read with the blocking SDK."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import anyio.to_thread
import pytest
from test_sdk_daemon import client, config, simulator_url, socket_path

from connector_sdk import GET, AsyncRuntimeClient, ConnectorException, ErrorClass, RuntimeClient, RuntimeConfig
from connector_sdk.openai import ChatCompletionRequest, Message, OpenAIConnector

__all__ = ["client", "config", "simulator_url", "socket_path"]

PATIENCE_S = 20

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def _upstream(answer: Answer) -> Iterator[str]:
    """An upstream that sends a head without a length, then what ``answer`` writes; its end is the connection's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Set-Cookie", "a=1")
            self.send_header("Set-Cookie", "b=2")
            self.end_headers()
            answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_each_event_is_there_before_the_next_is_sent(client: RuntimeClient) -> None:
    is_read = threading.Semaphore(0)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        for number in range(5):
            handler.wfile.write(f"data: {number}\n\n".encode())
            assert is_read.acquire(timeout=PATIENCE_S)

    with _upstream(answer) as url, client.stream_http(GET(url)) as response:
        assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
        seen = []
        for event in response.iter_sse():
            seen.append(event.data)
            is_read.release()
    assert seen == ["0", "1", "2", "3", "4"]


def test_leaving_early_closes_the_connection_to_the_upstream(client: RuntimeClient) -> None:
    is_gone = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"data: 1\n\n")
        handler.connection.settimeout(PATIENCE_S)
        assert handler.connection.recv(1) == b""
        is_gone.set()

    with _upstream(answer) as url:
        with client.stream_http(GET(url)) as response:
            assert next(response.iter_sse()).data == "1"
            assert not is_gone.is_set()
        assert is_gone.wait(PATIENCE_S)


def test_a_body_of_many_windows(client: RuntimeClient) -> None:
    piece = bytes(range(256)) * 1024

    def answer(handler: BaseHTTPRequestHandler) -> None:
        for _ in range(40):
            handler.wfile.write(piece)

    with _upstream(answer) as url, client.stream_http(GET(url)) as response:
        assert response.read() == piece * 40


def test_nobody_at_the_upstream(client: RuntimeClient) -> None:
    with pytest.raises(ConnectorException, match=r"127\.0\.0\.1:1") as e:
        client.stream_http(GET("http://127.0.0.1:1/")).__enter__()
    assert e.value.error_class is ErrorClass.TRANSIENT


def test_a_chat_in_chunks(config: RuntimeConfig, simulator_url: str) -> None:
    with OpenAIConnector(simulator_url, "sk-right", config=config) as connector:
        request = ChatCompletionRequest("any", [Message("user", "Hello")])
        chunks = list(connector.stream_chunks(request))
        assert connector.last_usage is not None
        assert connector.last_usage.total_tokens > 0
        text = "".join(connector.chat_completion_stream(request))
    assert chunks[0].delta.role == "assistant"
    assert "stop" in [chunk.finish_reason for chunk in chunks]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == text


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_stream_on_one_connection_and_one_of_them_leaves(config: RuntimeConfig, backend: str) -> None:
    """The upstream of the one that leaves is closed; the others read to their end."""
    is_gone, may_end = threading.Event(), threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"data: 1\n\n")
        if handler.path == "/left":
            handler.connection.settimeout(PATIENCE_S)
            assert handler.connection.recv(1) == b""
            is_gone.set()
        else:
            assert may_end.wait(PATIENCE_S)
            handler.wfile.write(b"data: 2\n\n")

    async def main(url: str) -> list[list[str]]:
        async def whole() -> None:
            async with client.stream_http(GET(f"{url}/whole")) as response:
                seen.append([event.data async for event in response.aiter_sse()])

        seen: list[list[str]] = []
        with anyio.fail_after(PATIENCE_S):
            async with AsyncRuntimeClient(config) as client, anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(whole)
                async with client.stream_http(GET(f"{url}/left")) as response:
                    assert (await anext(response.aiter_sse())).data == "1"
                assert await anyio.to_thread.run_sync(is_gone.wait, PATIENCE_S)
                may_end.set()
        return seen

    with _upstream(answer) as url:
        assert anyio.run(main, url, backend=backend) == [["1", "2"]] * 3
