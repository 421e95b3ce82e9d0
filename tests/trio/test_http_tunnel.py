"""Requests through a proxy: absolute form, CONNECT with TLS inside, and proxies that fail."""

from __future__ import annotations

import pytest
import trio
from http_upstream import (
    IDLE,
    Client,
    Peer,
    Script,
    client_tls,
    hello,
    say,
    server_tls,
    start_client,
    start_upstream,
    tunnel_to,
)

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import UpstreamError

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def failure(client: Client, url: str, **options) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await client.fetch(url, **options)
    assert client.pool.statistics() == IDLE
    assert "s3cr3t" not in caught.value.message
    return caught.value


async def test_plain_http_goes_to_the_proxy_in_absolute_form(nursery: trio.Nursery) -> None:
    proxy = await start_upstream(nursery, hello)
    client = start_client(nursery, {"http_proxy": f"http://user:p%40ss@127.0.0.1:{proxy.port}"})
    for url in (
        "http://origin.example/path?query",
        "http://origin.example:8080/",
        "http://[::1]/",
        "http://other.example",
    ):
        assert (await client.fetch(url)).body == b"hello"
    assert [(request.target, request.header("host")) for request in proxy.requests] == [
        ("http://origin.example/path?query", "origin.example"),
        ("http://origin.example:8080/", "origin.example:8080"),
        ("http://[::1]/", "[::1]"),
        ("http://other.example/", "other.example"),
    ]
    assert {request.header("proxy-authorization") for request in proxy.requests} == {"Basic dXNlcjpwQHNz"}
    assert proxy.connections == 4  # a connection belongs to an origin, also when a proxy stands before it


async def test_a_connection_to_the_proxy_is_kept_for_its_origin(nursery: trio.Nursery) -> None:
    proxy = await start_upstream(nursery, hello)
    client = start_client(nursery, {"http_proxy": f"127.0.0.1:{proxy.port}"})
    for _ in range(3):
        await client.fetch("http://origin.example/")
    assert proxy.connections == 1
    assert proxy.requests[0].header("proxy-authorization") is None


async def test_an_exception_goes_around_the_proxy(nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello)
    client = start_client(nursery, {"http_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.0/8"})
    await client.fetch(upstream.url("/path"))
    assert upstream.requests[0].target == "/path"


async def test_what_the_proxy_answers_to_plain_http_is_the_answer(nursery: trio.Nursery) -> None:
    proxy = await start_upstream(nursery, say(b"HTTP/1.1 407 Say who you are\r\nContent-Length: 0\r\n\r\n"))
    client = start_client(nursery, {"http_proxy": f"127.0.0.1:{proxy.port}"})
    assert (await client.fetch("http://origin.example/")).status == 407


async def test_https_goes_through_a_tunnel_with_tls_inside(nursery: trio.Nursery) -> None:
    """The name is resolved by the proxy and checked by us; the proxy's password does not reach the upstream."""
    upstream = await start_upstream(nursery, hello, tls=server_tls("secure.example"))
    proxy = await start_upstream(nursery, tunnel_to(upstream.port))
    client = start_client(nursery, {"https_proxy": f"http://user:s3cr3t@127.0.0.1:{proxy.port}"}, client_tls())
    for _ in range(3):
        assert (await client.fetch("https://secure.example/path", "POST", body=b"body")).body == b"hello"
    assert [(r.method, r.target, r.header("host")) for r in proxy.requests] == [
        ("CONNECT", "secure.example:443", "secure.example:443")
    ]
    assert proxy.requests[0].header("proxy-authorization") == "Basic dXNlcjpzM2NyM3Q="
    assert {(r.target, r.header("host"), r.body) for r in upstream.requests} == {("/path", "secure.example", b"body")}
    assert {r.header("proxy-authorization") for r in upstream.requests} == {None}
    assert upstream.connections == 1


async def test_a_tunnel_through_a_proxy_that_speaks_tls_itself(nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello, tls=server_tls("secure.example"))
    proxy = await start_upstream(nursery, tunnel_to(upstream.port), tls=server_tls("127.0.0.1"))
    client = start_client(nursery, {"https_proxy": f"https://127.0.0.1:{proxy.port}"}, client_tls())
    for _ in range(3):
        assert (await client.fetch("https://secure.example/", "PUT", body=bytes(300_000))).body == b"hello"
    assert upstream.connections == proxy.connections == 1


async def test_plain_http_to_a_proxy_that_speaks_tls(nursery: trio.Nursery) -> None:
    proxy = await start_upstream(nursery, hello, tls=server_tls("127.0.0.1"))
    client = start_client(nursery, {"http_proxy": f"https://127.0.0.1:{proxy.port}"}, client_tls())
    for _ in range(2):
        assert (await client.fetch("http://origin.example/")).body == b"hello"
    assert proxy.requests[0].target == "http://origin.example/"
    assert proxy.connections == 1


async def test_a_tunnel_that_died_while_idle_is_dug_anew(nursery: trio.Nursery) -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"hello")

    upstream = await start_upstream(nursery, once, tls=server_tls("secure.example"))
    proxy = await start_upstream(nursery, tunnel_to(upstream.port), tls=server_tls("127.0.0.1"))
    client = start_client(nursery, {"https_proxy": f"https://127.0.0.1:{proxy.port}"}, client_tls())
    for _ in range(2):
        await client.fetch("https://secure.example/", "POST")
        while upstream.open_connections or proxy.open_connections:
            await trio.testing.wait_all_tasks_blocked()
    assert proxy.connections == 2


