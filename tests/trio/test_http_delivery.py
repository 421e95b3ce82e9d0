"""What is delivered in the end: redirects followed first, Content-Encoding undone on the way."""

from __future__ import annotations

import gzip

import pytest
import trio
import trio.testing
from http_upstream import (
    Client,
    Peer,
    World,
    failure,
    hello,
    pieces_of,
    say,
    start_client,
    start_upstream,
)

from connector_sdk.wire import ErrorClass
from vastar_runtime.http.exchange import MAX_DRAIN_S

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(params=["plain", "tls"])
def world(request: pytest.FixtureRequest, nursery: trio.Nursery) -> World:
    return World(nursery, request.param == "tls")


@pytest.fixture
def client(nursery: trio.Nursery) -> Client:
    return start_client(nursery)


# --- redirects ---


def redirect(location: str, status: int = 302, body: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def test_ten_redirects_are_followed_on_one_connection(world: World) -> None:
    upstream = await world.upstream(say(*[redirect(f"/{n}", body=b"moved") for n in range(1, 11)], HELLO))
    answer = await world.client.fetch(upstream.url("/0"))
    assert answer.body == b"hello"
    assert [request.target for request in upstream.requests] == [f"/{n}" for n in range(11)]
    assert upstream.connections == 1


async def test_the_eleventh_redirect_ends_it(client: Client, nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, say(*[redirect("/next")] * 11))
    error = await failure(client, upstream.url())
    assert error.error_class is ErrorClass.PERMANENT
    assert error.message == (
        f"HTTP request failed: stopped after 10 redirects, the last one to http://127.0.0.1:{upstream.port}"
    )
    assert len(upstream.requests) == 11


async def test_secrets_do_not_follow_to_another_origin(client: Client, nursery: trio.Nursery) -> None:
    other = await start_upstream(nursery, hello)
    upstream = await start_upstream(nursery, say(redirect(other.url("/there"), 307)))
    secrets = [("Authorization", "s3cr3t"), ("Cookie", "s3cr3t"), ("X-Kept", "yes")]
    await client.fetch(upstream.url("/here?q"), "POST", headers=secrets, body=b"body")
    first, second = upstream.requests[0], other.requests[0]
    assert (first.header("authorization"), first.header("cookie")) == ("s3cr3t", "s3cr3t")
    assert (second.method, second.target, second.body) == ("POST", "/there", b"body")
    assert (second.header("authorization"), second.header("cookie")) == (None, None)
    assert second.header("x-kept") == "yes"
    assert second.header("host") == f"127.0.0.1:{other.port}"
    assert second.header("referer") == upstream.url("/here?q")


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 1000000\r\n\r\n" + bytes(1_000_000),
        b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"Content-Length: 10\r\n\r\ncut",
    ],
    ids=["long", "broken", "cut short"],
)
async def test_a_redirects_body_cannot_hold_it_up(client: Client, nursery: trio.Nursery, body: bytes) -> None:
    """It is of no use: what is wrong with it costs only the connection."""
    upstream = await start_upstream(nursery, say(b"HTTP/1.1 302 Found\r\nLocation: /next\r\n" + body), hello)
    assert (await client.fetch(upstream.url())).body == b"hello"
    assert upstream.connections == 2


