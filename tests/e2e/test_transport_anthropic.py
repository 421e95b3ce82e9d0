"""The real ``anthropic`` package through the daemon: nothing in it knows that it does not talk to its server itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import anyio
import anyio.to_thread
import httpx2
import pytest
from test_simulator_openai import simulator
from threaded_upstream import PATIENCE_S, Call, config, upstream

from connector_sdk import AsyncRuntimeTransport, RuntimeConfig, RuntimeTransport

__all__ = ["config"]

# The package leaves its own generators to the garbage collector, and trio says so.
pytestmark = pytest.mark.filterwarnings(r"ignore:Async generator '(anthropic|httpx2)\.:ResourceWarning")

ASKED: Any = {"model": "any", "max_tokens": 1000, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def simulator_url() -> Iterator[str]:
    with simulator("--require-key", "sk-right") as running:
        yield running.url


def open_client(config: RuntimeConfig, url: str, key: str = "sk-right", **options: Any) -> anthropic.Anthropic:
    # Without retries: what the daemon says is to be seen at once.
    http_client = httpx2.Client(transport=RuntimeTransport(config))
    return anthropic.Anthropic(base_url=url, api_key=key, http_client=http_client, max_retries=0, **options)


def open_async_client(
    config: RuntimeConfig, url: str, key: str = "sk-right", **options: Any
) -> anthropic.AsyncAnthropic:
    http_client = httpx2.AsyncClient(transport=AsyncRuntimeTransport(config))
    return anthropic.AsyncAnthropic(base_url=url, api_key=key, http_client=http_client, max_retries=0, **options)


@pytest.fixture(params=["asyncio", "trio"])
def run_async(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run(story: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            with anyio.fail_after(PATIENCE_S):
                await story()

        anyio.run(main, backend=request.param)

    return run


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n".encode()


def delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def one_delta_then_silence(call: Call) -> None:
    call.head(200, ("Content-Type", "text/event-stream"))
    call.send(delta("first"))
    call.wait_until_left()


def test_a_message_and_a_stream(config: RuntimeConfig, simulator_url: str) -> None:
    with open_client(config, simulator_url) as client:
        whole = client.messages.create(**ASKED)
        with client.messages.stream(**ASKED) as stream:
            text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert whole.content[0].type == "text"
    assert text == whole.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


def test_an_async_message_and_a_stream(run_async: Any, config: RuntimeConfig, simulator_url: str) -> None:
    async def story() -> None:
        async with open_async_client(config, simulator_url) as client:
            whole = await client.messages.create(**ASKED)
            async with client.messages.stream(**ASKED) as stream:
                text = "".join([text async for text in stream.text_stream])
        assert whole.content[0].type == "text"
        assert text == whole.content[0].text

    run_async(story)


def test_the_first_event_is_there_before_the_second_is_sent(config: RuntimeConfig) -> None:
    is_read = threading.Event()

    def answer(call: Call) -> None:
        call.head(200, ("Content-Type", "text/event-stream"))
        call.send(delta("first"))
        assert is_read.wait(PATIENCE_S)
        call.send(delta("second"))

    with upstream(answer) as there, open_client(config, there.url) as client:
        seen = []
        for part in client.messages.create(**ASKED, stream=True):
            seen.append(part.delta.text)
            is_read.set()
    assert seen == ["first", "second"]


def test_closing_the_stream_closes_the_upstreams_connection(config: RuntimeConfig) -> None:
    with upstream(one_delta_then_silence) as there, open_client(config, there.url) as client:
        stream = client.messages.create(**ASKED, stream=True)
        assert next(stream).type == "content_block_delta"
        assert not there.was_left.is_set()
        stream.close()
        assert there.was_left.wait(PATIENCE_S)


def test_closing_the_async_stream_closes_the_upstreams_connection(run_async: Any, config: RuntimeConfig) -> None:
    async def story() -> None:
        async with open_async_client(config, there.url) as client:
            stream = await client.messages.create(**ASKED, stream=True)
            assert (await anext(stream)).type == "content_block_delta"
            assert not there.was_left.is_set()
            await stream.close()
            assert await anyio.to_thread.run_sync(there.was_left.wait, PATIENCE_S)

    with upstream(one_delta_then_silence) as there:
        run_async(story)


def test_threads_share_a_client(config: RuntimeConfig, simulator_url: str) -> None:
    with open_client(config, simulator_url) as client, ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: client.messages.create(**ASKED).content, range(12)))
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    ("model", "key", "expected"),
    [
        ("simulate-quota", "sk-right", anthropic.RateLimitError),
        ("simulate-unknown", "sk-right", anthropic.NotFoundError),
        ("any", "sk-wrong", anthropic.AuthenticationError),
    ],
)
def test_the_apis_errors(
    run_async: Any, config: RuntimeConfig, simulator_url: str, model: str, key: str, expected: type[Exception]
) -> None:
    async def story() -> None:
        async with open_async_client(config, simulator_url, key) as client:
            with pytest.raises(expected):
                await client.messages.create(**ASKED | {"model": model}, stream=True)

    run_async(story)
    with open_client(config, simulator_url, key) as client, pytest.raises(expected):
        client.messages.create(**ASKED | {"model": model})


def test_nobody_at_the_upstream(config: RuntimeConfig) -> None:
    with open_client(config, "http://127.0.0.1:1") as client, pytest.raises(anthropic.APIConnectionError) as e:
        client.messages.create(**ASKED)
    assert "127.0.0.1:1" in str(e.value.__cause__)


def test_the_read_timeout(config: RuntimeConfig) -> None:
    with (
        upstream(Call.wait_until_left) as there,
        open_client(config, there.url, timeout=0.2) as client,
        pytest.raises(anthropic.APITimeoutError),
    ):
        client.messages.create(**ASKED)
    assert there.was_left.wait(PATIENCE_S)
