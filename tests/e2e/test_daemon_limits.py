"""The daemon where the system gives it no more."""

import os
import re
from pathlib import Path

import pytest
import trio
from daemon_process import COMMAND, daemon
from upstream import always, upstream

from connector_sdk.wire import ErrorClass

pytestmark = pytest.mark.unmeasured

DESCRIPTORS = 40
PATIENCE_S = 20


async def test_a_daemon_out_of_descriptors_serves_who_is_there_and_then_the_others(tmp_path):
    """A soft limit is raised by the daemon itself; this is a hard one."""
    command = ["sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh", *COMMAND]
    once = tmp_path / "once.toml"
    once.write_text("[policy.retry]\nmax_retries = 0\n")
    async with upstream(always(b"fine")) as up:
        with daemon(command=command, variables={"VASTAR_CONFIG": str(once)}) as running:
            async with running.connect() as client:
                assert (await client.get(up.origin)).body == "fine"
                streams = [await trio.open_unix_socket(running.socket_path) for _ in range(2 * DESCRIPTORS)]
                with trio.fail_after(PATIENCE_S):
                    while len(os.listdir(f"/proc/{running.process.pid}/fd")) < DESCRIPTORS:
                        await trio.lowlevel.checkpoint()
                assert (await client.get(up.origin)).body == "fine"  # on the connection that was kept
                assert (await client.execute({"url": up.origin}, tenant_id="new")).error_class is ErrorClass.TRANSIENT
                for stream in streams:
                    await stream.aclose()
                async with running.connect() as late:
                    assert (await late.execute({"url": up.origin}, tenant_id="new")).body == "fine"
            assert running.stop() == 0


def test_a_soft_limit_of_descriptors_is_raised_to_the_hard_one():
    command = ["sh", "-c", 'ulimit -S -n 64; exec "$@"', "sh", *COMMAND]
    with daemon(command=command) as running:
        limits = Path(f"/proc/{running.process.pid}/limits").read_text()
        found = re.search(r"Max open files +(\d+) +(\d+)", limits)
        assert found is not None
        soft, hard = map(int, found.groups())
        assert soft == hard > 64
