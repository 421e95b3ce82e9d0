"""Upstreams that break the rules: each gets the table's class, words that name it, and harms no one else."""

import gzip
import zlib

import brotli
import pytest
import trio
import zstandard
from daemon_process import daemon
from upstream import Peer, always, hold, sending, silent, upstream

from connector_sdk.wire import MAX_FRAME_BYTES, ErrorClass

PREFIX = "HTTP request failed: "
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def client(client):
    """A connection that must still work after the test, as must the daemon's other ones."""
    async with upstream(always(b"fine")) as up:
        yield client
        assert (await client.get(up.origin)).body == "fine"


async def early_close(peer: Peer) -> None:
    """Does not even read."""


async def close_after_the_request(peer: Peer) -> None:
    await peer.request()


async def reset(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def reset_in_the_head(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-")
    peer.reset()


def dripping(head: bytes, piece: bytes):
    """Sends a piece after the other for as long as it may."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head)
        while True:
            await peer.send(piece)

    return script


TRANSIENT = {
    "closes without reading": (early_close, "was "),
    "closes instead of answering": (close_after_the_request, "was closed before a response came"),
    "resets": (reset, "was reset before a response came"),
    "resets in the head": (reset_in_the_head, "was reset inside the response head"),
    "closes in the head": (sending(b"HTTP/1.1 200 OK\r\nConte"), "was closed inside the response head"),
    "closes in the body": (sending(OK + b"Content-Length: 10\r\n\r\nhalf"), "cut the response body short"),
    "closes in a chunk": (sending(CHUNKED + b"a\r\nhalf"), "cut the response body short"),
    "garbage": (sending(b"\x00\xff\x16\x03" * 100, then=hold), "does not speak HTTP/1.1"),
    "garbage for ever": (dripping(b"", b"\xff" * 1000), "over 65536 bytes"),
    "another protocol": (sending(b"220 mail.test ESMTP\r\n\r\n", then=hold), "does not speak HTTP/1.1"),
    "interim responses for ever": (dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "more than 32 interim"),
    "a header block of 1 MiB": (dripping(OK + b"X-A: ", b"a" * 65_536), "over 65536 bytes"),
    "a million headers": (dripping(OK, b"X-A: a\r\n" * 8192), "over 65536 bytes"),
    "two Content-Lengths": (
        sending(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", then=hold),
        "Content-Len",
    ),
    "a list of Content-Lengths": (sending(OK + b"Content-Length: 1, 2\r\n\r\nab", then=hold), "Content-Length"),
    "a negative Content-Length": (sending(OK + b"Content-Length: -1\r\n\r\nab", then=hold), "Content-Length"),
    "a Content-Length of 5000 digits": (sending(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", then=hold), ""),
    "a chunk of 2^64": (sending(CHUNKED + b"10000000000000000\r\nabc"), ""),
    "a chunk of a googol": (sending(CHUNKED + b"f" * 100 + b"\r\nabc"), ""),
    "a negative chunk": (sending(CHUNKED + b"-1\r\nabc", then=hold), "does not speak HTTP/1.1"),
    "an endless chunk extension": (dripping(CHUNKED + b"5;", b"x" * 65_536), "over 65536 bytes"),
    "endless trailers": (dripping(CHUNKED + b"0\r\n", b"X: y\r\n" * 10_000), "over 65536 bytes"),
    "an unasked switch of protocols": (
        sending(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", then=hold),
        "",
    ),
    "a line folded": (sending(OK + b"X-A: a\r\n b\x00c\r\n\r\n", then=hold), "does not speak HTTP/1.1"),
    "a status of 99": (sending(b"HTTP/1.1 099 X\r\n\r\n", then=hold), ""),
    "no gzip at all": (sending(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"), "not valid gzip"),
    "gzip cut short": (always(gzip.compress(b"x" * 999)[:-9], headers=[("Content-Encoding", "gzip")]), "cut short"),
}


@pytest.mark.parametrize(("script", "words"), TRANSIENT.values(), ids=TRANSIENT.keys())
async def test_it_is_transient_and_named(client, script, words):
    async with upstream(script) as up:
        answer = await client.get(up.origin, timeout_ms=10_000)
    assert answer.error_class is ErrorClass.TRANSIENT, answer
    assert answer.message.startswith(PREFIX)
    assert words in answer.message
    assert up.address in answer.message
    assert "\n" not in answer.message
    assert len(answer.message) < 1000


SLOW = {
    "never accepts a byte": (silent, "waiting for the response head"),
    "stops in the head": (sending(b"HTTP/1.1 200 OK\r\nX", then=hold), "waiting for the response head"),
    "stops before the body": (sending(OK + b"Content-Length: 5\r\n\r\n", then=hold), "reading the response body"),
    "stops in the body": (sending(CHUNKED + b"5\r\nabc", then=hold), "reading the response body"),
    "sends events for ever": (
        dripping(OK + b"Content-Type: text/event-stream\r\n\r\n", b": ping\n\n"),
        "reading the response body",
    ),
}


@pytest.mark.parametrize(("script", "phase"), SLOW.values(), ids=SLOW.keys())
async def test_it_hangs_and_the_timeout_says_where(client, script, phase):
    async with upstream(script) as up:
        answer = await client.get(up.origin, timeout_ms=100)
    assert answer.error_class is ErrorClass.TIMEOUT, answer
    assert f"{phase} from {up.address}" in answer.message


ZEROS = bytes(1024 * 1024)


def zlib_bomb(window_bits: int) -> bytes:
    packer = zlib.compressobj(9, wbits=window_bits)
    return b"".join(packer.compress(ZEROS) for _ in range(200)) + packer.flush()


BOMBS = {
    "gzip": lambda: zlib_bomb(31),
    "deflate": lambda: zlib_bomb(15),
    "br": lambda: brotli.compress(ZEROS * 200, quality=1),
    "zstd": lambda: zstandard.ZstdCompressor(level=1).compress(ZEROS * 200),
    "gzip, gzip": lambda: gzip.compress(zlib_bomb(31)),
}


@pytest.mark.parametrize("encoding", BOMBS)
async def test_a_bomb_is_permanent_and_takes_no_memory(encoding):
    async with upstream(always(BOMBS[encoding](), headers=[("Content-Encoding", encoding)])) as up:
        with daemon() as running:
            async with running.connect() as client:
                before = peak_memory_mib(running)
                answer = await client.get(up.origin)
                grown = peak_memory_mib(running) - before
    assert answer.error_class is ErrorClass.PERMANENT
    assert f"exceeds the frame limit of {MAX_FRAME_BYTES} bytes" in answer.message
    assert grown < 40  # the body up to the limit, what it grew from, and the decoder


def peak_memory_mib(running) -> float:
    with open(f"/proc/{running.process.pid}/status") as status:
        (peak_kib,) = [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
    return peak_kib / 1024


async def test_an_upstream_that_never_accepts_is_a_timeout_while_connecting(client):
    """Its backlog is full: the system drops the attempts without a word."""
    with trio.socket.socket() as full:
        await full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        taken = [trio.socket.socket() for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for waiting in taken:
                nursery.start_soon(waiting.connect, address)
            await trio.testing.wait_all_tasks_blocked(0.05)
            answer = await client.get(f"http://127.0.0.1:{address[1]}/", timeout_ms=100)
            nursery.cancel_scope.cancel()
        for waiting in taken:
            waiting.close()
    assert answer.error_class is ErrorClass.TIMEOUT
    assert f"while connecting to 127.0.0.1:{address[1]}" in answer.message


async def test_a_redirect_that_cannot_be_followed_is_permanent_and_named(client):
    for location in ("file:///etc/passwd", "http://h:99999/", "http://", "//", "gopher://x", "http://\udcff/"):
        async with upstream(redirect(location)) as up:
            answer = await client.get(up.origin)
        assert answer.error_class is ErrorClass.PERMANENT, location
        assert up.address in answer.message


def redirect(location: str):
    raw = location.encode("utf-8", "surrogateescape")
    return sending(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % raw)


async def test_what_follows_a_complete_answer_belongs_to_no_other_request(client):
    """An upstream that sends two answers to one request cannot slip the second one to the next request."""
    first, second = (OK + b"Content-Length: 5\r\n\r\n" + body for body in (b"first", b"wrong"))

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            await peer.send(first + second if request.target == "/1" else first)

    async with upstream(script) as up:
        for number in (1, 2, 1, 2):
            assert (await client.get(f"{up.origin}/{number}")).body == "first"


async def test_a_connection_that_died_while_idle_is_not_used(client):
    closed = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.respond(b"ok")
        await peer.stream.aclose()
        closed.set()

    async with upstream(script) as up:
        for number in (1, 2, 3):
            closed = trio.Event()
            assert (await client.get(up.origin, method="POST")).body == "ok"
            await closed.wait()
            assert up.connections == number