async def test_a_redirects_body_that_stalls_is_given_up(
    client: Client, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 10\r\n\r\nhalf")
        await peer.gone()

    upstream = await start_upstream(nursery, script, hello)
    began = trio.current_time()
    assert (await client.fetch(upstream.url())).body == b"hello"
    assert trio.current_time() - began == pytest.approx(MAX_DRAIN_S)


async def test_a_location_that_cannot_be_followed_ends_it(client: Client, nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, say(redirect("gopher://old.example/")))
    error = await failure(client, upstream.url())
    assert error.error_class is ErrorClass.PERMANENT
    assert "unsupported URL scheme: gopher" in error.message


@pytest.mark.parametrize("head", ["300 Multiple\r\nLocation: /x", "304 Not Modified\r\nLocation: /x", "302 Found"])
async def test_what_is_no_redirect_is_delivered(client: Client, nursery: trio.Nursery, head: str) -> None:
    upstream = await start_upstream(nursery, say(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n".encode()))
    assert (await client.fetch(upstream.url())).status == int(head[:3])


# --- decoding ---


def zipped(body: bytes, *, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n%bContent-Length: %d\r\n\r\n%b" % (fields, len(body), body)


async def test_an_encoded_body_is_delivered_decoded_and_its_headers_without_the_encoding(
    client: Client, nursery: trio.Nursery
) -> None:
    upstream = await start_upstream(nursery, say(zipped(gzip.compress(b"hello"), fields=b"X-A: b\r\n"), HELLO))
    answer = await client.fetch(upstream.url())
    assert answer.body == b"hello"
    assert answer.head.headers == ((b"x-a", b"b"),)
    assert client.pool.statistics().idle == 1


async def test_a_client_that_asked_for_an_encoding_gets_it(client: Client, nursery: trio.Nursery) -> None:
    body = gzip.compress(b"hello")
    upstream = await start_upstream(nursery, say(zipped(body)))
    answer = await client.fetch(upstream.url(), headers=[("Accept-Encoding", "gzip")])
    assert answer.body == body
    assert answer.header("content-encoding") == "gzip"
    assert answer.header("content-length") == str(len(body))


async def test_an_unknown_encoding_is_left_alone(client: Client, nursery: trio.Nursery) -> None:
    answer = HELLO.replace(b"Content-Length", b"Content-Encoding: rot13\r\nContent-Length")
    upstream = await start_upstream(nursery, say(answer))
    got = await client.fetch(upstream.url())
    assert got.body == b"hello"
    assert got.header("content-encoding") == "rot13"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("GET", 204)])
async def test_without_a_body_the_headers_stay_as_they_are(
    client: Client, nursery: trio.Nursery, method: str, status: int
) -> None:
    head = f"HTTP/1.1 {status} Any\r\nContent-Encoding: gzip\r\nContent-Length: 100\r\n\r\n"
    upstream = await start_upstream(nursery, say(head.encode(), HELLO))
    answer = await client.fetch(upstream.url(), method)
    assert answer.body == b""
    assert answer.header("content-encoding") == "gzip"
    assert client.pool.statistics().idle == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gzip.compress(b"hello", mtime=0)[:-1], "cut short: the data ends before its end mark"),
        (b"hello", "is not valid gzip"),
    ],
    ids=["cut short", "mislabelled"],
)
async def test_a_body_that_is_not_what_its_header_says_is_an_error(
    client: Client, nursery: trio.Nursery, body: bytes, reason: str
) -> None:
    upstream = await start_upstream(nursery, say(zipped(body)))
    error = await failure(client, upstream.url())
    assert error.error_class is ErrorClass.TRANSIENT
    assert reason in error.message
    assert f" response body from 127.0.0.1:{upstream.port} " in error.message


async def test_an_event_is_delivered_when_it_arrives_also_out_of_gzip(client: Client, nursery: trio.Nursery) -> None:
    """Every event is taken before the next one is sent: nothing waits for a buffer to fill."""
    taken = [trio.Event() for _ in range(3)]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number, event in enumerate(taken):
            data = gzip.compress(b"data: %d\n\n" % number)
            await peer.send(b"%x\r\n%b\r\n" % (len(data), data))
            await event.wait()
        await peer.send(b"0\r\n\r\n")

    upstream = await start_upstream(nursery, script)
    exchange = client.exchange(upstream.url())
    await exchange.open()
    got = []
    async for piece in pieces_of(exchange):
        got.append(piece)
        taken[len(got) - 1].set()
    await exchange.close()
    assert got == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
