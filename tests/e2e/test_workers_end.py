"""Workers that die, that are told to end, and the end of all of them."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
import trio
from daemon_process import daemon as start_daemon
from daemon_process import refused
from reloadable_daemon import Held, Reloadable
from upstream import always, upstream
from wire_client import WireClient
from worker_daemon import PATIENCE_S, WORKERS, WorkerSeen, clients, ended, kill, seen, workers


class Load:
    """Requests on one connection, one after the other, until that breaks or it is enough."""

    def __init__(self, client: WireClient, url: str) -> None:
        self._client = client
        self._url = url
        self.answered = 0
        self.is_broken = False
        self.is_enough = False

    async def run(self) -> None:
        try:
            while not self.is_enough:
                assert (await self._client.get(self._url)).body == "fine"
                self.answered += 1
        except (trio.BrokenResourceError, AssertionError):
            self.is_broken = True

    async def more(self, number: int) -> None:
        """Return once so many more were answered."""
        enough = self.answered + number
        while self.answered < enough and not self.is_broken:
            await trio.sleep(0.001)


async def test_a_worker_that_is_killed_takes_its_own_connections_along_and_no_other_and_is_replaced():
    async with upstream(always(b"fine")) as up:
        with workers() as daemon:
            async with clients(daemon, 8) as opened, daemon.connect() as client, trio.open_nursery() as nursery:
                before = await seen(client)
                # The one that answers this connection is not the one to be killed.
                asked = {worker.pid: worker.active_requests for worker in before}
                victim = next(worker for worker in before if worker.connections and not asked[worker.pid])
                loads = [Load(each, up.origin) for each in opened]
                for load in loads:
                    nursery.start_soon(load.run)
                for load in loads:
                    await load.more(3)
                kill(victim.pid)
                await daemon.wait_for_log(f'event="worker died" pid={victim.pid} reason=SIGKILL')
                await daemon.wait_for_log(f"replaces={victim.pid}")
                for load in loads:
                    await load.more(20)
                assert sum(load.is_broken for load in loads) == victim.connections

                after = await seen(client)
                assert {worker.pid for worker in before} - {worker.pid for worker in after} == {victim.pid}
                assert len(after) == WORKERS
                [replacement] = [worker for worker in after if worker.pid not in asked]
                assert replacement.connections == 0
                async with clients(daemon, 4) as others:
                    for other in others:
                        assert (await other.get(up.origin)).body == "fine"
                    taken = {worker.pid: worker.connections for worker in await seen(client)}
                    assert taken[replacement.pid] > 0
                for load in loads:
                    load.is_enough = True
            assert daemon.running.log.count('event="worker died"') == 1


async def test_workers_that_end_again_and_again_are_started_after_a_pause_that_grows(tmp_path):
    """Python itself ends at once, as when its installation is being replaced."""
    broken = tmp_path / "broken"
    (tmp_path / "sitecustomize.py").write_text(f"import os\nif os.path.exists({str(broken)!r}): os._exit(3)\n")
    with workers(number=2, PYTHONPATH=str(tmp_path)) as daemon:
        async with daemon.connect() as client:
            victim = next(worker for worker in await seen(client) if not worker.connections)
            broken.touch()
            kill(victim.pid)
            await daemon.wait_for_log("pause_s=0.25")
            await daemon.wait_for_log("pause_s=0.5")
            assert (await client.health()).healthy
            broken.unlink()
            await daemon.wait_for_log('event="worker serves"')
            assert len(await seen(client)) == 2
        assert 'event="worker died"' in daemon.running.log
        assert 'reason="exit status 3"' in daemon.running.log


def test_a_daemon_whose_workers_do_not_start_says_so_in_one_line(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif '-c' in sys.orig_argv: os._exit(3)\n")
    reason = refused("--workers", "2", variables={"PYTHONPATH": str(tmp_path)})
    assert re.fullmatch(r"a worker \(PID \d+\) did not start: exit status 3; see the log", reason)


# --- told to end ---


async def begun(daemon: Reloadable, opened: list[WireClient], url: str) -> list[WorkerSeen]:
    """One request of each client is under way, on more than one worker, and nothing else."""
    for client in opened:
        await client.begin({"url": url})
    async with daemon.connect() as other:
        await until_active(other, len(opened))
        all_workers = await seen(other)
        await until_active(other, len(opened))  # what was answered just now has ended too
    assert sum(worker.active_requests > 0 for worker in all_workers) > 1
    return all_workers


async def until_active(client: WireClient, requests: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while (await client.health()).active_requests != requests:
            pass


async def accepts_nobody(daemon: Reloadable) -> None:
    with pytest.raises(OSError):  # refused, as by a daemon that has closed its socket
        async with daemon.connect():
            pass


async def test_sigterm_lets_all_workers_finish():
    held = Held()
    async with upstream(held) as up:
        with workers(VASTAR_USE_TCP="true", VASTAR_TCP_PORT="0") as daemon:
            port = daemon.running.tcp_port
            async with clients(daemon, 8) as opened:
                pids = [worker.pid for worker in await begun(daemon, opened, f"{up.origin}/held")]
                daemon.running.signal(signal.SIGTERM)
                await daemon.wait_for_log("event=draining signal=SIGTERM active_requests=8")
                await accepts_nobody(daemon)
                with pytest.raises(OSError):
                    await trio.open_tcp_stream("127.0.0.1", port)
                stopping = await daemon.command("reload")
                assert "accepts no connections: it is starting or shutting down" in stopping.stderr
                held.go_on.set()
                for client in opened:
                    assert (await client.answer()).body == "late"
                    await client.end()
            assert await trio.to_thread.run_sync(daemon.running.wait) == 0
            for pid in pids:
                await ended(pid)
            assert not Path(daemon.running.socket_path).exists()
        assert "worker died" not in daemon.running.log
        assert daemon.running.log.count("event=draining") == 1


async def test_a_second_signal_ends_all_workers_at_once():
    held = Held()
    async with upstream(held) as up:
        with workers() as daemon:
            async with clients(daemon, 8) as opened:
                await begun(daemon, opened, f"{up.origin}/held")
                daemon.running.signal(signal.SIGTERM)
                await daemon.wait_for_log("event=draining")
                daemon.running.signal(signal.SIGINT)
                for client in opened:
                    await client.end()
            assert await trio.to_thread.run_sync(daemon.running.wait) == 0
        assert 'event="stopping now" signal=SIGINT' in daemon.running.log


async def test_a_worker_that_is_told_to_end_finishes_and_is_replaced():
    held = Held()
    async with upstream(held) as up:
        with workers(number=2) as daemon:
            async with clients(daemon, 4) as opened:
                [leaving, _] = await begun(daemon, opened, f"{up.origin}/held")
                kill(leaving.pid, signal.SIGTERM)
                await daemon.wait_for_log(f"replaces={leaving.pid}")
                async with clients(daemon, 4) as others:  # while it finishes
                    for other in others:
                        assert (await other.get(up.origin)).body == "at once"
                        await until_active(other, 4)
                        assert not (await other.health()).draining
                held.go_on.set()
                for client in opened:
                    assert (await client.answer()).body == "late"
                await ended(leaving.pid)
                async with daemon.connect() as other:
                    with trio.fail_after(PATIENCE_S):
                        while leaving.pid in (now := [worker.pid for worker in await seen(other)]):
                            pass
                    assert len(now) == 2
        assert "worker died" not in daemon.running.log


async def test_signals_to_all_processes_at_once_are_one_drain():
    """As systemd sends them, or pkill."""
    held = Held()
    async with upstream(held) as up:
        with workers(number=2) as daemon:
            async with clients(daemon, 4) as opened:
                pids = [worker.pid for worker in await begun(daemon, opened, f"{up.origin}/held")]
                for pid in (*pids, daemon.running.process.pid):
                    kill(pid, signal.SIGTERM)
                await daemon.wait_for_log("event=draining signal=SIGTERM")
                held.go_on.set()
                for client in opened:
                    assert (await client.answer()).body == "late"
            assert await trio.to_thread.run_sync(daemon.running.wait) == 0


async def test_workers_end_with_a_supervisor_that_is_killed_and_another_daemon_takes_the_socket():
    held = Held()
    async with upstream(held) as up:
        with workers() as daemon:
            async with clients(daemon, 8) as opened:
                pids = [worker.pid for worker in await begun(daemon, opened, f"{up.origin}/held")]
                kill(pids[0], signal.SIGSTOP)  # one hangs, too
                kill(daemon.running.process.pid)
                for client in opened[1:]:
                    await client.end()
                for pid in pids:
                    await ended(pid)
            with start_daemon("--workers", "2", socket_path=daemon.running.socket_path) as another:
                async with another.connect() as client:
                    assert (await client.health()).healthy
                assert another.stop() == 0
