"""Whatever happens to the connection: in the end Redis counts exactly what was used, and nothing is left reserved."""

from __future__ import annotations

import random
import sys
from contextlib import suppress

import msgspec
import pytest
import trio
from redis_server import READY_S, RedisServer, available, denied, got, limits_of, per_tenant, redis_server, tokens, told

from vastar_runtime.config import SharedLimits
from vastar_runtime.errors import StartupError
from vastar_runtime.shared import redis_allowances, redis_link, redis_scripts
from vastar_runtime.shared.opening import redis_limits
from vastar_runtime.shared.redis_limits import RedisLimits
from vastar_runtime.shared.unavailable import Unavailable

VAST = 10**12
KEYS = 5


async def requests(limits: RedisLimits, dice: random.Random, used: list[int]) -> None:
    """One after the other; some are cancelled while they ask, some use more or less than they reserved."""
    for _ in range(80):
        key = dice.randrange(KEYS)
        estimate = dice.randrange(1, 50)
        decided = None
        with trio.move_on_after(dice.choice([0.0005, 0.002, READY_S])):
            decided = got(await limits.allowances.reserve([per_tenant(VAST, str(key), 3600)], tokens(estimate)))
        if decided is None:
            continue
        await trio.sleep(dice.choice([0, 0.001, 0.02]))
        amount = dice.choice([0, estimate, dice.randrange(100)])
        used[key] += amount
        limits.allowances.settle(decided, tokens(amount))


async def faults(server: RedisServer, dice: random.Random, running: trio.Event) -> None:
    while not running.is_set():
        await trio.sleep(dice.uniform(0.01, 0.15))
        match dice.choice(["kill", "kill", "flush", "scripts", "pause", "restart"]):
            case "kill":
                server.command("CLIENT", "KILL", "TYPE", "normal")
            case "flush":
                server.command("FLUSHALL")
            case "scripts":
                server.command("SCRIPT", "FLUSH")
            case "pause":
                server.pause()
                await trio.sleep(0.15)
                server.resume()
            case "restart":
                server.kill()
                server.start()
                server.wait()


@pytest.mark.parametrize("seed", range(3))
async def test_after_faults_of_every_kind_two_processes_have_counted_exactly_what_was_used(seed: int) -> None:
    used = [0] * KEYS
    with redis_server() as server:
        async with (
            limits_of(server, "open", daemon="a", timeout_s=0.1) as one,
            limits_of(server, "open", daemon="b", timeout_s=0.1) as other,
        ):
            ended = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(faults, server, random.Random(seed), ended)
                async with trio.open_nursery() as callers:
                    for number in range(20):
                        limits = one if number % 2 else other
                        callers.start_soon(requests, limits, random.Random(f"{seed} {number}"), used)
                ended.set()
            for limits in (one, other):
                limits._link.timeout_s = READY_S
                await available(limits)
                with suppress(Unavailable):  # it notices what has happened since
                    await limits._link.ask(redis_scripts.RENEW, {})
            for limits in (one, other):
                await available(limits)
                await told(limits)
            for key in range(KEYS):
                asked = per_tenant(0, str(key), 3600)
                refused = denied(await one.allowances.reserve([asked], tokens(1)))
                assert (refused.used, refused.reserved) == (used[key], 0)


async def test_a_lease_is_renewed_for_as_long_as_the_process_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "RENEW_S", 0.02)
    monkeypatch.setattr(redis_link, "LEASE_S", 1.0)
    with redis_server() as server:
        async with limits_of(server) as one:
            async with limits_of(server, daemon="b") as other:
                got(await other.allowances.reserve([per_tenant(100)], tokens(60)))
                await trio.sleep(1.5)
                refused = denied(await one.allowances.reserve([per_tenant(0)], tokens(1)))
                assert (refused.used, refused.reserved) == (0, 60)
            with trio.fail_after(READY_S):
                while denied(await one.allowances.reserve([per_tenant(0)], tokens(1))).used != 60:
                    await trio.sleep(0.05)


async def test_what_is_reserved_for_long_is_told_again_before_redis_forgets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_allowances, "RETELL_S", 0.05)
    with redis_server() as server:
        async with limits_of(server) as limits:
            held = got(await limits.allowances.reserve([per_tenant(100)], tokens(60)))
            [key] = server.command("KEYS", "vastar:test:use:*").splitlines()
            server.command("EXPIRE", key, "100")
            with trio.fail_after(READY_S):
                while int(server.command("TTL", key)) <= 100:
                    await trio.sleep(0.02)
            limits.allowances.settle(held, tokens(60))


async def test_a_process_that_begins_again_and_again_does_not_keep_the_others_for_ever() -> None:
    with redis_server() as server:
        async with limits_of(server, recovery_s=0.5) as limits:
            session = limits._link.session()
            began_us = session.now().us - 4_800_000
            ends_us = session.now().us + 100_000
            server.command("HSET", "vastar:test:epoch", "began_us", str(began_us), "until_us", str(ends_us))
            for script, body in ((redis_scripts.SYNC, {"items": []}), (redis_scripts.OWE, {"buckets": []})):
                await session.ask(script, body)
                assert int(server.command("HGET", "vastar:test:epoch", "until_us")) <= began_us + 5_000_000


async def test_settings_become_limits_and_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server("--port", "0", "--requirepass", "secret") as server:
        settings = SharedLimits(backend=f"unix://{server.socket}", prefix="p", fail="closed")
        limits = redis_limits(settings, "secret", daemon="a", used_before=None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(limits.run)
            await available(limits)
            nursery.cancel_scope.cancel()
    with pytest.raises(StartupError, match="address of Redis is not understood"):
        redis_limits(msgspec.structs.replace(settings, backend="http://h"), None, daemon="a", used_before=None)
    monkeypatch.delitem(sys.modules, "vastar_runtime.shared.redis_limits")
    monkeypatch.setitem(sys.modules, "vastar_runtime.shared.redis_link", None)
    with pytest.raises(StartupError, match=r"not installed .*: pip install 'vastar-runtime\[redis\]'"):
        redis_limits(settings, None, daemon="a", used_before=None)
