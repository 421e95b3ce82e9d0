"""Two requests to a simulator of the OpenAI API, through the daemon: one whole, one streamed."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from connector_sdk.client import RuntimeClient
from connector_sdk.config import DEFAULT_SOCKET_PATH, DEFAULT_TCP_HOST, DEFAULT_TCP_PORT, RuntimeConfig
from connector_sdk.errors import ConnectorException
from connector_sdk.models import POST, HTTPRequest
from connector_sdk.wire import ErrorClass
from vastar_runtime.cli.background import PROXY_VARIABLES, private_environ
from vastar_runtime.cli.process import is_apart
from vastar_runtime.cli.run import READY
from vastar_runtime.errors import StartupError

from .bounded import Look, TookTooLong
from .circumstances import Circumstances
from .finding import Finding, not_checked, ok, problem
from .restarting import restart
from .workshop import EndedAtOnce, Workshop

# Python's imports on a loaded machine take seconds.
START_TIMEOUT_S = 8.0
REQUEST_TIMEOUT_MS = 4000
WHOLE, STREAMED = "whole request", "streamed request"
_QUESTION = {"model": "simulator", "messages": [{"role": "user", "content": "Does it work?"}], "max_tokens": 32}
_MAX_BODY_CHARACTERS = 200
_RULES = ("may not use tenant", "egress denies", "can never hold the request")


class Way(NamedTuple):
    """A daemon, and what it is called. ``tcp``: host and port, where it is asked over TCP."""

    socket_path: str
    name: str
    is_running: bool
    tcp: tuple[str, int] | None = None


def check_request(seen: Circumstances, workshop: Workshop) -> Iterator[Finding]:
    """Through the daemon that runs, or, where none answers, through one of its own."""
    try:
        # What is wrong with proxies and certificates is told by other checks.
        environ = private_environ(seen.environ, workshop.directory(), drop=("ssl_cert_", *PROXY_VARIABLES))
        simulator = Look(lambda: workshop.start(["simulator", "--port", "0"], environ, START_TIMEOUT_S))
        way = _way(seen, workshop, environ)
        base_url = simulator.result(START_TIMEOUT_S)
    except EndedAtOnce as error:
        yield problem(WHOLE, str(error), "see what is said of packages; if nothing is wrong there, install it again")
        return
    except (StartupError, TookTooLong) as error:
        yield not_checked(WHOLE, str(error))
        return
    reason = _unreachable(base_url)
    if reason is not None:
        yield problem(WHOLE, f"the simulator at {base_url} cannot be reached from this machine itself: {reason}")
        return
    yield from requests(way, base_url, seen)


def requests(way: Way, base_url: str, seen: Circumstances) -> Iterator[Finding]:
    """
    Args:
        base_url: of a server that speaks the API, on this machine.
    """
    config = RuntimeConfig(
        tenant_id=seen.tenant_id,
        timeout_ms=REQUEST_TIMEOUT_MS,
        socket_path=way.socket_path,
        use_tcp=way.tcp is not None,
        tcp_host=way.tcp[0] if way.tcp else DEFAULT_TCP_HOST,
        tcp_port=way.tcp[1] if way.tcp else DEFAULT_TCP_PORT,
    )
    url = f"{base_url}/v1/chat/completions"
    name = WHOLE
    try:
        with RuntimeClient(config) as client:
            yield _whole(client, POST(url).with_json(_QUESTION), way)
            name = STREAMED
            yield _streamed(client, POST(url).with_json({**_QUESTION, "stream": True}), way)
    except ConnectorException as error:
        yield _failed(name, error, way, base_url, seen)


def _whole(client: RuntimeClient, request: HTTPRequest, way: Way) -> Finding:
    begin_s = time.perf_counter()
    response = client.execute_http(request)
    taken = _ms(begin_s)
    text = _content(response.body, "message") if response.status_code == 200 else None
    if text is None:
        return _no_completion(WHOLE, response.status_code, response.body, way)
    return ok(WHOLE, f"a chat completion of {len(text)} characters came through {way.name} in {taken}")


def _streamed(client: RuntimeClient, request: HTTPRequest, way: Way) -> Finding:
    begin_s, first, pieces = time.perf_counter(), "", 0
    with client.stream_http(request) as response:
        if response.status_code != 200:
            return _no_completion(STREAMED, response.status_code, b"", way)
        for event in response.iter_sse():
            if _content(event.data.encode(), "delta"):
                first = first or _ms(begin_s)
                pieces += 1
    if not pieces:
        return problem(STREAMED, f"through {way.name}: the stream ended, and no piece of a chat completion was in it")
    return ok(STREAMED, f"the first of {pieces} pieces came after {first}, the last within {_ms(begin_s)}")


def _content(data: bytes, holder: str) -> str | None:
    """The text of a completion, or of a chunk of one; None: it has none."""
    try:
        answer: Any = msgspec.json.decode(data)
        content = answer["choices"][0][holder]["content"]
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, RecursionError):
        return None
    return content if isinstance(content, str) else None


def _no_completion(name: str, status: int, body: bytes, way: Way) -> Finding:
    """Something else answered: the simulator does not refuse this question."""
    said = body[:_MAX_BODY_CHARACTERS].decode(errors="replace")
    return problem(
        name,
        f"through {way.name} came status {status}, and no chat completion: {said!r}",
        "what stands between the daemon and this machine's services (a proxy?) answered instead",
    )


def _failed(name: str, error: ConnectorException, way: Way, base_url: str, seen: Circumstances) -> Finding:
    if not way.is_running:
        return problem(name, f"through {way.name}: {error}", "see what it says of Python and packages")
    found = f"through {way.name}: {error}"
    if error.error_class is ErrorClass.RATE_LIMITED or any(rule in error.message for rule in _RULES):
        return not_checked(
            name,
            f"the daemon's rules or limits do not let it: {error}",
            "that may be meant; this tells what holds",
            seen.command("config explain", "--tenant", seen.tenant_id, "--url", base_url),
        )
    if "cannot connect to the proxy" in error.message:
        before = 'no_proxy="${no_proxy:-$NO_PROXY},localhost,127.0.0.1"'
        advice, command = restart(seen, before=before)
        return problem(
            name,
            f"{found}; the daemon sends requests to this machine through the proxy of its environment",
            f"services on this machine are to be left out of that (NO_PROXY){': ' if advice else ''}{advice}",
            command,
        )
    if "cannot connect to" in error.message and _may_have_another_network(way, seen):
        return not_checked(
            name,
            f"the daemon answers, and the simulator's 127.0.0.1 is not its own: it lives in another network ({error})",
            "for such a daemon 127.0.0.1 is its own container: give services a name that it can reach",
        )
    return problem(name, found, "the daemon's log has a line for the request")


def _may_have_another_network(way: Way, seen: Circumstances) -> bool:
    if way.tcp is not None or seen.pid is None:
        return True
    return is_apart(seen.pid, "net") is not False


def _way(seen: Circumstances, workshop: Workshop, environ: Mapping[str, str]) -> Way:
    if seen.tcp is not None and seen.tcp.health is not None:
        name = f"the daemon at {seen.tcp.address}"
        return Way(DEFAULT_SOCKET_PATH, name, is_running=True, tcp=(seen.tcp.host, seen.tcp.port))
    if seen.is_running and seen.socket is not None:
        pid = "" if seen.pid is None else f" (PID {seen.pid})"
        return Way(seen.socket, f"the daemon{pid}", is_running=True)
    path = workshop.socket_path
    line = workshop.start(["run", "--socket", path], environ, START_TIMEOUT_S)
    if line != READY:
        raise StartupError(line)
    return Way(path, "a daemon of its own", is_running=False)


def _unreachable(base_url: str) -> str | None:
    """Why the simulator does not answer without a daemon; None: it does."""
    place = urlsplit(base_url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=REQUEST_TIMEOUT_MS / 1000)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return None if status == 200 else f"status {status}"


def _ms(begin_s: float) -> str:
    return f"{(time.perf_counter() - begin_s) * 1000:.0f} ms"
