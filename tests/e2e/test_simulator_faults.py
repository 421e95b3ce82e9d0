"""Each fault through the daemon: what the application sees and what the log says, as docs/faults.md has it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from daemon_process import DaemonProcess, daemon

from connector_sdk import (
    GET,
    POST,
    ConnectorException,
    HTTPRequest,
    HTTPResponse,
    RuntimeClient,
    RuntimeConfig,
    StreamedResponse,
)
from connector_sdk.openai import ChatCompletionRequest, Message, OpenAIConnector
from vastar_runtime.simulator.faults import parse
from vastar_runtime.simulator.serve import serve
from vastar_runtime.simulator.settings import SimulatorSettings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
ON_PAGE = "127.0.0.1:4545"
# Short where it is to pass; the others are to come to their end on a busy machine, too.
TIMEOUTS_MS = {"latency=5s": 1000, "hang": 1000, "slow=100B/s": 1000}
PATIENCE_MS = 20_000
CHAT = {"model": "any", "messages": [{"role": "user", "content": "Why use a connector?"}]}

# Each row alone: no other one makes a circuit open, nothing is asked for again. One tenant is as all are by default.
SETTINGS = """
[policy.retry]
max_retries = 0
[policy.circuit_breaker]
enabled = false
[[scope]]
tenant = "retrying"
[scope.retry]
max_retries = 2
first_backoff_ms = 1
"""


class Row(NamedTuple):
    fault: str
    call: str
    sees: str
    log: str


def rows() -> list[Row]:
    """Of the table under the page's last heading, one for each call; … stands for anything."""
    table = PAGE.rpartition("\n## ")[2]
    lines = re.findall(r"^\| `(.*?)` \| (.*?) \| (.*) \| `(.*)` \|$", table, re.MULTILINE)
    return [
        Row(fault, call, sees.replace("`", ""), log)
        for fault, calls, sees, log in lines
        for call in calls.replace("`", "").split(", ")
    ]


class Place(NamedTuple):
    """Where the calls go: a simulator without a fault, one for each fault, and the daemon."""

    url: str
    faulty: dict[str, str]
    running: DaemonProcess

    def config(self, tenant: str) -> RuntimeConfig:
        return RuntimeConfig(socket_path=self.running.socket_path, use_tcp=False, tenant_id=tenant)


@contextmanager
def simulators(faults: list[str]) -> Iterator[list[str]]:
    """The URLs of simulators with these faults, in one thread."""
    urls: list[str] = []
    are_up, tokens = threading.Event(), []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for fault in faults:
                settings = SimulatorSettings(tokens_per_second=0, fault=parse(fault))
                urls.append(await nursery.start(serve, "127.0.0.1", 0, settings))
            tokens.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            are_up.set()
            await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    try:
        assert are_up.wait(20)
        yield urls
    finally:
        [(token, scope)] = tokens
        token.run_sync_soon(scope.cancel)
        thread.join(20)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    path = tmp_path_factory.mktemp("faults") / "runtime.toml"
    path.write_text(SETTINGS)
    faults = sorted({row.fault for row in rows()})
    with simulators(["none", *faults]) as (url, *faulty), daemon("--config", str(path)) as running:
        yield Place(url, dict(zip(faults, faulty, strict=True)), running)


# --- the calls of the table ---


def execute_http(place: Place, fault: str, tenant: str) -> str:
    with RuntimeClient(place.config(tenant)) as client:
        response = client.execute_http(_asked(place, fault, stream=False))
    return f"{_head(response)}, {'JSON' if _is_json(response.body) else 'a body that is no JSON'}"


def _head(response: HTTPResponse | StreamedResponse) -> str:
    wait = response.headers.get("retry-after")
    return f"status {response.status_code}" + (f", Retry-After {wait}" if wait else "")


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def stream_http(place: Place, fault: str, tenant: str) -> str:
    events = 0
    try:
        with (
            RuntimeClient(place.config(tenant)) as client,
            client.stream_http(_asked(place, fault, stream=True)) as response,
        ):
            for _ in response.iter_sse():
                events += 1
    except ConnectorException as error:
        error.add_note(f"{events} events")
        raise
    return f"{_head(response)}, {events} events"


def _asked(place: Place, fault: str, *, stream: bool) -> HTTPRequest:
    request = POST(f"{place.url}/v1/chat/completions").with_json(CHAT | {"stream": stream})
    return request.with_header("X-Simulate", fault).with_timeout(_timeout_ms(fault))


