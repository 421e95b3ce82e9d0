"""The transports against a scripted daemon: what is asked of it, and what its answers become in each library."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import anyio
import httpx
import httpx2
import openai
import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, say_hello, socket_path

from connector_sdk import AsyncRuntimeTransport, ConnectorException, ErrorClass, RuntimeTransport
from connector_sdk.config import MAX_TIMEOUT_MS
from connector_sdk.httpx_errors import translated
from connector_sdk.wire import ExecuteRequest, ResponseEnd
from connector_sdk.wire.messages import HTTP_REQUEST_CODEC

__all__ = ["socket_path"]

PATIENCE_S = 20


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def get(request: pytest.FixtureRequest, library: Any, socket_path: str) -> Callable[..., Any]:
    def get(url: str = "http://u/", **options: Any) -> Any:
        async def main() -> Any:
            with anyio.fail_after(PATIENCE_S):
                async with library.AsyncClient(transport=AsyncRuntimeTransport(config_for(socket_path))) as client:
                    return await client.get(url, **options)

        if request.param != "blocking":
            return anyio.run(main, backend=request.param)
        with library.Client(transport=RuntimeTransport(config_for(socket_path))) as client:
            return client.get(url, **options)

    return get


def test_what_the_daemon_is_asked(get: Any, socket_path: str) -> None:
    """Everything as the library has it; no time limit, since those of the library are for single waits."""
    url = "http://[::1]:8080/a%2Fb//?q='%26'&q=%C3%BC"
    headers = [("X-A", "1"), ("Cookie", "c=d"), ("X-A", "2")]
    with ScriptedDaemon(say_hello, socket_path) as daemon:
        assert get(f"{url}#fragment", headers=headers).text == "hello"
    (request,) = daemon.requests
    asked = HTTP_REQUEST_CODEC.decode(request.payload or b"")
    assert (asked.method, asked.url, asked.timeout_ms) == ("GET", url, MAX_TIMEOUT_MS)
    assert asked.headers is not None
    assert [(name.lower(), value) for name, value in asked.headers if name.lower() in ("x-a", "cookie", "host")] == [
        ("host", "[::1]:8080"),
        ("x-a", "1"),
        ("cookie", "c=d"),
        ("x-a", "2"),
    ]


def test_a_refusal_by_the_daemons_rate_limit_is_a_response(get: Any, socket_path: str) -> None:
    with ScriptedDaemon(refuse, socket_path):
        response = get()
    assert response.status_code == 429
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("2", "1500")
    assert response.headers["x-vastar-error-class"] == "RateLimited"
    assert response.json()["error"]["message"] == "tenant default has used its 10 requests a second"


def refuse(peer: Peer, request: ExecuteRequest) -> None:
    message = "tenant default has used its 10 requests a second"
    peer.say(
        ResponseEnd(
            request_id=request.request_id,
            error_class=ErrorClass.RATE_LIMITED,
            error_message=message,
            retry_after_ms=1500,
        )
    )


def test_the_openai_package_knows_that_response(socket_path: str) -> None:
    http_client = httpx2.Client(transport=RuntimeTransport(config_for(socket_path)))
    with (
        ScriptedDaemon(refuse, socket_path),
        openai.OpenAI(base_url="http://u", api_key="k", http_client=http_client, max_retries=0) as client,
        pytest.raises(openai.RateLimitError, match="has used its 10 requests") as e,
    ):
        client.models.list()
    assert e.value.code == "rate_limit_exceeded"


@pytest.mark.parametrize("with_head", [False, True])
def test_a_head_or_a_piece_that_does_not_come(get: Any, library: Any, socket_path: str, with_head: bool) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        if with_head:
            peer.head(request)

    with ScriptedDaemon(script, socket_path), pytest.raises(library.ReadTimeout, match="nothing came for") as e:
        get(timeout=library.Timeout(None, read=0.02))
    assert isinstance(e.value.__cause__, ConnectorException)
    assert e.value.request.url == "http://u/"


def test_the_existing_runtime_answers_in_one_piece(get: Any, socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, body="hello", headers={"x-a": "1"})

    with ScriptedDaemon(script, socket_path, is_legacy=True):
        response = get()
    assert (response.status_code, response.text, response.headers["x-a"]) == (200, "hello", "1")


@pytest.mark.parametrize(
    ("expected", "error_class", "message"),
    [
        ("ConnectError", ErrorClass.TRANSIENT, "HTTP request failed: cannot connect to u:80: Connection refused"),
        ("ConnectError", ErrorClass.TRANSIENT, "HTTP request failed: DNS lookup of u:80 failed: no such name"),
        ("ConnectError", ErrorClass.TRANSIENT, "HTTP request failed: the TLS handshake with u:443 failed: reset"),
        ("ConnectError", ErrorClass.PERMANENT, "HTTP request failed: the TLS certificate of u:443 was rejected: x"),
        ("ConnectError", ErrorClass.TRANSIENT, "HTTP request failed: cannot connect to the proxy p:1: refused"),
        ("ProxyError", ErrorClass.PERMANENT, "HTTP request failed: the proxy p:1 refused CONNECT to u:443: 407 x"),
        ("ConnectTimeout", ErrorClass.TIMEOUT, "HTTP request failed: connecting to u:80 took longer than 10 s (…)"),
        ("ConnectTimeout", ErrorClass.TIMEOUT, "HTTP request timed out: 5 ms passed (x) while connecting to u:80"),
        ("ReadTimeout", ErrorClass.TIMEOUT, "HTTP request timed out: nothing came for 5 ms"),
        ("ReadTimeout", ErrorClass.TIMEOUT, "HTTP request timed out: 5 ms passed (x) while waiting for its turn (y)"),
        ("ReadError", ErrorClass.TRANSIENT, "HTTP request failed: the connection to u:80 was reset inside the body"),
        ("ReadError", ErrorClass.TRANSIENT, "lost the connection to the daemon at socket /s: it broke"),
        ("RemoteProtocolError", ErrorClass.TRANSIENT, "HTTP request failed: u:80 does not speak HTTP/1.1: x"),
        ("RemoteProtocolError", ErrorClass.PERMANENT, "what answers at socket /s broke the protocol: x"),
        ("LocalProtocolError", ErrorClass.INVALID_REQUEST, "illegal header name: 'a b'"),
        ("UnsupportedProtocol", ErrorClass.INVALID_REQUEST, "unsupported URL scheme: ftp; http and https are"),
    ],
)
def test_the_librarys_exception_for_each_fault(
    library: Any, expected: str, error_class: ErrorClass, message: str
) -> None:
    exception = translated(ConnectorException(message, error_class, 1, attempts=1), library)
    assert type(exception) is getattr(library, expected)
    assert str(exception) == message


@pytest.mark.parametrize(
    ("expected", "error_class"),
    [
        ("ConnectError", ErrorClass.TRANSIENT),
        ("ConnectError", ErrorClass.PERMANENT),
        ("ConnectTimeout", ErrorClass.TIMEOUT),
        ("LocalProtocolError", ErrorClass.INVALID_REQUEST),
    ],
)
def test_before_the_request_has_a_number_it_is_about_reaching_the_daemon(
    library: Any, expected: str, error_class: ErrorClass
) -> None:
    error = ConnectorException("no permission to use socket /s", error_class)
    assert type(translated(error, library)) is getattr(library, expected)


def test_what_was_never_sent_could_not_connect(library: Any) -> None:
    """A circuit that is open, a daemon that drains: another try does no harm, and callers know that of ConnectError."""
    error = ConnectorException("the circuit of u:80 is open", ErrorClass.TRANSIENT, 1, attempts=0)
    assert type(translated(error, library)) is library.ConnectError


def test_a_request_of_neither_library() -> None:
    with pytest.raises(TypeError, match="httpx2 or httpx, not str"):
        RuntimeTransport().handle_request("http://u/")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("httpx2", "<RuntimeTransport"),
        ("httpx", "<RuntimeTransport"),
        ("httpx2 httpx", "pip install vastar-runtime[httpx]"),
    ],
)
def test_either_library_is_enough(missing: str, says: str) -> None:
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({missing!r}.split()))\n"
        "from connector_sdk import RuntimeTransport\n"
        "try:\n"
        "    print(RuntimeTransport())\n"
        "except ImportError as error:\n"
        "    print(error)\n"
        "assert not {'httpx', 'httpx2'} & {name for name, module in sys.modules.items() if module}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    assert says in done.stdout
