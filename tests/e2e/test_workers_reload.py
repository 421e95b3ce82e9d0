"""A reload reaches every worker before anybody is told that it is done."""

from __future__ import annotations

import signal

import pytest
from reloadable_daemon import Held, ask
from upstream import upstream
from wire_client import WireClient
from worker_daemon import clients, kill, seen, workers

from connector_sdk.wire import ErrorClass

pytestmark = pytest.mark.unmeasured

# No circuit, which would open at so many timeouts, whichever workers they are on.
SOON = "[policy.circuit_breaker]\nenabled = false\n[policy.deadline]\nmax_duration_ms = 1\n"


async def all_have(opened: list[WireClient], url: str, limit_ms: int | None) -> None:
    """What each of them gets says the limit on its worker."""
    for client in opened:
        answer = await client.get(url)
        if limit_ms is None:
            assert answer.body == "at once"
        else:
            assert answer.error_class is ErrorClass.TIMEOUT
            assert f"{limit_ms} ms passed (deadline.max_duration_ms)" in answer.message


async def test_a_reload_reaches_all_workers_however_it_is_asked_for():
    held = Held()
    async with upstream(held) as up:
        with workers() as daemon:
            async with clients(daemon, 12) as opened:
                await all_have(opened, up.origin, None)
                assert "2 settings, 0 scopes" in await daemon.reload(SOON)
                await all_have(opened, f"{up.origin}/held", 1)

                daemon.write(SOON.replace("1", "2"))
                assert (await ask(opened[0], "reload"))["mistakes"] == []
                await all_have(opened, f"{up.origin}/held", 2)

                daemon.write("")
                daemon.running.signal(signal.SIGHUP)
                while daemon.running.log.count('event="configuration reloaded"') < 3:
                    await opened[0].health()
                await all_have(opened, up.origin, None)


async def test_a_file_with_a_mistake_changes_no_worker():
    held = Held()
    async with upstream(held) as up:
        with workers(SOON, number=2) as daemon:
            async with clients(daemon, 6) as opened:
                daemon.write("[policy.deadline]\nmax_duration = 5\n")
                refused = await daemon.command("reload")
                assert refused.returncode == 1
                assert "unknown key; did you mean max_duration_ms? (nothing has changed)" in refused.stderr
                await all_have(opened, f"{up.origin}/held", 1)


async def test_a_worker_that_was_started_later_has_the_settings_of_the_others():
    held = Held()
    async with upstream(held) as up:
        with workers(number=2) as daemon:
            await daemon.reload(SOON)
            async with daemon.connect() as client:
                for worker in await seen(client):
                    kill(worker.pid)
                    await daemon.wait_for_log(f"replaces={worker.pid}")
            async with clients(daemon, 6) as opened:
                await all_have(opened, f"{up.origin}/held", 1)
