"""Allowances in Redis begin with what was used before, and are put right in a Redis that forgot them."""

from __future__ import annotations

import pytest
import trio
from redis_server import available, got, limits_of, monthly, per_tenant, redis_server, tokens, told
from shared_uses import use, used_and_reserved
from structlog.testing import capture_logs

from vastar_runtime.policies.allowance import AllowanceKey, Amount, Reserved
from vastar_runtime.shared import redis_scripts

# --- what was used before ---


async def test_budgets_of_several_daemons_begin_with_what_each_has_used() -> None:
    async def used_by_a(key: AllowanceKey, since_unix_s: int) -> Amount:
        return tokens(300)

    async def used_by_b(key: AllowanceKey, since_unix_s: int) -> Amount:
        return tokens(20)

    with redis_server() as server:
        async with (
            limits_of(server, daemon="a", used_before=used_by_a) as a,
            limits_of(server, daemon="b", used_before=used_by_b) as b,
        ):
            assert await used_and_reserved(a, monthly(1)) == (300, 0)
            assert await used_and_reserved(b, monthly(1)) == (320, 0)
            await use(a, monthly(1000), 7)
            await use(b, monthly(1000), 3)
            assert await used_and_reserved(a, monthly(1)) == (330, 0)
            assert await used_and_reserved(b, per_tenant(1)) == (0, 0), "a window is not asked about"


async def test_a_daemon_that_restarts_counts_its_use_once() -> None:
    used = [tokens(0)]

    async def used_before(key: AllowanceKey, since_unix_s: int) -> Amount:
        return used[0]

    with redis_server() as server:
        async with limits_of(server, daemon="a", used_before=used_before) as before:
            await use(before, monthly(1000), 100)
            got(await before.allowances.reserve([monthly(1000)], tokens(11)))
        for ledger, counted in ((tokens(100), 111), (tokens(140), 140), (tokens(0), 140)):
            used[0] = ledger
            async with limits_of(server, daemon="a", used_before=used_before) as after:
                assert await used_and_reserved(after, monthly(1)) == (counted, 0)
        async with limits_of(server, daemon="b", used_before=used_before) as other:
            await use(other, monthly(1000), 5)
            assert await used_and_reserved(other, monthly(1)) == (145, 0)


async def test_requests_wait_for_one_answer_of_the_ledger_even_if_the_one_that_asked_is_cancelled() -> None:
    asked = []
    may_answer = trio.Event()

    async def used_before(key: AllowanceKey, since_unix_s: int) -> Amount:
        asked.append(since_unix_s)
        await may_answer.wait()
        return tokens(90)

    decided: list[bool] = []
    with redis_server() as server:
        async with limits_of(server, used_before=used_before) as limits:

            async def one(scope: trio.CancelScope) -> None:
                with scope:
                    decided.append(isinstance(await limits.allowances.reserve([monthly(100)], tokens(4)), Reserved))

            async with trio.open_nursery() as nursery:
                scopes = [trio.CancelScope() for _ in range(10)]
                for scope in scopes:
                    nursery.start_soon(one, scope)
                    await trio.lowlevel.checkpoint()
                while not asked:
                    await trio.lowlevel.checkpoint()
                scopes[0].cancel()
                await trio.lowlevel.checkpoint()
                may_answer.set()
            assert (len(asked), len(decided), sum(decided)) == (1, 9, 2)


async def test_a_ledger_that_does_not_answer_at_first_is_asked_again_and_nothing_counts_twice() -> None:
    ledger: list[int | None] = [None]

    async def used_before(key: AllowanceKey, since_unix_s: int) -> Amount:
        if ledger[0] is None:
            raise OSError("the disk is gone")
        return tokens(ledger[0])

    with redis_server() as server:
        async with limits_of(server, used_before=used_before) as limits:
            with capture_logs() as lines:
                await use(limits, monthly(150), 60)
                await use(limits, monthly(150), 3)
                assert await used_and_reserved(limits, monthly(1)) == (63, 0)
            assert [line["event"] for line in lines] == [
                "a budget begins with what is known here, until what was used before can be had"
            ]
            ledger[0] = 126 + 63
            (own,) = limits.allowances._uses
            assert own.question is not None
            own.question._next_at_s = trio.current_time()
            assert await used_and_reserved(limits, monthly(1)) == (189, 0)
            await use(limits, monthly(250), 7)
            await told(limits)
            assert await used_and_reserved(limits, monthly(1)) == (196, 0)
        async with limits_of(server, daemon="b") as other:
            assert await used_and_reserved(other, monthly(1)) == (196, 0)


