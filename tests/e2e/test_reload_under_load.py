"""A hundred reloads while requests and streams run: nothing fails, and nothing is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from reloadable_daemon import Reloadable, reloadable
from threaded_upstream import PATIENCE_S, Call, upstream

from connector_sdk import GET, ConnectorException, ErrorClass, HTTPRequest, RuntimeClient, RuntimeConfig
from vastar_runtime.cli.asking import ask_runtime
from vastar_runtime.connectors.base import Reloaded

pytestmark = pytest.mark.unmeasured

RELOADS = 100
PIECES = [f"piece {number}\n".encode() * 100 for number in range(20)]
BODY = b"".join(PIECES)

# Both keep what the two witnesses of the past are under; all else differs.
KEPT = """
[[scope]]
tenant = "spent"
rate_limit.per_tenant = "5/h"
[[scope]]
tenant = "unlucky"
circuit_breaker.consecutive_failures = 1
circuit_breaker.open_ms = 300000
retry.max_retries = 0
"""
ONE = (
    """
[admission]
max_concurrent = 1000
[policy.rate_limit]
per_tenant = "1000000/s"
[policy.concurrency]
max_per_tenant = 500
"""
    + KEPT
)
OTHER = (
    """
[policy.rate_limit]
per_tenant = "900000/s"
per_origin = "900000/s"
[policy.deadline]
max_duration_ms = 600000
[policy.retry]
max_retries = 1
[policy.circuit_breaker]
failure_rate = 0.5
"""
    + KEPT
    + "".join(f'[[scope]]\ntenant = "load-{number}"\nconcurrency.max_per_tenant = 100\n' for number in range(4))
)
SCOPES = {ONE: 2, OTHER: 6}


class Load:
    """Clients that ask on until they are told to stop; each of its threads has a connection of its own."""

    def __init__(self, config: RuntimeConfig) -> None:
        self._config = config
        self._is_over = threading.Event()
        self._answered = threading.Semaphore(0)
        self.counts: dict[str, int] = {}
        self.failures: list[BaseException] = []

    def wait_for_an_answer(self) -> None:
        assert self._answered.acquire(timeout=PATIENCE_S), self.failures

    def go_on(self, name: str, ask: Callable[[RuntimeClient, HTTPRequest], bytes], url: str) -> None:
        """One thread's work."""
        self.counts[name] = 0
        try:
            with RuntimeClient(self._config) as client:
                while not self._is_over.is_set():
                    assert ask(client, GET(url).with_tenant_id(name)) == BODY
                    self.counts[name] += 1
                    self._answered.release()
        except BaseException as error:
            self.failures.append(error)

    @contextmanager
    def of(self, asks: list[Callable[[RuntimeClient, HTTPRequest], bytes]], url: str) -> Iterator[None]:
        threads = [
            threading.Thread(target=self.go_on, args=(f"load-{number}", ask, url)) for number, ask in enumerate(asks)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()


def buffered(client: RuntimeClient, request: HTTPRequest) -> bytes:
    return client.execute_http(request).body


def streamed(client: RuntimeClient, request: HTTPRequest) -> bytes:
    with client.stream_http(request) as response:
        return b"".join(response.iter_bytes())


def failure(client: RuntimeClient, url: str, tenant: str) -> ConnectorException:
    try:
        answer = client.execute_http(GET(url).with_tenant_id(tenant))
    except ConnectorException as error:
        return error
    raise AssertionError(f"{tenant} was let through: {answer}")


def reload(daemon: Reloadable, text: str) -> None:
    daemon.write(text)
    told = ask_runtime(daemon.running.socket_path, "reload", PATIENCE_S, Reloaded)
    assert (told.file, told.mistakes, told.scopes, told.needs_restart) == (str(daemon.file), (), SCOPES[text], ())


def test_no_request_fails_no_stream_breaks_off_and_nothing_is_forgotten() -> None:
    last_piece = threading.Event()

    def answer(call: Call) -> None:
        if call.seen.target == "/fails":
            call.answer(503, b"")
        elif call.seen.target == "/slow":  # begins before the first reload and ends after the last
            call.head(200)
            call.send(PIECES[0])
            assert last_piece.wait(PATIENCE_S * 3)
            call.send(BODY[len(PIECES[0]) :])
        else:
            call.head(200, ("Content-Length", str(len(BODY))))
            for piece in PIECES:
                call.send(piece)

    with upstream(answer) as up, reloadable(ONE) as daemon:
        config = RuntimeConfig(socket_path=daemon.running.socket_path, use_tcp=False)
        load = Load(config)
        with RuntimeClient(config) as client:
            for _ in range(5):
                assert client.execute_http(GET(up.url).with_tenant_id("spent")).status_code == 200
            assert client.execute_http(GET(f"{up.url}/fails").with_tenant_id("unlucky")).status_code == 503
            with (
                client.stream_http(GET(f"{up.url}/slow")) as slow,
                load.of([buffered, buffered, streamed, streamed], up.url),
            ):
                for number in range(RELOADS):
                    reload(daemon, (OTHER, ONE)[number % 2])
                    load.wait_for_an_answer()
                    limited = failure(client, up.url, "spent")
                    assert limited.error_class is ErrorClass.RATE_LIMITED
                    assert "rate limit of 5/h" in str(limited)
                    broken = failure(client, f"{up.url}/fails", "unlucky")
                    assert broken.error_class is ErrorClass.TRANSIENT
                    assert "circuit open" in str(broken)
                last_piece.set()
                assert b"".join(slow.iter_bytes()) == BODY
        assert load.failures == []
        assert min(load.counts.values()) >= 1, load.counts
        assert sum(load.counts.values()) >= RELOADS
        assert [seen.target for seen in up.seen].count("/fails") == 1
        assert daemon.running.stop() == 0
        assert daemon.running.log.count('event="configuration reloaded"') == RELOADS