async def test_the_certificate_of_the_upstream_is_checked_inside_the_tunnel(nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello, tls=server_tls("other.example"))
    proxy = await start_upstream(nursery, tunnel_to(upstream.port))
    client = start_client(nursery, {"https_proxy": f"127.0.0.1:{proxy.port}"}, client_tls())
    error = await failure(client, "https://secure.example/")
    assert error.error_class is ErrorClass.PERMANENT
    assert error.message == (
        "HTTP request failed: the TLS certificate of secure.example:443 was rejected: "
        "Hostname mismatch, certificate is not valid for 'secure.example'."
    )
    while proxy.open_connections:
        await trio.testing.wait_all_tasks_blocked()


async def test_the_certificate_of_the_proxy_is_checked_too(nursery: trio.Nursery) -> None:
    proxy = await start_upstream(nursery, hello, tls=server_tls("other.example"))
    client = start_client(nursery, {"http_proxy": f"https://127.0.0.1:{proxy.port}"}, client_tls())
    error = await failure(client, "http://origin.example/")
    assert error.error_class is ErrorClass.PERMANENT
    assert f"the TLS certificate of 127.0.0.1:{proxy.port} was rejected: " in error.message
    assert proxy.requests == []


def answers(said: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(said)

    return script


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!",
            "the proxy {proxy} refused CONNECT to secure.example:443: 407 Proxy Authentication Required",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
            "the proxy {proxy} refused CONNECT to secure.example:443: 302 Found",
        ),
        (b"HTTP/1.1 502 caf\xe9\r\n\r\n", "the proxy {proxy} refused CONNECT to secure.example:443: 502 café"),
        (b"", "the proxy {proxy} closed the connection instead of answering CONNECT"),
        (b"HTTP/1.1 200 OK\r\nVia", "the proxy {proxy} closed the connection instead of answering CONNECT"),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n",
            "the proxy {proxy} refused CONNECT to secure.example:443: 503 Busy",
        ),
        (b"220 mail.example ESMTP\r\n\r\n", "the proxy {proxy} does not speak HTTP/1.1: "),
        (b"\x05\x00", "the proxy {proxy} does not speak HTTP/1.1: "),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "the proxy {proxy} does not speak HTTP/1.1: "),
        (HELLO, "the TLS handshake with secure.example:443 failed: "),
    ],
)
async def test_a_proxy_that_opens_no_tunnel(nursery: trio.Nursery, said: bytes, cause: str) -> None:
    proxy = await start_upstream(nursery, answers(said))
    client = start_client(nursery, {"https_proxy": f"http://user:s3cr3t@127.0.0.1:{proxy.port}"}, client_tls())
    error = await failure(client, "https://secure.example/?key=s3cr3t")
    is_final = b" 407 " in said  # what the proxy does not want, it will not want the next time
    assert error.error_class is (ErrorClass.PERMANENT if is_final else ErrorClass.TRANSIENT)
    assert error.message.startswith("HTTP request failed: " + cause.format(proxy=f"127.0.0.1:{proxy.port}"))


async def test_a_proxy_that_resets_the_connection(nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.reset()

    proxy = await start_upstream(nursery, script)
    client = start_client(nursery, {"https_proxy": f"http://127.0.0.1:{proxy.port}"}, client_tls())
    error = await failure(client, "https://secure.example/")
    assert error.message == (
        f"HTTP request failed: the proxy 127.0.0.1:{proxy.port} broke the connection instead of answering CONNECT"
    )


async def test_a_proxy_that_is_not_there_is_named(nursery: trio.Nursery) -> None:
    client = start_client(nursery, {"all_proxy": "http://127.0.0.1:1"}, client_tls())
    for url in ("http://origin.example/", "https://secure.example/"):
        error = await failure(client, url)
        assert error.message == "HTTP request failed: cannot connect to the proxy 127.0.0.1:1: Connection refused"


async def test_a_proxy_that_does_not_answer_is_given_up_after_ten_seconds(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    proxy = await start_upstream(nursery, silent)
    client = start_client(nursery, {"https_proxy": f"127.0.0.1:{proxy.port}"}, client_tls())
    errors: list[UpstreamError] = []

    async def fetch() -> None:
        errors.append(await failure(client, "https://secure.example/"))

    async with trio.open_nursery() as requests:
        requests.start_soon(fetch)
        while not proxy.requests:
            await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(10.1)
    assert errors[0].error_class is ErrorClass.TIMEOUT
    assert errors[0].message == (
        f"HTTP request failed: connecting to secure.example:443 through the proxy 127.0.0.1:{proxy.port} "
        "took longer than 10 s (deadline.connect_timeout_ms)"
    )


async def test_errors_behind_a_proxy_name_both_ends(nursery: trio.Nursery) -> None:
    proxy = await start_upstream(nursery, answers(b""))
    client = start_client(nursery, {"http_proxy": f"127.0.0.1:{proxy.port}"})
    error = await failure(client, "http://origin.example/")
    assert error.message == (
        f"HTTP request failed: the connection to origin.example:80 through the proxy 127.0.0.1:{proxy.port} "
        "was closed before a response came"
    )


@pytest.mark.parametrize("location", ["https://-a-/", "https://xn--/", "https://a_b/", "https://xn--a/"])
async def test_a_strange_name_behind_a_proxy_is_an_error_about_it(nursery: trio.Nursery, location: str) -> None:
    """Names that no resolver sees reach the TLS library as they are."""
    upstream = await start_upstream(nursery, hello, tls=server_tls("secure.example"))
    proxy = await start_upstream(nursery, tunnel_to(upstream.port))
    client = start_client(nursery, {"https_proxy": f"127.0.0.1:{proxy.port}"}, client_tls())
    assert (await failure(client, location)).error_class is ErrorClass.PERMANENT
