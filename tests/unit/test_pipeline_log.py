"""What the log says of circuits: that they opened and closed, and neither secrets nor what could forge a line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
import trio
from log_text import LogText
from pipeline_requests import NO_RETRIES, ORIGIN, Requests, Upstream, failing
from trio.testing import MockClock

from vastar_runtime.config.policy import CircuitBreakerPolicy
from vastar_runtime.errors import Failure
from vastar_runtime.telemetry import log as logging
from vastar_runtime.telemetry.log import MAX_VALUE_CHARACTERS


@pytest.fixture
def log() -> Iterator[LogText]:
    stream = LogText()
    logging.configure(stream)
    yield stream
    structlog.reset_defaults()


def lines(log: LogText) -> list[str]:
    """Without their times."""
    return [line.partition(" ")[2] for line in log.getvalue().splitlines()]


async def test_a_circuit_that_opens_and_closes_says_so_and_nothing_else_does(
    nursery: trio.Nursery, autojump_clock: MockClock, log: LogText
) -> None:
    requests = Requests(nursery, retry=NO_RETRIES)
    upstream = Upstream(*[503] * 4, failing(Failure.UNSENT, "cannot connect"), 503, failing(Failure.LOST, "reset"), 200)
    for _ in range(4):
        await requests.send(upstream)
    assert lines(log) == []
    for _ in range(3):  # the last two are refused
        await requests.send(upstream)
    opened = f'level=warning event="circuit opened" origin={ORIGIN} tenant=tenant failures='
    assert lines(log) == [f'{opened}5 next_probe_in_ms=30000 error="HTTP request failed: cannot connect"']
    await trio.sleep(30)
    await requests.send(upstream)
    assert lines(log)[1:] == [f'{opened}6 next_probe_in_ms=60000 error="status 503"']
    await trio.sleep(60)
    await requests.send(upstream)
    assert lines(log)[2:] == [f'{opened}7 next_probe_in_ms=120000 error="HTTP request failed: reset"']
    await trio.sleep(120)
    for _ in range(3):
        assert (await requests.send(upstream)).status == 200
    assert lines(log)[3:] == [f'level=info event="circuit closed" origin={ORIGIN} tenant=tenant']


async def test_hostile_names_and_quotations_of_an_upstream_neither_forge_a_line_nor_tell_a_secret(
    nursery: trio.Nursery, autojump_clock: MockClock, log: LogText
) -> None:
    policy = CircuitBreakerPolicy(consecutive_failures=1)
    requests = Requests(nursery, retry=NO_RETRIES, circuit_breaker=policy)
    tenant = "t\nlevel=info event=forged\r\x1b[31m\x85\u2028" + "x" * 100_000
    cause = f"the proxy said {'s3cr3t of an upstream'!r} and\nlevel=info event=forged \x1b[31m" + "y" * 100_000
    upstream = Upstream(failing(Failure.UNSENT, cause), 200)
    await requests.send(upstream, tenant=tenant)
    await trio.sleep(30)
    assert (await requests.send(upstream, tenant=tenant)).status == 200
    opened, closed = log.getvalue().splitlines()
    for line, event in ((opened, "circuit opened"), (closed, "circuit closed")):
        assert f'event="{event}"' in line
        assert line.isprintable()
        assert "s3cr3t" not in line
        assert len(line) < 3 * MAX_VALUE_CHARACTERS
    assert "the proxy said … and" in opened
