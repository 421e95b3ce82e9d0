"""The daemon in this process: the drain's limit on a virtual clock, and mistakes of ours on one connection."""

import os
import signal
import socket
import tempfile

import pytest
import trio
from session_under_test import Gate, captured_log, connectors
from trio.testing import MockClock
from wire_client import connected

from vastar_runtime import daemon as daemon_module
from vastar_runtime.config import Examined, Listen, Settings
from vastar_runtime.daemon import DRAIN_S, Daemon
from vastar_runtime.errors import StartupError
from vastar_runtime.server.session import Session


@pytest.fixture
def clock():
    """Jumps when all tasks wait; real sockets get some time to wake one first."""
    return MockClock(autojump_threshold=0.05)


@pytest.fixture
def settings():
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="vcr-") as directory:
        yield Settings(listen=Listen(socket_path=f"{directory}/s", tcp_port=0))
        assert os.listdir(directory) == []


@pytest.fixture
def gate():
    gate = Gate()
    with connectors(gate):
        yield gate


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


def is_locked(settings: Settings) -> bool:
    return os.path.exists(f"{settings.listen.socket_path}.lock")


class Running:
    """A daemon in a nursery."""

    def __init__(self, nursery: trio.Nursery, settings: Settings) -> None:
        self.ready = trio.Event()
        self.ended = trio.Event()
        self._daemon = Daemon(settings, lambda: Examined(settings, None, [], {}), self.ready.set)
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        await self._daemon.run()
        self.ended.set()


async def started(nursery, settings) -> Running:
    running = Running(nursery, settings)
    await running.ready.wait()
    return running


async def test_a_request_that_outlasts_the_drain_is_given_up(clock, nursery, settings, gate, log):
    running = await started(nursery, settings)
    async with connected(settings.listen.socket_path) as client:
        await client.begin(b"for ever", connector_name="gate")
        await client.health()
        began_at = trio.current_time()
        signal.raise_signal(signal.SIGTERM)
        await client.end()
        await running.ended.wait()
    # The clock jumps as often as nothing else is to do, but never past the drain's deadline.
    assert trio.current_time() - began_at == pytest.approx(DRAIN_S)
    assert gate.cancelled == ["for ever"]
    assert "drain took too long" in log.getvalue()
    assert "limit_s=30.0 active_requests=1" in log.getvalue()


async def test_a_request_that_ends_within_the_drain_is_answered(clock, nursery, settings, gate, log):
    running = await started(nursery, settings)
    async with connected(settings.listen.socket_path) as client:
        await client.begin(b"a while", connector_name="gate")
        await client.health()
        signal.raise_signal(signal.SIGINT)
        await trio.sleep(DRAIN_S - 1)
        gate.open("a while")
        assert (await client.answer()).payload == "a while"
        await client.end()
        await running.ended.wait()
    assert "too long" not in log.getvalue()
    assert "event=draining signal=SIGINT active_requests=1" in log.getvalue()


async def test_a_connection_that_is_accepted_in_the_moment_of_the_signal_is_drained_too(clock, settings):
    serving = Daemon(settings, lambda: Examined(settings, None, [], {}))._serving
    serving.stop_accepting()
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    async with ours:
        with trio.fail_after(DRAIN_S):
            await serving.serve(theirs)


async def test_a_second_signal_ends_the_drain(clock, nursery, settings, gate, log):
    running = await started(nursery, settings)
    async with connected(settings.listen.socket_path) as client:
        await client.begin(b"for ever", connector_name="gate")
        await client.health()
        began_at = trio.current_time()
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(1)
        signal.raise_signal(signal.SIGINT)
        await client.end()
        await running.ended.wait()
    assert trio.current_time() - began_at == pytest.approx(1)
    assert 'event="stopping now" signal=SIGINT active_requests=1' in log.getvalue()


async def test_a_mistake_of_ours_on_one_connection_is_logged_and_the_others_go_on(
    nursery, settings, gate, log, monkeypatch
):
    running = await started(nursery, settings)
    async with connected(settings.listen.socket_path) as neighbour:
        await neighbour.begin(b"mine", connector_name="gate")
        await neighbour.health()

        async def fail(self):
            raise ZeroDivisionError("a mistake of ours")

        monkeypatch.setattr(Session, "_read", fail)
        async with connected(settings.listen.socket_path) as client:
            await client.end()
        monkeypatch.undo()
        gate.open("mine")
        assert (await neighbour.answer()).payload == "mine"
    signal.raise_signal(signal.SIGTERM)
    await running.ended.wait()
    assert "level=error" in log.getvalue()
    assert "a mistake of ours" in log.getvalue()


async def test_health_counts_the_requests_of_all_connections(nursery, settings, gate):
    running = await started(nursery, settings)
    async with connected(settings.listen.socket_path) as one, connected(settings.listen.socket_path) as other:
        await one.begin(b"1", connector_name="gate")
        await one.begin(b"2", connector_name="gate")
        assert (await one.health()).active_requests == 2
        health = await other.health()
        assert (health.active_requests, health.available_credits, health.draining) == (2, 1024, False)
        assert health.uptime_ms < 60_000
        gate.open("1", "2")
        await one.answer()
        await one.answer()
        assert (await other.health()).active_requests == 0
    signal.raise_signal(signal.SIGTERM)
    await running.ended.wait()


def test_a_daemon_that_cannot_start_says_so_in_one_line_and_raises_it_bare(settings):
    settings = Settings(listen=Listen(socket_path="/dev/null/s"))
    with pytest.raises(StartupError, match=r"^cannot listen on /dev/null/s: Not a directory; [^\n]*$"):
        daemon_module.run(settings, lambda: Examined(settings, None, [], {}))


async def test_a_signal_that_comes_before_the_daemon_is_ready_is_not_lost(nursery, settings):
    """It is queued from before the socket exists, and taken up when connections are accepted."""
    running = Running(nursery, settings)
    while not is_locked(settings):
        await trio.lowlevel.checkpoint()
    signal.raise_signal(signal.SIGTERM)
    await running.ended.wait()
