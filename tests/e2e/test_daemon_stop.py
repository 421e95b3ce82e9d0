"""Stopping: what is in flight finishes, a second signal does not wait, and nothing is left behind."""

import os
import signal
from pathlib import Path

import pytest
import trio
from daemon_process import daemon
from upstream import hold, silent, upstream

from connector_sdk.wire import ErrorClass

pytestmark = pytest.mark.unmeasured

SIGNALS = [signal.SIGTERM, signal.SIGINT]


def left_behind(path: str) -> list[str]:
    return [name for name in (path, f"{path}.lock") if os.path.exists(name)]


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_request_in_flight_finishes_and_then_the_daemon_ends(number):
    came, go_on = trio.Event(), trio.Event()

    async def script(peer):
        while await peer.request() is not None:
            came.set()
            await go_on.wait()
            await peer.respond(b"in time")

    async with upstream(script) as up:
        with daemon() as running:
            async with running.connect() as client, running.connect() as idle:
                request_id = await client.begin({"url": up.origin})
                await came.wait()
                running.signal(number)
                await trio.to_thread.run_sync(running.wait_for_log, "event=draining")
                await idle.end()

                # The socket stays, so that a second daemon does not take its place, but accepts no one.
                assert left_behind(running.socket_path) == [running.socket_path, f"{running.socket_path}.lock"]
                with pytest.raises(OSError, match="refused"):
                    await trio.open_unix_socket(running.socket_path)

                refused = await client.execute({"url": up.origin})
                assert (refused.error_class, "draining" in refused.message) == (ErrorClass.TRANSIENT, True)
                assert (await client.health()).draining

                go_on.set()
                answer = await client.answer()
                assert (answer.request_id, answer.body) == (request_id, "in time")
                await client.end()
            assert await trio.to_thread.run_sync(running.wait) == 0
            assert left_behind(running.socket_path) == []
            assert f"event=draining signal={number.name} active_requests=1" in running.log
            assert "event=stopped" in running.log


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
async def test_a_second_signal_stops_at_once_and_closes_upstream_connections(number, second):
    gone = trio.Event()

    async def script(peer):
        await peer.request()
        await hold(peer)
        gone.set()

    async with upstream(script) as up:
        with daemon() as running:
            async with running.connect() as client:
                await client.begin({"url": up.origin})
                await up.asked.wait()
                running.signal(number)
                await trio.to_thread.run_sync(running.wait_for_log, "event=draining")
                running.signal(second)
                await client.end()
            assert await trio.to_thread.run_sync(running.wait) == 0
            await gone.wait()
            assert left_behind(running.socket_path) == []
            assert "stopping now" in running.log


@pytest.mark.parametrize("number", SIGNALS)
async def test_an_idle_daemon_ends_at_once(number):
    with daemon(variables={"VASTAR_USE_TCP": "1", "VASTAR_TCP_PORT": "0"}) as running:
        async with running.connect() as client:
            await client.health()
            running.signal(number)
            await client.end()
        assert await trio.to_thread.run_sync(running.wait) == 0
        assert left_behind(running.socket_path) == []


async def test_a_client_that_never_reads_does_not_hold_a_second_signal_up():
    async with upstream(silent) as up:
        with daemon() as running:
            async with running.connect() as client:
                for _ in range(300):
                    await client.send(b"\0\0\0\1\2" * 10)  # health checks, whose answers no one reads
                await client.begin({"url": up.origin})
                with trio.fail_after(20):
                    while not up.connections:  # in flight: else there is nothing that a drain waits for
                        await trio.lowlevel.checkpoint()
                running.signal(signal.SIGTERM)
                await trio.to_thread.run_sync(running.wait_for_log, "event=draining")
                running.signal(signal.SIGTERM)
                assert await trio.to_thread.run_sync(running.wait) == 0


def test_a_socket_that_another_has_put_in_its_place_is_left():
    with daemon() as running:
        path = Path(running.socket_path)
        path.unlink()
        path.write_text("of another")
        assert running.stop() == 0
        assert path.read_text() == "of another"


def test_a_directory_that_is_gone_does_not_keep_it_from_ending():
    with daemon() as running:
        os.unlink(running.socket_path)
        os.unlink(f"{running.socket_path}.lock")
        assert running.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGUSR1])
async def test_other_signals_are_nobody_s_business(number):
    """SIGPIPE is ignored by Python; the other ends the process, as any that does not handle it."""
    with daemon() as running:
        running.signal(number)
        if number is signal.SIGPIPE:
            async with running.connect() as client:
                assert (await client.health()).healthy
        else:
            assert running.wait() == -number
