"""A reader that stops holds the sender, after about as many chunks as the connector was told."""

from __future__ import annotations

import threading

import anyio
import pytest
from chat_stories import DONE, HELLO, PATIENCE_S, text
from scripted_daemon import Peer, ScriptedDaemon, config_for, socket_path

from connector_sdk import ConnectorException, RuntimeConfig
from connector_sdk.chat_connector import BYTES_PER_CHUNK
from connector_sdk.openai import AsyncOpenAIConnector, OpenAIConnector
from connector_sdk.wire import CreditUpdate, ExecuteRequest

__all__ = ["socket_path"]

CHUNKS = 400
CHUNK = text("x" * (BYTES_PER_CHUNK - len(text(""))))


class Sender:
    """Sends many chunks of the size that is counted with, as far as there is credit; then waits for more."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.is_held = threading.Event()

    def __call__(self, peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 200, ("Content-Type", "text/event-stream"))
        body = CHUNK * CHUNKS + DONE
        while self.sent_bytes < len(body):
            size = peer.wire.window(request.request_id).take(len(body) - self.sent_bytes)
            if size:
                peer.chunk(request, body[self.sent_bytes : self.sent_bytes + size])
                self.sent_bytes += size
                continue
            self.is_held.set()
            credit = peer.next_event()
            assert isinstance(credit, CreditUpdate)
        peer.end(request.request_id)


@pytest.mark.parametrize(("settings", "buffered"), [({}, 100), ({"stream_buffer": 7}, 7)])
def test_a_reader_that_stops(socket_path: str, settings: dict[str, int], buffered: int) -> None:
    assert len(CHUNK) == BYTES_PER_CHUNK
    sender = Sender()
    config = config_for(socket_path, stream_window_bytes=1)
    with ScriptedDaemon(sender, socket_path) as daemon, OpenAIConnector(config=config, **settings) as connector:
        texts = connector.chat_completion_stream(HELLO)
        next(texts)
        assert sender.is_held.wait(PATIENCE_S)
        assert sender.sent_bytes == buffered * BYTES_PER_CHUNK
        assert daemon.hellos[0].stream_window_bytes == buffered * BYTES_PER_CHUNK
        assert sum(1 for _ in texts) == CHUNKS - 1
        assert sum(credit.credit_delta for credit in daemon.credits) <= sender.sent_bytes


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_task_that_stops(socket_path: str, backend: str) -> None:
    """Tasks share a connection: what one does not read holds no other."""
    sender = Sender()

    async def main() -> None:
        async with (
            AsyncOpenAIConnector(config=config_for(socket_path), stream_buffer=20) as connector,
            connector.chat_completion_stream(HELLO) as texts,
        ):
            await anext(texts)
            assert await anyio.to_thread.run_sync(sender.is_held.wait, PATIENCE_S)
            await anyio.wait_all_tasks_blocked()
            assert sender.sent_bytes == 20 * BYTES_PER_CHUNK
            assert len([text async for text in texts]) == CHUNKS - 1

    with ScriptedDaemon(sender, socket_path):
        anyio.run(main, backend=backend)


@pytest.mark.parametrize("size", [0, -1, 4 * 1024 * 1024 + 1])
def test_a_window_that_no_daemon_opens(size: int) -> None:
    with pytest.raises(ConnectorException, match=f"stream_window_bytes: {size} cannot be used"):
        RuntimeConfig(stream_window_bytes=size)
