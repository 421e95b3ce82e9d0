"""What goes wrong, through the daemon and straight from the library: the same exception types."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import httpx
import httpx2
import pytest
import trustme
from daemon_process import daemon, socket_directory
from threaded_upstream import PATIENCE_S, Call, config, upstream

from connector_sdk import AsyncRuntimeTransport, ConnectorException, RuntimeConfig, RuntimeTransport

__all__ = ["config"]

Answer = Callable[[Call], None]


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def get(request: pytest.FixtureRequest, library: Any, config: RuntimeConfig) -> Callable[..., Any]:
    """GET through the daemon."""

    def get(url: str, **options: Any) -> Any:
        async def main() -> Any:
            with anyio.fail_after(PATIENCE_S):
                async with library.AsyncClient(transport=AsyncRuntimeTransport(config)) as client:
                    return await client.get(url, **options)

        if request.param != "blocking":
            return anyio.run(main, backend=request.param)
        with library.Client(transport=RuntimeTransport(config)) as client:
            return client.get(url, **options)

    return get


# httpx leaves its own generators to the garbage collector, and trio says so; httpx2 closes them.
ignoring_generators_of_httpx = pytest.mark.filterwarnings(r"ignore:Async generator 'httpx\.:ResourceWarning")


def silent(call: Call) -> None:
    """Closes without a word."""


def reset(call: Call) -> None:
    call.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.connection.close()


def cut_in_head(call: Call) -> None:
    call.send(b"HTTP/1.1 200 OK\r\nContent-Le")


def cut_in_body(call: Call) -> None:
    call.head(200, ("Content-Length", "100"))
    call.send(b"half")


def cut_in_chunk(call: Call) -> None:
    call.head(200, ("Transfer-Encoding", "chunked"))
    call.send(b"a\r\nhalf")


def garbage(call: Call) -> None:
    call.send(b"What do you want?\r\n\r\n")


def not_gzip(call: Call) -> None:
    call.answer(200, b"plain", ("Content-Encoding", "gzip"))


FAULTS = [silent, reset, cut_in_head, cut_in_body, cut_in_chunk, garbage, not_gzip]


def failure(library: Any, run: Callable[[], object]) -> Any:
    with pytest.raises(library.RequestError) as e:
        run()
    assert e.value.request is not None
    return e.value


@ignoring_generators_of_httpx
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_upstream(library: Any, get: Any, fault: Answer) -> None:
    with upstream(fault) as there:
        through = failure(library, lambda: get(there.url))
        straight = failure(library, lambda: library.get(there.url, trust_env=False))
    assert type(through) is type(straight)


def test_the_message_and_the_cause_are_the_daemons(library: Any, get: Any) -> None:
    with upstream(silent) as there:
        through = failure(library, lambda: get(there.url))
    assert str(through).endswith(f"the connection to {there.url[7:]} was closed before a response came")
    assert isinstance(through.__cause__, ConnectorException)


def test_a_body_that_the_daemon_cannot_decode(library: Any, config: RuntimeConfig) -> None:
    with upstream(not_gzip) as there, library.Client(transport=RuntimeTransport(config)) as client:
        request = client.build_request("GET", there.url)
        del request.headers["Accept-Encoding"]
        with pytest.raises(library.DecodingError, match="not valid gzip"):
            client.send(request)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/", "http://no-such-host.invalid/", "ftp://h/", "//h/", "http://[::1/", "http://h:99999/"],
)
def test_a_url_that_leads_nowhere(library: Any, get: Any, url: str) -> None:
    def type_of(run: Callable[[], object]) -> type:
        with pytest.raises((library.HTTPError, library.InvalidURL)) as e:
            run()
        return e.type

    through = type_of(lambda: get(url))
    if url != "http://h:99999/":  # the libraries tell of it as of a name that does not resolve, or an OverflowError
        assert through is type_of(lambda: library.get(url, trust_env=False))
    else:
        assert through is library.LocalProtocolError


def test_what_the_daemon_will_not_send(library: Any, get: Any) -> None:
    for headers in ({"Upgrade": "websocket"}, {"Content-Length": "7"}, [(b"x-a", b"\xff")], {"X A": "1"}):
        with pytest.raises(library.LocalProtocolError):
            get("http://127.0.0.1:1/", headers=headers)


def test_too_many_redirects(library: Any, get: Any) -> None:
    with (
        upstream(lambda call: call.answer(302, b"", ("Location", "/"))) as there,
        pytest.raises(library.TooManyRedirects, match="10 redirects"),
    ):
        get(there.url)


@contextmanager
def _certified(*names: str) -> Iterator[tuple[ssl.SSLContext, dict[str, str]]]:
    """An upstream's certificate, and a daemon's environment in which its authority is trusted."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    with socket_directory() as directory:
        path = Path(directory) / "authority.pem"
        authority.cert_pem.write_to_path(str(path))
        yield context, {"SSL_CERT_FILE": str(path)}