def chat_completion(place: Place, fault: str, tenant: str) -> str:
    with _openai(place, fault, tenant) as connector:
        return connector.chat_completion(_question())


def chat_completion_stream(place: Place, fault: str, tenant: str) -> str:
    texts = []
    try:
        with _openai(place, fault, tenant) as connector:
            for text in connector.chat_completion_stream(_question()):
                texts.append(text)
    except ConnectorException as error:
        error.add_note(f"{len(texts)} texts")
        raise
    return "".join(texts)


def _openai(place: Place, fault: str, tenant: str) -> OpenAIConnector:
    url = place.faulty[fault]
    return OpenAIConnector(url, config=place.config(tenant), timeout_ms=_timeout_ms(fault), max_retries=0)


def _timeout_ms(fault: str) -> int:
    return TIMEOUTS_MS.get(fault, PATIENCE_MS)


def _question() -> ChatCompletionRequest:
    return ChatCompletionRequest("any", [Message("user", "Why use a connector?")])


CALLS: dict[str, Callable[[Place, str, str], str]] = {
    call.__name__: call for call in (execute_http, stream_http, chat_completion, chat_completion_stream)
}


def happens(place: Place, row: Row, tenant: str) -> Row:
    """The row as it really is."""
    message = ""
    try:
        sees = CALLS[row.call](place, row.fault, tenant)
    except ConnectorException as error:
        message = str(error)
        came = "".join(f"{note}, then " for note in getattr(error, "__notes__", ()) if note[0] != "0")
        wait = f", retry_after_ms {error.retry_after_ms}" if error.retry_after_ms else ""
        sees = f"{came}{type(error).__name__} {error.get_error_class_name()}{wait}: {message}"
    return Row(row.fault, row.call, _on_page(sees), logged(place, tenant, message))


def logged(place: Place, tenant: str, message: str) -> str:
    """What the log says of the one request of a tenant; … in place of the message that the application sees."""
    place.running.wait_for_log(f"tenant={tenant} ")
    (line,) = [line for line in place.running.log.splitlines() if f"tenant={tenant} " in line]
    said = re.findall(r' ((?:status|attempts|error_class)=\w+|error="[^"]*"|error=\S+)', line)
    return _on_page(" ".join(said).replace(f'"{message}"', '"…"'))


def _on_page(text: str) -> str:
    return re.sub(r"127\.0\.0\.1:\d+", ON_PAGE, text)


def test_the_table_of_the_page_is_true(place: Place) -> None:
    """All at once: half of them wait for a timeout."""
    table = rows()
    tenants = [f"row-{number}" for number in range(len(table))]
    with ThreadPoolExecutor(len(table)) as pool:
        found = list(pool.map(partial(happens, place), table, tenants))
    assert [
        row if all(matches(on_page, real) for on_page, real in zip(row, really, strict=True)) else really
        for row, really in zip(table, found, strict=True)
    ] == table


def matches(on_page: str, really: str) -> bool:
    return re.fullmatch(re.escape(on_page).replace("…", ".*"), really.replace('"…"', '"..."')) is not None


def test_the_table_has_every_fault_with_every_call() -> None:
    faults = ["status=503", "status=429;retry-after=2", "latency=5s", "hang", "cut-after=5", "truncate-event=5"]
    faults += ["slow=100B/s", "garbage"]
    assert [(row.fault, row.call) for row in rows()] == [(fault, call) for fault in faults for call in CALLS]


def test_a_get_is_sent_again_and_a_post_is_not(place: Place) -> None:
    with RuntimeClient(place.config("retrying")) as client:
        again = client.execute_http(GET(f"{place.url}/v1/models").with_header("X-Simulate", "status=503;first=2"))
        once = client.execute_http(_asked(place, "status=503;first=2", stream=False))
        with pytest.raises(ConnectorException) as cut:
            client.execute_http(GET(f"{place.url}/v1/models").with_header("X-Simulate", "cut-after=0;first=1"))
        keyed = _asked(place, "status=503;first=1", stream=False).with_header("Idempotency-Key", "1")
        keyed_again = client.execute_http(keyed)
        received = client.execute_http(GET(f"{place.url}/__sim/requests?path=/v1/models"))
    assert [(answer.status_code, answer.attempts) for answer in (again, once, keyed_again)] == [
        (200, 3),
        (503, 1),
        (200, 2),
    ]
    assert cut.value.attempts == 1
    assert received.body.count(b'"fault":"status=503;first=2"') == 2
