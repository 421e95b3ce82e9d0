"""Two users of one daemon, each with tenants of its own; TCP; and a reload that changes who may."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import trio
from daemon_process import refused
from other_user import ask_as
from reloadable_daemon import Reloadable, reloadable
from upstream import always, upstream
from wire_client import connected

from connector_sdk.wire import ErrorClass

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")

TWO_USERS = """
[listen]
socket_mode = "0666"
[[access]]
users = [64001]
tenants = ["a", "shared"]
[[access]]
users = [64002]
tenants = ["b", "shared"]
[[access]]
groups = [64100]
tenants = ["c"]
"""
ANOTHER = """
[listen]
socket_mode = "0666"
[[access]]
users = [64001]
tenants = ["b"]
"""


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def daemon(request: pytest.FixtureRequest) -> Iterator[Reloadable]:
    with reloadable(TWO_USERS, "--workers", str(request.param)) as running:
        os.chmod(os.path.dirname(running.running.socket_path), 0o755)
        yield running


@needs_root
async def test_each_user_speaks_for_its_own_tenants_and_the_log_says_which_process(daemon: Reloadable) -> None:
    async with upstream(always(b"fine")) as up:

        async def ask(uid: int, tenant: str, groups: tuple[int, ...] = ()) -> tuple[str | None, int]:
            asked = await trio.to_thread.run_sync(
                lambda: ask_as(uid, daemon.running.socket_path, up.origin, tenant_id=tenant, groups=groups)
            )
            assert asked.answer.error_class in (ErrorClass.SUCCESS, ErrorClass.PERMANENT)
            return asked.answer.error_message, asked.pid

        for uid, tenant, groups, allowed in [
            (64001, "a", (), True),
            (64001, "shared", (), True),
            (64001, "b", (), False),
            (64002, "b", (), True),
            (64002, "a", (), False),
            (64002, "c", (5, 64100), True),
            (64001, "c", (5,), False),
            (0, "a", (), False),
        ]:
            message, pid = await ask(uid, tenant, groups)
            if allowed:
                assert message is None
            else:
                assert message is not None
                assert message.startswith(f"uid {uid} may not use tenant '{tenant}'")
            await daemon.wait_for_log(f"tenant={tenant} uid={uid} pid={pid}")
        assert len(up.requests) == 4


@needs_root
async def test_a_reload_changes_who_may(daemon: Reloadable) -> None:
    async with upstream(always(b"fine")) as up:

        async def is_allowed(uid: int, tenant: str) -> bool:
            asked = await trio.to_thread.run_sync(
                lambda: ask_as(uid, daemon.running.socket_path, up.origin, tenant_id=tenant)
            )
            return asked.answer.error_class is ErrorClass.SUCCESS

        assert await is_allowed(64001, "a")
        assert not await is_allowed(64001, "b")
        await daemon.reload(ANOTHER)
        assert not await is_allowed(64001, "a")
        assert await is_allowed(64001, "b")


async def test_over_tcp_only_the_tenants_marked_for_it() -> None:
    text = "[[access]]\ntcp = true\ntenants = ['web']\n"
    async with upstream(always(b"fine")) as up:
        with reloadable(text, VASTAR_USE_TCP="true", VASTAR_TCP_PORT="0") as running:
            async with connected(running.running.tcp_port) as client:
                assert (await client.execute({"url": up.origin}, tenant_id="web")).body == "fine"
                answer = await client.execute({"url": up.origin}, tenant_id="batch")
                assert answer.error_class is ErrorClass.PERMANENT
                assert answer.message.startswith("a client on TCP may not use tenant 'batch'")
            async with running.connect() as client:
                answer = await client.execute({"url": up.origin}, tenant_id="web")
                assert answer.message.startswith(f"uid {os.geteuid()} may not use tenant 'web'")


def test_tcp_stays_on_this_machine_unless_it_is_said_twice(tmp_path) -> None:
    path = tmp_path / "runtime.toml"
    path.write_text("[listen]\ntcp_port = 0\ntcp_host = '0.0.0.0'\n")
    told = refused(variables={"VASTAR_CONFIG": str(path)})
    assert told == (
        f"{path}:3: listen.tcp_host: whoever reaches 0.0.0.0 could use the daemon, and what is said goes in clear; "
        "listen on 127.0.0.1, or say --insecure-bind if that is meant"
    )


async def test_another_loopback_address_needs_no_second_word_and_any_other_one_does() -> None:
    with reloadable("[listen]\ntcp_port = 0\ntcp_host = '127.0.0.2'\n") as running:
        await running.wait_for_log("tcp_host=127.0.0.2")
    with reloadable("[listen]\ntcp_port = 0\ntcp_host = '0.0.0.0'\n", "--insecure-bind") as running:
        async with connected(running.running.tcp_port) as client:
            await client.health()