async def test_a_budget_that_was_lifted_for_a_while_learns_what_was_used_meanwhile() -> None:
    used = [tokens(10)]

    async def used_before(key: AllowanceKey, since_unix_s: int) -> Amount:
        return used[0]

    with redis_server() as server:
        async with limits_of(server, used_before=used_before) as limits:
            await use(limits, monthly(100), 20)
            await limits.allowances.settle_policies(lambda key: False)
            used[0] = tokens(75)
            assert await used_and_reserved(limits, monthly(1)) == (75, 0)


# --- a Redis that forgets ---


@pytest.mark.parametrize("persistence", ["none", "appendonly"])
async def test_after_a_restart_all_that_was_used_and_reserved_is_there_again(persistence: str) -> None:
    options = () if persistence == "none" else ("--appendonly", "yes", "--appendfsync", "always")

    async def used_before(key: AllowanceKey, since_unix_s: int) -> Amount:
        return tokens(30)

    with redis_server(*options) as server:
        async with limits_of(server, used_before=used_before) as one, limits_of(server, daemon="b") as other:
            for number in range(70):
                await use(one, per_tenant(100, f"many {number}"), 9)
            await use(one, per_tenant(100), 40)
            await use(other, per_tenant(100), 7)
            await use(one, monthly(1000), 5)
            held = got(await other.allowances.reserve([per_tenant(100)], tokens(50)))
            for _ in range(2):
                server.kill()
                await available(one, False)
                await available(other, False)
                server.start()
                await available(one)
                await available(other)
                assert await used_and_reserved(one, per_tenant(1)) == (47, 50)
                assert await used_and_reserved(other, per_tenant(1, "many 69")) == (9, 0)
                assert await used_and_reserved(other, monthly(1)) == (35, 0)
            server.kill()
            await available(other, False)
            other.allowances.settle(held, tokens(13))
            server.start()
            await available(one)
            await available(other)
            await told(other)
            assert await used_and_reserved(one, per_tenant(1)) == (60, 0)


async def test_a_restart_from_an_old_copy_is_put_right() -> None:
    with redis_server() as server:
        async with limits_of(server) as limits:
            await use(limits, per_tenant(100), 10)
            held = got(await limits.allowances.reserve([per_tenant(100)], tokens(20)))
            server.command("SAVE")
            limits.allowances.settle(held, tokens(15))
            await told(limits)
            await use(limits, per_tenant(100), 30)
            server.kill()
            await available(limits, False)
            server.start()
            await available(limits)
            assert await used_and_reserved(limits, per_tenant(1)) == (55, 0)


async def test_a_redis_that_was_emptied_is_told_again_what_was_used() -> None:
    with redis_server() as server:
        async with limits_of(server, fail="open") as one, limits_of(server, fail="open", daemon="b") as other:
            await use(one, per_tenant(100), 40)
            await use(other, per_tenant(100), 7)
            server.command("FLUSHALL")
            for each in (one, other):
                got(await each.allowances.reserve([per_tenant(1)], tokens(1000)))
            await available(one)
            await available(other)
            await told(one)
            await told(other)
            assert await used_and_reserved(one, per_tenant(1)) == (47, 2000)


async def test_while_one_process_still_says_what_it_used_the_others_wait() -> None:
    with redis_server() as server:
        async with limits_of(server, recovery_s=1.0) as one:
            session = one._link.session()
            server.command("HSET", "vastar:test:epoch", "until_us", str(session.now().us + 200_000))
            assert 0 < (await session.ask(redis_scripts.RENEW, {}))[1] <= 200_000
            await session.ask(redis_scripts.SYNC, {"items": []})
            assert 400_000 < (await session.ask(redis_scripts.RENEW, {}))[1] <= 500_000
