"""The real ``openai`` package through the daemon: nothing in it knows that it does not talk to its server itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import httpx
import httpx2
import openai
import pytest
from test_simulator_openai import simulator
from threaded_upstream import PATIENCE_S, Call, config, upstream

from connector_sdk import AsyncRuntimeTransport, RuntimeConfig, RuntimeTransport

__all__ = ["config"]

# The package leaves its own generators to the garbage collector, and trio says so.
pytestmark = pytest.mark.filterwarnings(r"ignore:Async generator '(openai|httpx2)\.:ResourceWarning")

HELLO: Any = [{"role": "user", "content": "Hello"}]
EVERY_BYTE = bytes(range(256)) * 300


@pytest.fixture(scope="module")
def simulator_url() -> Iterator[str]:
    with simulator("--require-key", "sk-right") as running:
        yield f"{running.url}/v1"


def open_client(config: RuntimeConfig, url: str, key: str = "sk-right", **options: Any) -> openai.OpenAI:
    # Without retries: what the daemon says is to be seen at once.
    http_client = httpx2.Client(transport=RuntimeTransport(config))
    return openai.OpenAI(base_url=url, api_key=key, http_client=http_client, max_retries=0, **options)


def open_async_client(config: RuntimeConfig, url: str, key: str = "sk-right", **options: Any) -> openai.AsyncOpenAI:
    http_client = httpx2.AsyncClient(transport=AsyncRuntimeTransport(config))
    return openai.AsyncOpenAI(base_url=url, api_key=key, http_client=http_client, max_retries=0, **options)


@pytest.fixture(params=["asyncio", "trio"])
def run_async(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run(story: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            with anyio.fail_after(PATIENCE_S):
                await story()

        anyio.run(main, backend=request.param)

    return run


def chunk(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n".encode()


def one_chunk_then_silence(call: Call) -> None:
    call.head(200, ("Content-Type", "text/event-stream"))
    call.send(chunk("first"))
    call.wait_until_left()


# --- chat ---


def test_chat_and_stream(config: RuntimeConfig, simulator_url: str) -> None:
    with open_client(config, simulator_url) as client:
        whole = client.chat.completions.create(model="any", messages=HELLO)
        chunks = client.chat.completions.create(model="any", messages=HELLO, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert whole.usage is not None


def test_async_chat_and_stream(run_async: Any, config: RuntimeConfig, simulator_url: str) -> None:
    async def story() -> None:
        async with open_async_client(config, simulator_url) as client:
            whole = await client.chat.completions.create(model="any", messages=HELLO)
            chunks = await client.chat.completions.create(model="any", messages=HELLO, stream=True)
            texts = [chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices]
        assert "".join(texts) == whole.choices[0].message.content

    run_async(story)


def test_through_the_older_httpx(config: RuntimeConfig, simulator_url: str) -> None:
    http_client: Any = httpx.Client(transport=RuntimeTransport(config))  # type: ignore[arg-type]
    with openai.OpenAI(base_url=simulator_url, api_key="sk-right", http_client=http_client) as client:
        assert client.chat.completions.create(model="any", messages=HELLO).choices[0].message.content


def test_the_first_chunk_is_there_before_the_second_is_sent(config: RuntimeConfig) -> None:
    is_read = threading.Event()

    def answer(call: Call) -> None:
        call.head(200, ("Content-Type", "text/event-stream"))
        call.send(chunk("first"))
        assert is_read.wait(PATIENCE_S)
        call.send(chunk("second") + b"data: [DONE]\n\n")

    with upstream(answer) as there, open_client(config, there.url) as client:
        seen = []
        for part in client.chat.completions.create(model="any", messages=HELLO, stream=True):
            seen.append(part.choices[0].delta.content)
            is_read.set()
    assert seen == ["first", "second"]


def test_closing_the_stream_closes_the_upstreams_connection(config: RuntimeConfig) -> None:
    with upstream(one_chunk_then_silence) as there, open_client(config, there.url) as client:
        stream = client.chat.completions.create(model="any", messages=HELLO, stream=True)
        assert next(stream).choices[0].delta.content == "first"
        assert not there.was_left.is_set()
        stream.close()
        assert there.was_left.wait(PATIENCE_S)


def test_closing_the_async_stream_closes_the_upstreams_connection(run_async: Any, config: RuntimeConfig) -> None:
    async def story() -> None:
        async with open_async_client(config, there.url) as client:
            stream = await client.chat.completions.create(model="any", messages=HELLO, stream=True)
            assert (await anext(stream)).choices[0].delta.content == "first"
            assert not there.was_left.is_set()
            await stream.close()
            assert await anyio.to_thread.run_sync(there.was_left.wait, PATIENCE_S)

    with upstream(one_chunk_then_silence) as there:
        run_async(story)


def test_a_client_that_is_never_closed_and_used_in_loop_after_loop(config: RuntimeConfig, simulator_url: str) -> None:
    async def story() -> str | None:
        answer = await client.chat.completions.create(model="any", messages=HELLO)
        return answer.choices[0].message.content

    client = open_async_client(config, simulator_url)
    assert anyio.run(story) == anyio.run(story) == anyio.run(story, backend="trio")


def test_threads_share_a_client(config: RuntimeConfig, simulator_url: str) -> None:
    def ask(number: int) -> str:
        messages: Any = [{"role": "user", "content": f"Question {number}"}]
        stream = client.chat.completions.create(model="any", messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    with open_client(config, simulator_url) as client, ThreadPoolExecutor(6) as threads:
        together = list(threads.map(ask, range(12)))
        assert together == [ask(number) for number in range(12)]


def test_tasks_share_a_client(run_async: Any, config: RuntimeConfig, simulator_url: str) -> None:
    async def story() -> None:
        async def ask(number: int) -> None:
            answer = await client.chat.completions.create(model="any", messages=HELLO)
            answers[number] = answer.choices[0].message.content

        answers: dict[int, str | None] = {}
        async with open_async_client(config, simulator_url) as client, anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(ask, number)
        assert len(answers) == 12
        assert len(set(answers.values())) == 1

    run_async(story)


# --- other resources ---


def test_a_file_arrives_exactly(config: RuntimeConfig) -> None:
    def answer(call: Call) -> None:
        about = {"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "data.bin"}
        call.answer(200, json.dumps(about | {"purpose": "assistants", "status": "processed"}).encode(), JSON)

    with upstream(answer) as there, open_client(config, there.url) as client:
        assert client.files.create(file=("data.bin", EVERY_BYTE), purpose="assistants").id == "file-1"
    content_type = dict(there.last.headers)["content-type"]
    boundary = content_type.partition("boundary=")[2].encode()
    part = next(part for part in there.last.body.split(b"--" + boundary) if b'filename="data.bin"' in part)
    assert part.partition(b"\r\n\r\n")[2] == EVERY_BYTE + b"\r\n"


def test_embeddings(config: RuntimeConfig) -> None:
    def answer(call: Call) -> None:
        assert json.loads(call.seen.body)["input"] == "text"
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -1.25]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        call.answer(200, json.dumps({"object": "list", "data": data, "model": "m", "usage": usage}).encode(), JSON)

    with upstream(answer) as there, open_client(config, there.url) as client:
        assert client.embeddings.create(model="m", input="text").data[0].embedding == [0.5, -1.25]


JSON = ("Content-Type", "application/json")


# --- errors ---


@pytest.mark.parametrize(
    ("model", "key", "expected"),
    [
        ("simulate-quota", "sk-right", openai.RateLimitError),
        ("simulate-unknown", "sk-right", openai.NotFoundError),
        ("any", "sk-wrong", openai.AuthenticationError),
    ],
)
def test_the_apis_errors(
    run_async: Any, config: RuntimeConfig, simulator_url: str, model: str, key: str, expected: type[Exception]
) -> None:
    async def story() -> None:
        async with open_async_client(config, simulator_url, key) as client:
            with pytest.raises(expected):
                await client.chat.completions.create(model=model, messages=HELLO, stream=True)

    run_async(story)
    with open_client(config, simulator_url, key) as client, pytest.raises(expected):
        client.chat.completions.create(model=model, messages=HELLO)


def test_nobody_at_the_upstream(config: RuntimeConfig) -> None:
    with open_client(config, "http://127.0.0.1:1") as client, pytest.raises(openai.APIConnectionError) as e:
        client.models.list()
    assert "127.0.0.1:1" in str(e.value.__cause__)


def test_the_read_timeout(config: RuntimeConfig) -> None:
    with (
        upstream(Call.wait_until_left) as there,
        open_client(config, there.url, timeout=0.2) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        client.models.list()
    assert there.was_left.wait(PATIENCE_S)


def test_a_connection_that_fails_is_tried_again_by_the_package(config: RuntimeConfig) -> None:
    def answer(call: Call) -> None:
        if len(call.upstream.seen) > 2:
            call.answer(200, json.dumps({"object": "list", "data": []}).encode(), JSON)

    with upstream(answer) as there:
        client = open_client(config, there.url).with_options(max_retries=3)
        with client:
            assert client.models.list().data == []
    assert len(there.seen) >= 3