def test_a_certificate_that_nobody_trusts(library: Any, get: Any) -> None:
    with _certified("127.0.0.1") as (context, _), upstream(lambda call: call.answer(200, b""), context) as there:
        through = failure(library, lambda: get(there.url))
        straight = failure(library, lambda: library.get(there.url, trust_env=False))
    assert type(through) is type(straight) is library.ConnectError
    assert "certificate" in str(through)


def test_a_certificate_that_the_daemon_trusts(library: Any) -> None:
    with (
        _certified("127.0.0.1") as (context, variables),
        upstream(lambda call: call.answer(200, b"secret"), context) as there,
        daemon(variables=variables) as running,
        library.Client(
            transport=RuntimeTransport(RuntimeConfig(socket_path=running.socket_path, use_tcp=False))
        ) as client,
    ):
        assert client.get(there.url).text == "secret"


@pytest.mark.parametrize("is_sent", [b"", b"HTTP/1.1 200 OK\r\n\r\nfirst"], ids=["head", "body"])
def test_the_read_timeout_ends_the_wait_and_the_upstream(library: Any, get: Any, is_sent: bytes) -> None:
    def answer(call: Call) -> None:
        call.send(is_sent)
        call.wait_until_left()

    with upstream(answer) as there:
        with pytest.raises(library.ReadTimeout, match="nothing came for"):
            get(there.url, timeout=library.Timeout(None, read=0.2))
        assert there.was_left.wait(PATIENCE_S)


def test_a_stream_may_take_longer_than_the_read_timeout(library: Any, get: Any) -> None:
    """Each piece in time, the whole not."""
    pause = threading.Event()

    def answer(call: Call) -> None:
        call.head(200)
        for _ in range(12):
            call.send(b"piece")
            pause.wait(0.1)

    with upstream(answer) as there:
        assert get(there.url, timeout=library.Timeout(1)).text == "piece" * 12


def test_no_limit_at_all(library: Any, get: Any) -> None:
    with upstream(lambda call: call.answer(200, b"hello")) as there:
        assert get(there.url, timeout=None).text == "hello"


def test_nobody_at_the_daemons_socket(library: Any) -> None:
    with socket_directory() as directory:
        transport = RuntimeTransport(RuntimeConfig(socket_path=str(directory / "none"), use_tcp=False))
        with library.Client(transport=transport) as client:
            with pytest.raises(library.ConnectError, match="vastar-runtime start") as e:
                client.get("http://127.0.0.1:1/")
            assert e.value.request.method == "GET"


@pytest.mark.parametrize("accepts", [True, False])
def test_a_daemon_that_says_nothing(library: Any, accepts: bool) -> None:
    with (
        socket_directory() as directory,
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as other,
    ):
        listener.bind(str(directory / "deaf"))
        listener.listen(8 if accepts else 0)
        other.connect(str(directory / "deaf"))  # takes the only place in a queue of the length 0
        transport = RuntimeTransport(RuntimeConfig(socket_path=str(directory / "deaf"), use_tcp=False))
        with (
            library.Client(transport=transport) as client,
            pytest.raises(
                library.ConnectTimeout, match=r"on it within 0\.1 s" if accepts else r"no connection within 0\.1 s"
            ),
        ):
            client.get("http://127.0.0.1:1/", timeout=0.1)


def test_a_daemon_that_is_killed_in_the_middle(library: Any) -> None:
    def answer(call: Call) -> None:
        call.head(200)
        call.send(b"first")
        call.wait_until_left()

    with upstream(answer) as there, daemon() as running:
        transport = RuntimeTransport(RuntimeConfig(socket_path=running.socket_path, use_tcp=False))
        with library.Client(transport=transport) as client, client.stream("GET", there.url) as response:
            pieces = response.iter_bytes()
            assert next(pieces) == b"first"
            running.process.kill()
            with pytest.raises(library.ReadError, match="lost the connection to the daemon"):
                next(pieces)
            with pytest.raises(library.ConnectError):
                client.get(there.url)
