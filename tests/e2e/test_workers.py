"""A daemon of several workers is one daemon: its connections are spread, and any of them answers for all."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from pathlib import Path

import pytest
import trio
from daemon_process import refused
from reloadable_daemon import Held, ask, json_of, reloadable
from upstream import always, upstream
from wire_client import connected
from worker_daemon import PATIENCE_S, WORKERS, clients, kill, seen, workers

from vastar_runtime.cli import status


@pytest.mark.unmeasured
async def test_connections_spread_evenly():
    with workers() as daemon:
        async with clients(daemon, 40) as opened:
            counts = [worker.connections for worker in await seen(opened[0])]
            assert sum(counts) == 40
            assert min(counts) >= 5, counts  # 10 each, on a machine that does nothing else


@pytest.mark.unmeasured
@pytest.mark.parametrize("count", [8, 32])
async def test_connections_that_come_at_once_spread_evenly(count):
    with workers() as daemon, contextlib.ExitStack() as closing:
        for _ in range(count):  # they are in the kernel's queue before any worker has looked
            waiting = closing.enter_context(socket.socket(socket.AF_UNIX))
            waiting.connect(daemon.running.socket_path)
        async with daemon.connect() as client:
            with trio.fail_after(PATIENCE_S):
                while sum(counts := [worker.connections for worker in await seen(client)]) < count + 1:
                    await trio.lowlevel.checkpoint()
        assert min(counts) >= (count + 1) // WORKERS - 2, counts


@pytest.mark.unmeasured
async def test_a_worker_that_hangs_takes_connections_from_nobody():
    with workers() as daemon:
        async with daemon.connect() as first:
            [hung] = [worker.pid for worker in await seen(first) if not worker.connections][:1]
            kill(hung, signal.SIGSTOP)
            try:
                async with clients(daemon, 12) as opened:
                    for client in opened:
                        assert (await client.health()).healthy
            finally:
                kill(hung, signal.SIGCONT)
            async with clients(daemon, 4):
                pass


async def test_status_names_a_worker_that_hangs():
    with workers() as daemon:
        async with daemon.connect() as first:
            [hung] = [worker.pid for worker in await seen(first) if not worker.connections][:1]
            kill(hung, signal.SIGSTOP)
            try:
                shown = await daemon.command("status")
            finally:
                kill(hung, signal.SIGCONT)
            assert f"      PID {hung} does not answer; if it goes on hanging: kill -9 {hung}\n" in shown.stdout
            assert shown.stdout.count("does not answer") == 1
            assert "does not answer" not in (await daemon.command("status")).stdout


def test_status_tells_of_workers_that_are_not_there(capsys):
    status._print_workers([{"pid": 7, "answers": True}], 2)
    assert capsys.readouterr().out == (
        "   Workers: 1 of 2 (PIDs 7)\n      the others have ended and are started again; the log says why they end\n"
    )
    status._print_workers([{"pid": 7}, {"pid": 8}], None)  # of a daemon that does not say
    assert capsys.readouterr().out == "   Workers: 2 (PIDs 7, 8)\n"
    for wanted in (1, None):
        status._print_workers([{"pid": 7, "answers": True}], wanted)
        assert capsys.readouterr().out == ""


@pytest.mark.unmeasured
async def test_a_health_check_tells_the_requests_of_all_workers():
    held = Held()
    async with upstream(held) as up:
        with workers() as daemon:
            async with clients(daemon, 8) as opened:
                for client in opened:
                    await client.begin({"url": f"{up.origin}/held"})
                async with daemon.connect() as other:
                    while (await other.health()).active_requests != 8:
                        pass
                    assert sum(worker.active_requests > 0 for worker in await seen(other)) > 1
                held.go_on.set()
                for client in opened:
                    assert (await client.answer()).body == "late"
                async with clients(daemon, 8) as others:
                    while {(await other.health()).active_requests for other in others} != {0}:
                        pass


@pytest.mark.unmeasured
async def test_status_adds_the_workers_up():
    held = Held()
    async with upstream(held) as up:
        with workers() as daemon:
            async with clients(daemon, 8) as opened:
                for client in opened:
                    await client.begin({"url": f"{up.origin}/held"})
                while len(up.requests) < 8:
                    await trio.lowlevel.checkpoint()
                as_json = json_of(await daemon.command("status", "--json"))
                shown = await daemon.command("status")
                held.go_on.set()
                for client in opened:
                    assert (await client.answer()).body == "late"

        supervisor = daemon.running.process.pid
        pids = [worker["pid"] for worker in as_json["statistics"]["workers"]]
        assert as_json["pid"] == supervisor
        assert as_json["active_requests"] == 8
        assert as_json["statistics"]["pool"]["active"] == 8
        # The clients' and the one that asks; that by which it has probed before may not be noted as closed yet.
        assert sum(worker["connections"] for worker in as_json["statistics"]["workers"]) in (9, 10)
        assert len(set(pids) - {supervisor}) == WORKERS
        assert re.search(rf"^   PID: {supervisor}$", shown.stdout, re.MULTILINE)
        assert f"   Workers: {WORKERS} (PIDs {', '.join(map(str, pids))})\n" in shown.stdout


async def test_a_process_title_says_which_is_which():
    with workers(number=2) as daemon:
        async with daemon.connect() as client:
            pids = [worker.pid for worker in await seen(client)]
        titles = [Path(f"/proc/{pid}/cmdline").read_text().strip("\0 ") for pid in (daemon.running.process.pid, *pids)]
        title = f"vastar-connector-runtime --socket {daemon.running.socket_path}"
        assert titles == [title, f"{title} (worker 0)", f"{title} (worker 1)"]


async def test_the_tcp_port_is_served_by_all_workers():
    async with upstream(always(b"fine")) as up:
        with workers(VASTAR_USE_TCP="true", VASTAR_TCP_PORT="0") as daemon:
            port = daemon.running.tcp_port
            for _ in range(8):
                async with connected(port) as client:
                    assert (await client.get(up.origin)).body == "fine"


# --- how many ---


async def test_one_worker_is_the_daemon_itself():
    for options in ([], ["--workers", "1"]):
        with reloadable("", *options) as daemon:
            async with daemon.connect() as client:
                assert [worker.pid for worker in await seen(client)] == [daemon.running.process.pid]
            assert "Workers" not in (await daemon.command("status")).stdout


async def test_as_many_as_there_are_cores():
    cores = len(os.sched_getaffinity(0))
    with workers(number=1, VASTAR_WORKERS="7") as daemon:  # a flag goes over the variable
        async with daemon.connect() as client:
            assert len(await seen(client)) == 1
    with reloadable("[listen]\nworkers = 3\n", VASTAR_WORKERS="auto") as daemon:  # and that over the file
        async with daemon.connect() as client:
            assert 1 <= len(await seen(client)) <= cores


async def test_the_file_says_how_many_and_a_reload_that_only_a_restart_changes_that():
    with reloadable("[listen]\nworkers = 2\n") as daemon:
        await daemon.wait_for_log("event=started")
        assert "workers=2" in daemon.running.log
        assert "   Only after a restart: listen.workers (" in await daemon.reload("[listen]\nworkers = 3\n")
        async with daemon.connect() as client:
            assert len(await seen(client)) == 2
            assert (await ask(client, "reload"))["needs_restart"] == ["listen.workers"]


@pytest.mark.parametrize("number", ["0", "-1", "x", "", "65", "1.5", "9" * 100])
def test_what_is_no_number_of_workers(number):
    assert re.fullmatch(
        r"--workers: '.*'.* is neither a whole number from 1 to 64 nor auto", refused("--workers", number, exit_code=2)
    )
