"""The http connector from JSON to JSON, against a scripted upstream."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
from http_upstream import Client, Peer, Script, hello, say, start_client, start_upstream

from connector_sdk.wire import MAX_FRAME_BYTES, ErrorClass, ExecuteRequest
from vastar_runtime.config import Settings
from vastar_runtime.config.policy import Policy, RetryPolicy
from vastar_runtime.connectors import Services
from vastar_runtime.connectors.base import Outcome
from vastar_runtime.connectors.http import HttpConnector
from vastar_runtime.errors import RequestError
from vastar_runtime.policies.pipeline import Pipeline

EVENTS = b'data: {"n": 1}\n\nevent: x\ndata: not [DONE]\n\ndata: {"n": 2}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def client(nursery: trio.Nursery) -> Client:
    return start_client(nursery)


def hold_all(size: int) -> None:
    """Nothing is too much."""


async def execute(
    client: Client, hold: Callable[[int], object] = hold_all, outcome: Outcome | None = None, **parameters: Any
) -> dict[str, Any]:
    payload = json.dumps(parameters).encode()
    request = ExecuteRequest(
        request_id=1, tenant_id="tenant", connector_name="http", operation="request", payload=payload
    )
    call = HttpConnector().prepare(request, outcome or Outcome())
    services = Services(pool=client.pool, dialer=client.dialer)
    once = Pipeline(Settings(policy=Policy(retry=RetryPolicy(max_retries=0))))
    passage = once.passage("tenant", call.origin, deadline_at_ms=0, timeout_ms=None)
    passage.deadline.progress = client.waits.append
    try:
        return json.loads(await call.execute(services, passage, hold))
    finally:
        statistics = client.pool.statistics()
        assert (statistics.active, statistics.waiting) == (0, 0)


async def refusal(client: Client, **options: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await execute(client, **options)
    return caught.value


def event_stream(*pieces: bytes, and_then: bytes = b"", fields: bytes = b"") -> Script:
    """Send the pieces as chunks, each of them taken before the next, and keep the connection open."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n%b" % fields)
        await peer.send(b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await trio.testing.wait_all_tasks_blocked()
        await peer.send(and_then)
        await peer.gone()

    return script


async def test_a_request_and_its_answer(client: Client, nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello)
    outcome = Outcome()
    answer = await execute(
        client, outcome=outcome, url=upstream.url("/path?key=s3cr3t"), method="post",
        headers={"X-Test": "ü"}, body={"a": 1},
    )  # fmt: skip
    assert answer == {"body": "hello", "headers": {"content-length": "5"}, "is_streaming": False, "status_code": 200}
    request = upstream.requests[0]
    assert (request.method, request.target, request.body) == ("POST", "/path?key=s3cr3t", b'{"a": 1}')
    assert request.header("x-test") == "ü".encode().decode("latin-1")
    origin = f"http://127.0.0.1:{upstream.port}"
    assert outcome == Outcome(method="POST", origin=origin, path="/path", status_code=200, body_bytes=5, attempts=1)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 999])
async def test_any_status_is_a_success_of_the_exchange(client: Client, nursery: trio.Nursery, status: int) -> None:
    upstream = await start_upstream(nursery, say(b"HTTP/1.1 %d Any\r\nContent-Length: 2\r\n\r\nno" % status))
    answer = await execute(client, url=upstream.url())
    assert (answer["status_code"], answer["body"]) == (status, "no")


async def test_exact_bytes_come_along_with_a_body_that_is_no_text(client: Client, nursery: trio.Nursery) -> None:
    body = bytes(range(256))
    upstream = await start_upstream(nursery, say(b"HTTP/1.1 200 OK\r\nContent-Length: 256\r\n\r\n" + body))
    answer = await execute(client, url=upstream.url())
    assert base64.b64decode(answer["body_base64"]) == body
    assert answer["body"] == body.decode(errors="replace")


async def test_a_compressed_body_is_text_for_the_client(client: Client, nursery: trio.Nursery) -> None:
    zipped = gzip.compress(b"hello")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(zipped)
    upstream = await start_upstream(nursery, say(head + zipped))
    answer = await execute(client, url=upstream.url())
    assert (answer["body"], answer["headers"]) == ("hello", {})


# --- event streams ---


async def test_an_event_stream_is_collected_up_to_done_though_the_connection_stays_open(
    client: Client, nursery: trio.Nursery
) -> None:
    upstream = await start_upstream(nursery, event_stream(EVENTS, DONE))
    answer = await execute(client, url=upstream.url())
    assert answer["body"] == (EVENTS + DONE).decode()
    assert answer["is_streaming"]
    while upstream.open_connections:  # the stream was cut off here, not left running
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
@pytest.mark.parametrize("done", ["data: [DONE]", "data:[DONE]"])
async def test_done_is_seen_wherever_the_pieces_are_cut(
    client: Client, nursery: trio.Nursery, done: str, end: str
) -> None:
    first = f'data: {{"n": 1}}{end}'
    stream = (first + done + end).encode()
    scripts = [event_stream(stream[:cut], stream[cut:]) for cut in range(1, len(stream))]
    upstream = await start_upstream(nursery, *scripts, event_stream(*(bytes([byte]) for byte in stream)))
    for _ in range(len(scripts) + 1):
        answer = await execute(client, url=upstream.url())
        assert answer["body"] == first + done + end  # complete, though its empty line may be on its way still


async def test_a_stream_of_done_alone(client: Client, nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, event_stream(DONE))
    assert (await execute(client, url=upstream.url()))["body"] == "data: [DONE]\n\n"


