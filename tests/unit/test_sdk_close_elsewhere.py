"""A response that one thread or task reads and another one closes: a stop button, a watchdog."""

from __future__ import annotations

import gc
import threading

import anyio
import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, socket_path
from test_sdk_async_client import Run, run

from connector_sdk import GET, AsyncRuntimeClient, ConnectorException, ErrorClass, RuntimeClient
from connector_sdk.async_connection import AsyncConnection
from connector_sdk.async_openai import AsyncOpenAIConnector
from connector_sdk.chat_request import ChatCompletionRequest, Message
from connector_sdk.wire import BodyChunk, ExecuteRequest, ResponseHead, ResponseMode

__all__ = ["run", "socket_path"]

REQUEST = GET("http://u/")
PATIENCE_S = 20


def _begins_and_says_no_more(peer: Peer, request: ExecuteRequest) -> None:
    if request.response_mode is ResponseMode.BUFFERED:
        peer.answer(request, body="hello")
    else:
        peer.head(request)
        peer.chunk(request, b"begun")


def _says_head_and_text_at_once(peer: Peer, request: ExecuteRequest) -> None:
    text = b'data: {"choices": [{"delta": {"content": "Hello"}}]}\n\n'
    head = ResponseHead(request_id=request.request_id, status_code=200)
    peer.send(peer.wire.send(head) + peer.wire.send(BodyChunk(request_id=request.request_id, data=text)))


def test_a_thread_that_waits_for_more_learns_that_another_closed_the_response(socket_path: str) -> None:
    with (
        ScriptedDaemon(_begins_and_says_no_more, socket_path),
        RuntimeClient(config_for(socket_path)) as client,
        client.stream_http(REQUEST) as response,
    ):
        errors: list[ConnectorException] = []
        has_piece = threading.Event()

        def read() -> None:
            pieces = response.iter_bytes()
            assert next(pieces) == b"begun"
            has_piece.set()
            with pytest.raises(ConnectorException) as caught:
                next(pieces)
            errors.append(caught.value)

        reader = threading.Thread(target=read)
        reader.start()
        assert has_piece.wait(PATIENCE_S)
        response.close()
        reader.join(PATIENCE_S)
        assert [(error.error_class, str(error)) for error in errors] == [
            (ErrorClass.CANCELLED, "the response was closed before its end")
        ]
        assert client.execute_http(REQUEST).body == b"hello"


def test_a_task_that_waits_for_more_learns_that_another_closed_the_response(run: Run, socket_path: str) -> None:
    async def story(client: AsyncRuntimeClient) -> None:
        async with client.stream_http(REQUEST) as response, anyio.create_task_group() as tasks:
            pieces = response.aiter_bytes()
            assert await anext(pieces) == b"begun"

            async def read() -> None:
                with pytest.raises(ConnectorException, match="closed before its end"):
                    await anext(pieces)

            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            response.close()
        assert (await client.execute_http(REQUEST)).body == b"hello"

    with ScriptedDaemon(_begins_and_says_no_more, socket_path) as daemon:
        run(story)
    assert len(daemon.cancelled) == 1


def test_a_response_that_is_dropped_is_cancelled_when_python_collects_it(run: Run, socket_path: str) -> None:
    async def story(client: AsyncRuntimeClient) -> None:
        response = await client.open_stream(REQUEST)
        assert response.status_code == 200
        del response
        gc.collect()
        while not daemon.cancelled:
            await anyio.lowlevel.checkpoint()

    with ScriptedDaemon(_begins_and_says_no_more, socket_path) as daemon:
        run(story)


def test_a_chat_stream_closed_in_the_moment_its_head_arrives_is_cancelled(
    run: Run, socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = AsyncConnection._take

    async def story(_: AsyncRuntimeClient) -> None:
        async with AsyncOpenAIConnector("http://u", config=config_for(socket_path)) as connector:
            chat = connector.chat_completion_stream(ChatCompletionRequest("m", [Message("user", "Hello")]))

            def take_and_close(connection: AsyncConnection, event: object) -> None:
                take(connection, event)  # type: ignore[arg-type]
                if isinstance(event, ResponseHead):
                    chat._close()

            monkeypatch.setattr(AsyncConnection, "_take", take_and_close)
            assert [text async for text in chat] == []
            while not daemon.cancelled:
                await anyio.lowlevel.checkpoint()

    with ScriptedDaemon(_says_head_and_text_at_once, socket_path) as daemon:
        run(story)
