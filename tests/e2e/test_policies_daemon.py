"""A daemon with a configuration file, and an upstream that fails in ways of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from daemon_process import DaemonProcess, daemon, socket_directory
from policed_session import Result
from upstream import Peer, always, hold, sending, silent, upstream
from wire_client import WireClient

from connector_sdk.wire import ErrorClass, ExecuteResponse

pytestmark = pytest.mark.unmeasured

QUICK_RETRIES = "[policy.retry]\nfirst_backoff_ms = 1\n"


@contextmanager
def configured(text: str) -> Iterator[DaemonProcess]:
    """A daemon with this file; at the end it has ended well."""
    with socket_directory() as directory:
        path = directory / "runtime.toml"
        path.write_text(text)
        with daemon(variables={"VASTAR_CONFIG": str(path)}) as running:
            yield running
            assert running.stop() == 0, running.log
            assert "internal error" not in running.log


async def answered(client: WireClient) -> Result:
    message = await client.receive()
    assert isinstance(message, ExecuteResponse), message
    return Result(message, trio.current_time())


async def ask(client: WireClient, url: str, method: str = "GET", *, tenant: str = "tenant", **fields: Any) -> Result:
    await client.begin({"url": url, "method": method, **fields}, tenant_id=tenant)
    return await answered(client)


class Failing:
    """Resets, or answers 503, a number of times; then answers.

    Attributes:
        left: how often it will still fail.
    """

    def __init__(self, how: str) -> None:
        self.left = 0
        self._how = how

    async def __call__(self, peer: Peer) -> None:
        while (await peer.request()) is not None:
            if not self.left:
                await peer.respond(b"fine")
                continue
            self.left -= 1
            if self._how == "reset":
                peer.reset()
                return
            await peer.respond(b"not now", status=503, headers=[("Retry-After", "0")])


async def test_a_reset_is_tried_again_where_that_does_no_harm() -> None:
    failing = Failing("reset")
    async with upstream(failing) as up:
        with configured(QUICK_RETRIES) as running:
            async with running.connect() as client:
                for method, fields, seen in [
                    ("GET", {}, 3),
                    ("PUT", {"body": "x"}, 3),
                    ("POST", {"body": "x"}, 1),
                    ("POST", {"body": "x", "headers": {"Idempotency-Key": "1"}}, 3),
                ]:
                    before = len(up.requests)
                    failing.left = seen - 1 or 1
                    # A tenant each: what is told here is not of connections that were kept.
                    result = await ask(client, up.origin, method, tenant=f"{method} {fields}", **fields)
                    assert len(up.requests) - before == seen
                    assert result.attempts == seen
                    if seen == 3:
                        assert result.body == "fine"
                    else:
                        assert result.error_class is ErrorClass.TRANSIENT


async def test_the_last_answer_is_delivered_as_it_came() -> None:
    failing = Failing("503")
    async with upstream(failing) as up:
        with configured(QUICK_RETRIES + "max_retries = 1\n") as running:
            async with running.connect() as client:
                failing.left = 1
                assert (await ask(client, up.origin)).attempts == 2
                failing.left = 2
                result = await ask(client, up.origin)
                assert (result.status, result.body, result.attempts) == (503, "not now", 2)
                assert result.headers["retry-after"] == "0"
                assert up.connections == 1


async def test_a_circuit_opens_and_closes_again_after_a_probe() -> None:
    failing = Failing("503")
    failing.left = 5
    file = "[policy.retry]\nmax_retries = 0\n[policy.circuit_breaker]\nopen_ms = 300000\n"
    quick = '[[scope]]\ntenant = "quick"\n[scope.circuit_breaker]\nopen_ms = 1\n'
    async with upstream(failing) as up:
        with configured(file + quick) as running:
            async with running.connect() as client:
                for _ in range(5):
                    assert (await ask(client, up.origin)).status == 503
                refused = await ask(client, up.origin)
                assert (refused.error_class, refused.attempts) == (ErrorClass.TRANSIENT, 0)
                assert refused.message == (
                    f"circuit open for {up.origin}, next probe in {refused.retry_after_ms} ms; last failure: status 503"
                )
                assert 200_000 < refused.retry_after_ms <= 300_000
                assert len(up.requests) == 5
                assert (await ask(client, up.origin, tenant="other")).body == "fine"
                failing.left = 5
                for _ in range(5):
                    await ask(client, up.origin, tenant="quick")
                with trio.fail_after(20):
                    while (result := await ask(client, up.origin, tenant="quick")).error_class is ErrorClass.TRANSIENT:
                        assert result.attempts == 0
                assert result.body == "fine"


async def test_a_tenant_has_as_many_requests_as_the_file_says() -> None:
    scope = '[[scope]]\ntenant = "batch"\n[scope.rate_limit]\nper_tenant = "2/h"\n'
    async with upstream(always(b"fine")) as up:
        with configured(scope) as running:
            async with running.connect() as client:
                for _ in range(2):
                    assert (await ask(client, up.origin, tenant="batch")).body == "fine"
                refused = await ask(client, up.origin, tenant="batch")
                assert (refused.error_class, refused.attempts) == (ErrorClass.RATE_LIMITED, 0)
                assert refused.message.startswith("rate limit of 2/h (burst 2) of tenant 'batch' is used up; next in ")
                assert 1_000_000 < refused.retry_after_ms <= 1_800_000
                for _ in range(10):
                    assert (await ask(client, up.origin, tenant="other")).body == "fine"
            assert len(up.requests) == 12


async def test_requests_beyond_the_limit_of_those_that_run_are_refused() -> None:
    limit = "[policy.concurrency]\nmax_per_tenant = 1\nmax_queued_per_tenant = 0\n"
    async with upstream(sending(b"", then=hold)) as quiet, upstream(always(b"fine")) as up:
        with configured(limit) as running:
            async with running.connect() as first, running.connect() as client:
                await first.begin({"url": quiet.origin, "timeout_ms": 60_000})
                with trio.fail_after(20):
                    await quiet.asked.wait()
                refused = await ask(client, up.origin)
                assert (refused.error_class, refused.attempts) == (ErrorClass.RATE_LIMITED, 0)
                assert "concurrency.max_per_tenant is 1: tenant 'tenant' has 1 running" in refused.message
                assert refused.retry_after_ms > 0
                assert (await ask(client, up.origin, tenant="other")).body == "fine"
                await first.close()
                with trio.fail_after(20):
                    while (result := await ask(client, up.origin)).error_class is ErrorClass.RATE_LIMITED:
                        pass
                assert result.body == "fine"


async def test_the_file_s_time_limits_hold_for_those_that_they_name() -> None:
    file = (
        "[policy.deadline]\nmax_duration_ms = 300\n"
        + '[[scope]]\ntenant = "batch"\n[scope.deadline]\nmax_duration_ms = "none"\nfirst_byte_timeout_ms = 20\n'
        + "[scope.retry]\nfirst_backoff_ms = 1\n"
    )
    async with upstream(silent) as quiet:
        with configured(file) as running:
            async with running.connect() as client:
                late = await ask(client, quiet.origin, timeout_ms=60_000)
                assert late.error_class is ErrorClass.TIMEOUT
                assert "300 ms passed (deadline.max_duration_ms) while " in late.message
                last = await ask(client, quiet.origin, tenant="batch")
                assert (last.error_class, last.attempts) == (ErrorClass.TIMEOUT, 3)
                assert "within 20 ms (deadline.first_byte_timeout_ms)" in last.message


async def test_an_upstream_s_wild_retry_after_neither_holds_up_nor_breaks_anything() -> None:
    values = ["-1", "1e9", "Thu, 01 Jan 1970 00:00:00 GMT", "soon", "9" * 60_000, "\x7f"]
    asked = 0

    async def script(peer: Peer) -> None:
        nonlocal asked
        while (await peer.request()) is not None:
            value = values[asked // 2 % len(values)]
            asked += 1
            await peer.respond(b"no", status=503, headers=[("Retry-After", value)])

    file = QUICK_RETRIES + "max_retries = 1\n[policy.circuit_breaker]\nenabled = false\n"
    async with upstream(script) as up:
        with configured(file) as running:
            async with running.connect() as client:
                with trio.fail_after(20):
                    for number, value in enumerate(values):
                        asked = 2 * number
                        result = await ask(client, up.origin)
                        assert (result.status, result.body) == (503, "no")
                        assert result.attempts == (1 if value.startswith("99") else 2)
