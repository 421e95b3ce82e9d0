"""httpx2 and httpx clients through the daemon, blocking and async: the same stories for both libraries."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from types import ModuleType
from typing import Any

import anyio
import anyio.to_thread
import httpx
import httpx2
import pytest
from threaded_upstream import PATIENCE_S, Call, config, upstream

from connector_sdk import AsyncRuntimeTransport, RuntimeConfig, RuntimeTransport

__all__ = ["config"]

# The libraries leave generators of theirs to the garbage collector, and trio says so.
pytestmark = pytest.mark.filterwarnings(r"ignore:Async generator 'httpx2?\.:ResourceWarning")

EVERY_BYTE = bytes(range(256))


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


@pytest.fixture
def client(library: ModuleType, config: RuntimeConfig) -> Iterator[Any]:
    with library.Client(transport=RuntimeTransport(config)) as client:
        yield client


@pytest.fixture(params=["asyncio", "trio"])
def run_async(request: pytest.FixtureRequest, library: ModuleType, config: RuntimeConfig) -> Callable[..., None]:
    """Tell a story with an async client, in a loop of its own."""

    def run(story: Callable[[Any], Awaitable[None]]) -> None:
        async def main() -> None:
            with anyio.fail_after(PATIENCE_S):
                async with library.AsyncClient(transport=AsyncRuntimeTransport(config)) as client:
                    await story(client)

        anyio.run(main, backend=request.param)

    return run


def echo(call: Call) -> None:
    call.answer(200, call.seen.body)


# --- the request ---


def test_method_target_and_headers_arrive_as_they_are(client: Any) -> None:
    headers = [("X-A", "1"), ("x-b", "ü".encode()), ("X-A", "2"), ("Accept", "a/b"), ("Cookie", "c=d")]
    with upstream(echo) as there:
        response = client.patch(f"{there.url}/a%2Fb%20c//d?q=%26&q=1+2&ü=ü", headers=headers)
        assert response.status_code == 200
        # As bytes: what the server made of them is Latin-1.
        seen = [(name.lower(), value.encode("latin-1")) for name, value in there.last.headers]
    assert (there.last.method, there.last.target) == ("PATCH", "/a%2Fb%20c//d?q=%26&q=1+2&%C3%BC=%C3%BC")
    assert [value for name, value in seen if name == "x-a"] == [b"1", b"2"]
    assert {("x-b", "ü".encode()), ("accept", b"a/b"), ("cookie", b"c=d")} <= set(seen)
    assert len([name for name, _ in seen if name in ("host", "content-length")]) == 2


def test_every_form_of_body(client: Any) -> None:
    def pieces() -> Iterator[bytes]:
        yield EVERY_BYTE
        yield EVERY_BYTE

    with upstream(echo) as there:
        assert client.post(there.url, content=EVERY_BYTE).content == EVERY_BYTE
        assert client.post(there.url, content=pieces()).content == EVERY_BYTE * 2
        assert client.post(there.url, json={"a": "ü"}).json() == {"a": "ü"}
        assert client.post(there.url, data={"a": "1"}).text == "a=1"
        assert EVERY_BYTE in client.post(there.url, files={"f": ("name", EVERY_BYTE)}).content
        assert client.post(there.url).content == b""


def test_every_form_of_async_body(run_async: Callable[..., None]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield EVERY_BYTE
        yield EVERY_BYTE

    async def story(client: Any) -> None:
        assert (await client.post(there.url, content=EVERY_BYTE)).content == EVERY_BYTE
        assert (await client.post(there.url, content=pieces())).content == EVERY_BYTE * 2
        assert EVERY_BYTE in (await client.post(there.url, files={"f": ("name", EVERY_BYTE)})).content

    with upstream(echo) as there:
        run_async(story)


def test_userinfo_becomes_basic_auth_once(client: Any) -> None:
    with upstream(echo) as there:
        client.get(there.url.replace("//", "//user:pass@"))
    assert [value for name, value in there.last.headers if name.lower() == "authorization"] == ["Basic dXNlcjpwYXNz"]


# --- the response ---


def test_head_before_body_and_each_piece_before_the_next(client: Any) -> None:
    may_go_on = threading.Semaphore(0)

    def answer(call: Call) -> None:
        call.head(207, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-B", "ü"))
        for number in range(3):
            assert may_go_on.acquire(timeout=PATIENCE_S)
            call.send(b"%d\n" % number)

    with upstream(lambda call: answer(call)) as there, client.stream("GET", there.url) as response:
        assert (response.status_code, response.http_version) == (207, "HTTP/1.1")
        assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert (b"x-b", "ü".encode()) in [(name.lower(), value) for name, value in response.headers.raw]
        assert dict(client.cookies) == {"a": "1", "b": "2"}
        seen = []
        may_go_on.release()
        for line in response.iter_lines():
            seen.append(line)
            may_go_on.release()
    assert seen == ["0", "1", "2"]


def test_leaving_early_closes_the_upstreams_connection(client: Any) -> None:
    def answer(call: Call) -> None:
        call.head(200)
        call.send(b"first")
        call.wait_until_left()

    with upstream(answer) as there:
        with client.stream("GET", there.url) as response:
            pieces = response.iter_bytes()
            assert next(pieces) == b"first"
            assert not there.was_left.is_set()
        assert there.was_left.wait(PATIENCE_S)


def test_a_task_that_is_cancelled_or_leaves_closes_the_upstreams_connection(run_async: Callable[..., None]) -> None:
    def answer(call: Call) -> None:
        if call.path == "/head":
            is_asked.set()
        else:
            call.head(200)
            call.send(b"first")
        call.wait_until_left()

    async def story(client: Any) -> None:
        async with (
            client.stream("GET", f"{there.url}/body") as response,
            aclosing(response.aiter_bytes()) as pieces,
        ):
            assert await anext(pieces) == b"first"
        assert await anyio.to_thread.run_sync(there.was_left.wait, PATIENCE_S)
        there.was_left.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.get, f"{there.url}/head")
            assert await anyio.to_thread.run_sync(is_asked.wait, PATIENCE_S)
            tasks.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(there.was_left.wait, PATIENCE_S)

    is_asked = threading.Event()
    with upstream(answer) as there:
        run_async(story)


@pytest.mark.parametrize("decoded_by", ["library", "daemon"])
def test_a_compressed_body_is_decoded_once(client: Any, decoded_by: str) -> None:
    def answer(call: Call) -> None:
        call.answer(200, gzip.compress(b"hello" * 100), ("Content-Encoding", "gzip"))

    with upstream(answer) as there:
        request = client.build_request("GET", there.url)
        if decoded_by == "daemon":
            del request.headers["Accept-Encoding"]
        response = client.send(request)
    assert response.content == b"hello" * 100
    assert ("content-encoding" in response.headers) == (decoded_by == "library")


def test_a_response_without_a_body(client: Any) -> None:
    with upstream(lambda call: call.head(204)) as there:
        assert (client.get(there.url).status_code, client.head(there.url).content) == (204, b"")


def test_redirects_are_the_daemons(client: Any) -> None:
    def answer(call: Call) -> None:
        if call.path == "/from":
            call.answer(302, b"", ("Location", "/to"))
        else:
            call.answer(200, call.path.encode())

    with upstream(answer) as there:
        response = client.get(f"{there.url}/from")
    assert (response.text, response.history, response.url) == ("/to", [], f"{there.url}/from")


def test_threads_share_a_client(client: Any) -> None:
    with upstream(echo) as there, ThreadPoolExecutor(8) as threads:
        bodies = list(threads.map(lambda n: client.post(there.url, content=str(n)).text, range(40)))
    assert bodies == [str(n) for n in range(40)]


def test_tasks_share_a_client(run_async: Callable[..., None]) -> None:
    async def story(client: Any) -> None:
        async def one(number: int) -> None:
            bodies[number] = (await client.post(there.url, json=number)).json()

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(one, number)

    bodies: dict[int, int] = {}
    with upstream(echo) as there:
        run_async(story)
    assert bodies == {number: number for number in range(40)}


def test_one_transport_serves_both_libraries_and_loop_after_loop(config: RuntimeConfig) -> None:
    async def ask(library: Any) -> str:
        client = library.AsyncClient(transport=transport)  # never closed
        text: str = (await client.post(there.url, content="hello")).text
        return text

    transport = AsyncRuntimeTransport(config)
    with upstream(echo) as there:
        for library in (httpx2, httpx):
            for backend in ("asyncio", "trio"):
                assert anyio.run(ask, library, backend=backend) == "hello"


def test_a_closed_transport_starts_over(config: RuntimeConfig, library: Any) -> None:
    transport = RuntimeTransport(config)
    with upstream(echo) as there:
        for _ in range(2):
            with library.Client(transport=transport) as client:
                assert client.post(there.url, content="hello").text == "hello"
        with pytest.raises(RuntimeError, match="closed"):
            client.get(there.url)
        transport.close()


def test_an_iterator_that_fails_fails_as_it_does(client: Any) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"first"
        raise ZeroDivisionError("mine")

    with upstream(echo) as there:
        with pytest.raises(ZeroDivisionError, match="mine"):
            client.post(there.url, content=pieces())
        assert there.seen == []


def test_a_body_that_is_too_long_is_refused_before_it_is_read_to_its_end(client: Any, library: Any) -> None:
    def pieces() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield bytes(1024 * 1024)

    taken: list[int] = []
    with upstream(echo) as there:
        with pytest.raises(library.LocalProtocolError, match="10485760 bytes") as e:
            client.post(there.url, content=pieces())
        assert len(taken) == 11
        assert str(e.value.request.url) == there.url
        with pytest.raises(library.LocalProtocolError, match="10485760"):
            client.post(there.url, content=bytes(10_485_760))
        assert client.post(there.url, content=bytes(9_000_000)).content == bytes(9_000_000)


class Pieces(AsyncIterator[bytes]):
    """A body without end, until ``fails_at``."""

    def __init__(self, size: int, fails_at: int = 1000) -> None:
        self.size = size
        self.fails_at = fails_at
        self.taken = 0

    async def __anext__(self) -> bytes:
        self.taken += 1
        if self.taken == self.fails_at:
            raise ZeroDivisionError("mine")
        return bytes(self.size)


def test_the_same_of_async_iterators(run_async: Callable[..., None], library: Any) -> None:
    async def story(client: Any) -> None:
        with pytest.raises(ZeroDivisionError, match="mine"):
            await client.post(there.url, content=Pieces(5, fails_at=3))
        pieces = Pieces(1024 * 1024)
        with pytest.raises(library.LocalProtocolError, match="10485760 bytes"):
            await client.post(there.url, content=pieces)
        assert pieces.taken == 11
        assert there.seen == []

    with upstream(echo) as there:
        run_async(story)


def test_a_generator_that_is_not_read_to_its_end_is_closed_at_once(
    run_async: Callable[..., None], library: Any
) -> None:
    class Endless(library.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(1024 * 1024)
            finally:
                is_closed.append(True)

    async def story(client: Any) -> None:
        with pytest.raises(library.LocalProtocolError, match="10485760 bytes"):
            await client.send(library.Request("POST", "http://127.0.0.1:1/", stream=Endless()))
        assert is_closed

    is_closed: list[bool] = []
    run_async(story)


def test_json_of_the_upstream_is_there(client: Any) -> None:
    body = json.dumps({"x": list(range(10_000))}).encode()
    with upstream(lambda call: call.answer(200, body, ("Content-Type", "application/json"))) as there:
        assert client.get(there.url).json() == {"x": list(range(10_000))}
