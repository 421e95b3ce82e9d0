"""AsyncOpenAIConnector through the real daemon: against the simulator, and an upstream that sees who leaves."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import anyio.to_thread
import pytest
from test_sdk_daemon import config, simulator_url, socket_path

from connector_sdk import APIError, RuntimeConfig
from connector_sdk.openai import AsyncOpenAIConnector, ChatCompletionRequest, Message

__all__ = ["config", "simulator_url", "socket_path"]

PATIENCE_S = 20
HELLO = ChatCompletionRequest("any", [Message("user", "Hello"), Message("assistant", "Hi."), Message("user", "Go on.")])

Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Tell a story in an event loop of its own."""

    def run(story: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            with anyio.fail_after(PATIENCE_S):
                await story()

        anyio.run(main, backend=request.param)

    return run


class ChatAPI(ThreadingHTTPServer):
    """Streams one word and the end of the chat; to the model "endless" no end, and it waits for the client to go."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.connections = 0
        self.is_gone = threading.Event()


class _Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatAPI

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._event('{"choices": [{"delta": {"content": "word"}}]}')
        if b'"endless"' in asked:
            self.connection.settimeout(PATIENCE_S)
            assert self.connection.recv(1) == b""
            self.server.is_gone.set()
            self.close_connection = True
        else:
            self._event("[DONE]")
            self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def chat_api() -> Iterator[tuple[ChatAPI, str]]:
    with ChatAPI() as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api, f"http://127.0.0.1:{api.server_address[1]}"
        finally:
            api.shutdown()
            thread.join()


def test_a_chat_whole_and_as_streams_of_several_tasks(run: Run, config: RuntimeConfig, simulator_url: str) -> None:
    async def story() -> None:
        async def read() -> None:
            chunks = [chunk async for chunk in connector.stream_chunks(HELLO)]
            assert chunks[0].delta.role == "assistant"
            said.append("".join(chunk.delta.content or "" for chunk in chunks))

        said: list[str] = []
        async with AsyncOpenAIConnector(simulator_url, "sk-right", config=config) as connector:
            assert await connector.test_connection()
            whole = await connector.chat_completion(HELLO)
            usage = connector.last_usage
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(read)
            assert said == [whole] * 3
            assert "2 earlier messages" in whole
            pieces = [text async for text in connector.chat_completion_stream(HELLO)]
            assert ("".join(pieces), connector.last_usage) == (whole, usage)
            assert usage is not None
            assert len(pieces) > 3

    run(story)


@pytest.mark.parametrize(
    ("key", "model", "status"), [("sk-wrong-key", "any", 401), ("sk-right", "simulate-quota", 429)]
)
def test_the_errors_of_the_api(
    run: Run, config: RuntimeConfig, simulator_url: str, key: str, model: str, status: int
) -> None:
    async def story() -> None:
        request = ChatCompletionRequest(model, HELLO.messages)
        async with AsyncOpenAIConnector(simulator_url, key, config=config) as connector:
            for ask in (connector.chat_completion, lambda request: anext(connector.stream_chunks(request))):
                with pytest.raises(APIError) as e:
                    await ask(request)
                assert (e.value.status, e.value.is_retryable()) == (status, False)
                assert key not in f"{e.value} {vars(e.value)}"

    run(story)


@pytest.mark.parametrize("way", ["block", "aclose", "dropped", "cancelled"])
def test_whoever_leaves_closes_the_connection_to_the_api(run: Run, config: RuntimeConfig, way: str) -> None:
    async def story() -> None:
        async def read(leaving: anyio.CancelScope) -> None:
            with leaving:
                async for text in connector.chat_completion_stream(request):
                    assert text == "word"
                    has_word.set()

        request = ChatCompletionRequest("endless", HELLO.messages)
        with chat_api() as (api, url):
            async with AsyncOpenAIConnector(url, config=config) as connector:
                if way == "cancelled":
                    leaving, has_word = anyio.CancelScope(), anyio.Event()
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(read, leaving)
                        await has_word.wait()
                        leaving.cancel()
                elif way == "block":
                    async with connector.stream_chunks(request) as chunks:
                        await anext(chunks)
                        assert not api.is_gone.is_set()
                else:
                    texts = connector.chat_completion_stream(request)
                    assert await anext(texts) == "word"
                    if way == "aclose":
                        await texts.aclose()
                    del texts
                assert await anyio.to_thread.run_sync(api.is_gone.wait, PATIENCE_S)

    run(story)


def test_a_stream_that_was_read_to_its_end_leaves_the_connection_to_the_next(run: Run, config: RuntimeConfig) -> None:
    async def story() -> None:
        with chat_api() as (api, url):
            async with AsyncOpenAIConnector(url, config=config) as connector:
                for _ in range(3):
                    assert [text async for text in connector.chat_completion_stream(HELLO)] == ["word"]
            assert api.connections == 1

    run(story)
