"""SIGHUP: a reload without anybody who asks for its outcome."""

from __future__ import annotations

import signal

import trio
from reloadable_daemon import ONE_AN_HOUR, Held, lifted, reloadable, still_limited
from test_reload_files import a_fifo, deleted, half_written, of_100_mib
from upstream import always, upstream


async def test_sighup_does_the_same():
    async with upstream(always(b"fine")) as up:
        with reloadable() as daemon:
            daemon.write(ONE_AN_HOUR)
            daemon.running.signal(signal.SIGHUP)
            await daemon.wait_for_log("configuration reloaded")
            await still_limited(daemon, up.origin)


async def test_sighup_with_a_file_that_cannot_be_used_leaves_the_daemon_as_it_is():
    async with upstream(always(b"fine")) as up:
        with reloadable(ONE_AN_HOUR) as daemon:
            for make in (half_written, of_100_mib, a_fifo, deleted):
                daemon.write("")
                make(daemon.file)
                before = daemon.running.log.count("not reloaded")
                daemon.running.signal(signal.SIGHUP)
                while daemon.running.log.count("not reloaded") == before:
                    await still_limited(daemon, up.origin)
                await still_limited(daemon, up.origin)
            await lifted(daemon, up.origin)


async def test_a_burst_of_sighups_is_as_good_as_one():
    async with upstream(always(b"fine")) as up:
        with reloadable() as daemon:
            daemon.write(ONE_AN_HOUR)
            for _ in range(50):
                daemon.running.signal(signal.SIGHUP)
            await daemon.wait_for_log("configuration reloaded")
            await still_limited(daemon, up.origin)
            await lifted(daemon, up.origin)


async def test_sighup_while_it_drains_neither_reloads_nor_cuts_anything_off():
    held = Held()
    async with upstream(held) as up:
        with reloadable() as daemon:
            async with daemon.connect() as client:
                await client.begin({"url": f"{up.origin}/held"})
                await held.came.wait()
                daemon.running.signal(signal.SIGTERM)
                await daemon.wait_for_log("event=draining")
                daemon.running.signal(signal.SIGHUP)
                await daemon.wait_for_log('event="configuration not reloaded" reason=draining')
                refused = await daemon.command("reload")
                assert (refused.returncode, refused.stdout) == (1, "")
                assert refused.stderr == (
                    f"Error: the daemon on {daemon.running.socket_path} (PID {daemon.running.process.pid}) "
                    "accepts no connections: it is starting or shutting down\n"
                )
                held.go_on.set()
                assert (await client.answer()).body == "late"
            assert await trio.to_thread.run_sync(daemon.running.wait) == 0
        assert "stopping now" not in daemon.running.log
