"""AsyncOpenAIConnector: completions and failures, under asyncio and under trio."""

from __future__ import annotations

import json
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, error_frame, socket_path

from connector_sdk import APIError, ConnectorException, ErrorClass
from connector_sdk.openai import AsyncOpenAIConnector, ChatCompletionRequest, Message, OpenAIConnector, Usage
from connector_sdk.wire import ExecuteRequest

__all__ = ["socket_path"]

KEY = "sk-secret-0123456789"
HELLO = ChatCompletionRequest("m", [Message("user", "hi"), {"role": "user", "content": "there"}], max_tokens=7)
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
COMPLETION = json.dumps({"choices": [{"message": {"role": "assistant", "content": "Hellö"}}], "usage": USAGE})
PATIENCE_S = 20

Story = Callable[[AsyncOpenAIConnector], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest, socket_path: str) -> Run:
    """Tell a story with an open connector, in a loop of its own."""

    def run(story: Story, **settings: Any) -> None:
        async def main() -> None:
            with anyio.fail_after(PATIENCE_S):
                settings.setdefault("max_retries", 0)
                async with AsyncOpenAIConnector(config=config_for(socket_path), **settings) as connector:
                    await story(connector)

        anyio.run(main, backend=request.param)

    return run


def answering(body: str, status_code: int = 200) -> Callable[[Peer, ExecuteRequest], None]:
    return lambda peer, request: peer.answer(request, status_code=status_code, body=body)


def test_it_asks_exactly_what_the_blocking_one_asks(run: Run, socket_path: str) -> None:
    async def story(connector: AsyncOpenAIConnector) -> None:
        assert await connector.chat_completion(HELLO) == "Hellö"
        assert connector.last_usage == Usage(1, 2, 3)
        assert await connector.test_connection("n") == "Hellö"
        with pytest.raises(ConnectorException):
            await anext(connector.stream_chunks(HELLO))

    settings = {"base_url": "http://h/v1/", "api_key": KEY, "timeout_ms": 7_000, "max_retries": 0}
    with ScriptedDaemon(answering(COMPLETION), socket_path) as daemon:
        run(story, **settings)
        with OpenAIConnector(config=config_for(socket_path), **settings) as connector:
            connector.chat_completion(HELLO)
            connector.test_connection("n")
            with pytest.raises(ConnectorException):
                next(connector.stream_chunks(HELLO))
    assert len(daemon.payloads) == 6
    assert daemon.payloads[:3] == daemon.payloads[3:]


def test_a_connector_that_is_opened_without_a_block(socket_path: str) -> None:
    async def main() -> None:
        connector = AsyncOpenAIConnector(config=config_for(socket_path))
        assert await connector.chat_completion(HELLO) == "Hellö"
        await connector.aclose()
        for ask in (lambda: connector.chat_completion(HELLO), lambda: anext(connector.stream_chunks(HELLO))):
            with pytest.raises(ConnectorException, match="closed") as e:
                await ask()
            assert e.value.error_class is ErrorClass.INVALID_REQUEST

    with ScriptedDaemon(answering(COMPLETION), socket_path):
        for backend in ("asyncio", "trio"):
            anyio.run(main, backend=backend)


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_error_of_the_api(run: Run, socket_path: str, is_stream: bool) -> None:
    body = json.dumps({"error": {"message": "what is wrong", "type": "requests", "code": "rate_limit_exceeded"}})

    async def story(connector: AsyncOpenAIConnector) -> None:
        with pytest.raises(APIError, match="what is wrong") as e:
            await (anext(connector.stream_chunks(HELLO)) if is_stream else connector.chat_completion(HELLO))
        assert (e.value.status, e.value.code, e.value.is_retryable()) == (429, "rate_limit_exceeded", True)
        assert e.value.request_id == daemon.requests[0].request_id

    with ScriptedDaemon(answering(body, 429), socket_path) as daemon:
        run(story)


def test_a_completion_that_fails_leaves_no_usage(run: Run, socket_path: str) -> None:
    async def story(connector: AsyncOpenAIConnector) -> None:
        await connector.chat_completion(HELLO)
        daemon.script = answering("no", 500)
        with pytest.raises(APIError):
            await connector.chat_completion(HELLO)
        assert connector.last_usage is None

    with ScriptedDaemon(answering(COMPLETION), socket_path) as daemon:
        run(story)


def _refusal(peer: Peer, request: ExecuteRequest) -> None:
    peer.send(error_frame(request.request_id, ErrorClass.INVALID_REQUEST, f"bad value 'Bearer {KEY}'"))


def _refusal_of_nobody(peer: Peer, request: ExecuteRequest) -> None:
    peer.send(error_frame(0, ErrorClass.INVALID_REQUEST, f"bad value 'Bearer {KEY}'"))


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    "script",
    [
        answering(json.dumps({"error": {"message": f"Incorrect: {KEY}", "code": KEY, "type": KEY, "param": KEY}}), 401),
        answering("x" * 190 + KEY, 401),
        answering(f"data: Bearer {KEY}\n\n"),
        _refusal,
        _refusal_of_nobody,
    ],
)
def test_the_key_is_in_no_exception(
    run: Run, socket_path: str, script: Callable[[Peer, ExecuteRequest], None], is_stream: bool
) -> None:
    """Nor in what caused it, which a traceback shows as well."""

    async def story(connector: AsyncOpenAIConnector) -> None:
        with pytest.raises(ConnectorException) as e:
            await (anext(connector.stream_chunks(HELLO)) if is_stream else connector.chat_completion(HELLO))
        shown = f"{e.value!r} {e.value.args} {vars(e.value)} {connector!r}"
        shown += "".join(traceback.format_exception(e.value))
        assert KEY[:8] not in shown
        assert "[api key]" in shown
        causes = [e.value.__cause__, e.value.__cause__ and e.value.__cause__.__cause__]
        assert not any(KEY in str(vars(cause)) for cause in causes if cause is not None)

    with ScriptedDaemon(script, socket_path):
        run(story, api_key=KEY)


def test_no_daemon(run: Run) -> None:
    async def story(connector: AsyncOpenAIConnector) -> None:
        with pytest.raises(ConnectorException, match="vastar-runtime start") as e:
            await connector.chat_completion(HELLO)
        assert e.value.is_retryable()

    run(story)


def test_what_cannot_be_used_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ConnectorException, match="api_key"):
        AsyncOpenAIConnector(api_key="a b")
    with pytest.raises(TypeError, match="base_url"):
        AsyncOpenAIConnector(None)
    with pytest.raises(TypeError, match="request"):
        AsyncOpenAIConnector().stream_chunks("hi")