async def test_what_stands_behind_done_is_dropped(client: Client, nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, event_stream(EVENTS + DONE + b"data: more\n\n"))
    assert (await execute(client, url=upstream.url()))["body"] == (EVENTS + DONE).decode()


async def test_a_stream_whose_end_came_with_done_leaves_its_connection_for_the_next(
    client: Client, nursery: trio.Nursery
) -> None:
    body = EVENTS + DONE
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    sized = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    upstream = await start_upstream(nursery, say(chunked, sized, chunked))
    for _ in range(3):
        assert (await execute(client, url=upstream.url()))["body"] == body.decode()
    assert upstream.connections == 1


async def test_a_stream_without_done_is_collected_to_its_end(client: Client, nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, event_stream(EVENTS, b"data: [DONE] not\n\n", and_then=b"0\r\n\r\n"))
    assert (await execute(client, url=upstream.url()))["body"] == (EVENTS + b"data: [DONE] not\n\n").decode()


async def test_done_in_another_content_type_means_nothing(client: Client, nursery: trio.Nursery) -> None:
    body = DONE + b"and more"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
    upstream = await start_upstream(nursery, say(head + body))
    answer = await execute(client, url=upstream.url())
    assert answer["body"] == body.decode()
    assert not answer["is_streaming"]


async def test_a_compressed_event_stream_ends_with_done_too(client: Client, nursery: trio.Nursery) -> None:
    zipped = gzip.compress(EVENTS + DONE + b"data: more\n\n")
    upstream = await start_upstream(nursery, event_stream(zipped, fields=b"Content-Encoding: gzip\r\n"))
    assert (await execute(client, url=upstream.url()))["body"] == (EVENTS + DONE).decode()


# --- too much ---


def endless(fields: bytes, piece: bytes) -> Script:
    """A body that goes on as long as it is read."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
        while True:
            await peer.send(piece)

    return script


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        (b"Content-Length: 20971520\r\n", "20971520"),
        (b"Content-Length: 18446744073709551615\r\n", "18446744073709551615"),
        (b"", "at least "),
    ],
)
async def test_a_body_over_the_limit_is_permanent_and_says_how_long_it_is(
    client: Client, nursery: trio.Nursery, fields: bytes, size: str
) -> None:
    upstream = await start_upstream(nursery, endless(fields, bytes(65_536)))
    error = await refusal(client, url=upstream.url())
    assert error.error_class is ErrorClass.PERMANENT
    assert error.message.startswith(f"response body of {size}")
    assert error.message.endswith(f"bytes exceeds the frame limit of {MAX_FRAME_BYTES} bytes; use streaming")
    while upstream.open_connections:
        await trio.testing.wait_all_tasks_blocked()


async def test_a_declared_length_over_the_limit_is_refused_before_any_of_the_body_comes(
    client: Client, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20971520\r\n\r\n")
        await peer.gone()

    upstream = await start_upstream(nursery, script)
    error = await refusal(client, url=upstream.url())
    assert "response body of 20971520 bytes exceeds" in error.message


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("GET", 204)])
async def test_a_length_without_a_body_is_no_reason_to_refuse(
    client: Client, nursery: trio.Nursery, method: str, status: int
) -> None:
    """It tells of what a GET would have brought (RFC 9110, section 8.6)."""
    upstream = await start_upstream(nursery, say(b"HTTP/1.1 %d Any\r\nContent-Length: 20971520\r\n\r\n" % status))
    answer = await execute(client, url=upstream.url(), method=method)
    assert (answer["status_code"], answer["body"]) == (status, "")


async def test_a_chunk_of_2_to_the_64_bytes_is_one_of_them(client: Client, nursery: trio.Nursery) -> None:
    first = b"Transfer-Encoding: chunked\r\n\r\n10000000000000000"
    upstream = await start_upstream(nursery, endless(first, bytes(65_536)))
    error = await refusal(client, url=upstream.url())
    assert error.error_class is ErrorClass.PERMANENT
    assert "response body of at least 10" in error.message


async def test_a_gzip_bomb_is_one_of_them(client: Client, nursery: trio.Nursery) -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    held: list[int] = []
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    upstream = await start_upstream(nursery, say(head + bomb))
    error = await refusal(client, hold=held.append, url=upstream.url())
    assert error.error_class is ErrorClass.PERMANENT
    assert "response body of at least 10" in error.message
    assert MAX_FRAME_BYTES - 200_000 < sum(held) <= MAX_FRAME_BYTES


async def test_a_body_that_fits_but_whose_json_text_does_not(client: Client, nursery: trio.Nursery) -> None:
    body = b"\x01" * 2_000_000
    upstream = await start_upstream(nursery, say(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + body))
    error = await refusal(client, url=upstream.url())
    assert error.error_class is ErrorClass.PERMANENT
    assert error.message.startswith("response body of 2000000 bytes exceeds, as JSON text of 120000")


async def test_whoever_says_that_too_much_is_held_ends_the_exchange(client: Client, nursery: trio.Nursery) -> None:
    def hold(size: int) -> None:
        raise RequestError(ErrorClass.RATE_LIMITED, "enough")

    upstream = await start_upstream(nursery, endless(b"", bytes(65_536)))
    error = await refusal(client, hold=hold, url=upstream.url())
    assert error.error_class is ErrorClass.RATE_LIMITED
    while upstream.open_connections:
        await trio.testing.wait_all_tasks_blocked()
