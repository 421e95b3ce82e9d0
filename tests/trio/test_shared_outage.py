"""Redis is away, hangs, or does not let us in: what is configured for that holds at once, and is logged once."""

from __future__ import annotations

import errno
import os
import time

import pytest
import trio
from redis_server import (
    available,
    denied,
    got,
    limits_of,
    per_tenant,
    redis_server,
    tokens,
    told,
)
from structlog.testing import capture_logs

from vastar_runtime.config.policy import Rate
from vastar_runtime.policies.token_bucket import Bucket, LimitKey, Refused, Taken
from vastar_runtime.shared import redis_session
from vastar_runtime.shared.redis_address import RedisAddress
from vastar_runtime.shared.redis_limits import RedisLimits
from vastar_runtime.shared.redis_link import REDIS_TIMEOUT_S
from vastar_runtime.shared.unavailable import Fail, LimitsUnavailable

BUCKET = Bucket(LimitKey("per_tenant", "t", None), Rate(2, 3600), 2)
GONE = f"{os.strerror(errno.ENOENT)}|{os.strerror(errno.ECONNREFUSED)}"


async def taken(limits: RedisLimits) -> list[bool]:
    """Of five requests, which the rate limit lets through."""
    return [isinstance(await limits.rate_limits.take([BUCKET]), Taken) for _ in range(5)]


async def test_open_lets_all_through_and_counts_what_they_used_afterwards() -> None:
    with redis_server() as server:
        async with limits_of(server, "open") as limits:
            server.kill()
            await available(limits, False)
            assert await taken(limits) == [True] * 5
            taken_then = await limits.rate_limits.take([BUCKET])
            assert isinstance(taken_then, Taken)
            await limits.rate_limits.give_back(taken_then.buckets)
            assert limits.rate_limits.next_in_ms(BUCKET) == 0
            done = [got(await limits.allowances.reserve([per_tenant(100)], tokens(60))) for _ in range(3)]
            limits.allowances.settle(done[0], tokens(50))
            server.start()
            await available(limits)
            await told(limits)
            refused = denied(await limits.allowances.reserve([per_tenant(100)], tokens(1)))
            assert (refused.used, refused.reserved) == (50, 120)
            limits.allowances.settle(done[1], tokens(50))
            limits.allowances.settle(done[2], tokens(0))
            await told(limits)
            assert denied(await limits.allowances.reserve([per_tenant(100)], tokens(1))).used == 100


async def test_closed_refuses_and_says_why() -> None:
    with redis_server() as server:
        async with limits_of(server, "closed") as limits:
            held = got(await limits.allowances.reserve([per_tenant(100)], tokens(60)))
            server.kill()
            await available(limits, False)
            for ask in (
                lambda: limits.rate_limits.take([BUCKET]),
                lambda: limits.allowances.reserve([per_tenant(100)], tokens(1)),
            ):
                with pytest.raises(LimitsUnavailable, match=f"Redis at {server.socket} does not answer") as caught:
                    await ask()
                assert caught.value.retry_after_ms == 1000
            await limits.rate_limits.give_back([BUCKET])
            assert limits.rate_limits.next_in_ms(BUCKET) == 0
            limits.allowances.settle(held, tokens(30))
            server.start()
            await available(limits)
            await told(limits)
            refused = denied(await limits.allowances.reserve([per_tenant(100)], tokens(71)))
            assert (refused.used, refused.reserved) == (30, 0)


async def test_local_lets_each_process_count_alone() -> None:
    with redis_server() as server:
        async with limits_of(server, "local") as one, limits_of(server, "local", daemon="b") as other:
            assert await taken(one) == [True, True, False, False, False]
            server.kill()
            await available(one, False)
            await available(other, False)
            assert await taken(one) == await taken(other) == [True, True, False, False, False]
            assert 0 < one.rate_limits.next_in_ms(BUCKET) <= 1_800_000
            reserved = [got(await each.allowances.reserve([per_tenant(100)], tokens(100))) for each in (one, other)]
            denied(await one.allowances.reserve([per_tenant(100)], tokens(1)))
            one.allowances.settle(reserved[0], tokens(40))
            got(await one.allowances.reserve([per_tenant(100)], tokens(60)))
            assert denied(await one.allowances.reserve([per_tenant(100)], tokens(1))).used == 40
            server.start()
            await available(one)
            await available(other)
            await told(one)
            await told(other)
            assert await taken(one) == [False] * 5, "it was taken before Redis went away"
            refused = denied(await one.allowances.reserve([per_tenant(100)], tokens(1)))
            assert (refused.used, refused.reserved) == (40, 160)
            await one.rate_limits.settle(lambda key: BUCKET._replace(burst=1))
            await one.allowances.settle_policies(lambda key: False)


@pytest.mark.parametrize("fail", ["open", "closed", "local"])
async def test_a_redis_that_hangs_holds_no_request_for_long_and_is_used_again_when_it_goes_on(fail: Fail) -> None:
    with redis_server() as server, capture_logs() as lines:
        async with limits_of(server, fail, timeout_s=REDIS_TIMEOUT_S) as limits:
            await available(limits)
            lines.clear()
            server.pause()
            try:
                outcomes: list[object] = []
                slowest_s = 0.0
                for _ in range(30):
                    began_s = time.perf_counter()
                    try:
                        outcomes.append(await limits.allowances.reserve([per_tenant(100)], tokens(10)))
                        outcomes.append(await limits.rate_limits.take([BUCKET]))
                    except LimitsUnavailable as error:
                        outcomes.append(error)
                    slowest_s = max(slowest_s, time.perf_counter() - began_s)
                assert not limits.is_available
                assert slowest_s < 1.0
            finally:
                server.resume()
            if fail == "closed":
                assert all(isinstance(outcome, LimitsUnavailable) for outcome in outcomes)
            elif fail == "open":
                assert not any(isinstance(outcome, Refused) for outcome in outcomes)
                assert len([outcome for outcome in outcomes if not isinstance(outcome, Taken)]) == 30
            await available(limits)
            while len(lines) < 2:
                await trio.sleep(0.01)
    assert lines == [
        {
            "event": "shared limits unavailable",
            "log_level": "warning",
            "redis": str(server.socket),
            "reason": "no answer in time",
            "fail": fail,
        },
        {"event": "shared limits available again", "log_level": "info", "redis": str(server.socket)},
    ]


async def test_what_a_hanging_redis_was_asked_for_is_not_reserved_when_it_goes_on() -> None:
    with redis_server() as server:
        async with limits_of(server, "closed", timeout_s=0.2) as limits:
            server.pause()
            for _ in range(5):
                with pytest.raises(LimitsUnavailable):
                    await limits.allowances.reserve([per_tenant(100)], tokens(60))
            server.resume()
            await available(limits)
            await told(limits)
            limits._link.timeout_s = 10
            got(await limits.allowances.reserve([per_tenant(100)], tokens(100)))


async def test_a_redis_that_comes_late_is_used_as_soon_as_it_is_there() -> None:
    with redis_server() as server, capture_logs() as lines:
        server.kill()
        async with limits_of(server, "closed", waits=False) as limits:
            with pytest.raises(LimitsUnavailable, match="no connection yet"):
                await limits.rate_limits.take([BUCKET])
            while not lines:
                await trio.sleep(0.01)
            server.start()
            await available(limits)
            assert await taken(limits) == [True, True, False, False, False]
    assert [line["event"] for line in lines] == ["shared limits unavailable", "shared limits available again"]
    assert lines[0]["reason"] in GONE


async def test_a_wrong_password_is_a_clear_reason_without_the_password() -> None:
    with redis_server("--requirepass", "right-secret") as server, capture_logs() as lines:
        server.address = RedisAddress.parse(f"unix://:wrong-secret@{server.socket}")
        async with limits_of(server, "closed", waits=False) as limits:
            while not lines:
                await trio.sleep(0.01)
            with pytest.raises(LimitsUnavailable) as caught:
                await limits.rate_limits.take([BUCKET])
        server.address = RedisAddress.parse(f"unix://{server.socket}", "right-secret")
        async with limits_of(server, "closed") as limits:
            assert await taken(limits) == [True, True, False, False, False]
        server.address = RedisAddress.parse(f"unix://{server.socket}")
        async with limits_of(server, "closed", waits=False) as limits:
            while lines[-1]["event"] != "shared limits unavailable":
                await trio.sleep(0.01)
    assert "authenticat" in lines[-1]["reason"].lower()
    assert "invalid username-password pair" in lines[0]["reason"]
    assert "invalid username-password pair" in caught.value.message
    assert "secret" not in f"{lines} {caught.value.message}"
    assert "\n" not in lines[0]["reason"]


async def test_an_upstream_that_is_no_redis_is_a_reason_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_session, "CONNECT_TIMEOUT_S", 0.2)

    async def http(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await trio.sleep_forever()

    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    for handler in (http, silent):
        with capture_logs() as lines:
            async with trio.open_nursery() as nursery:
                [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
                port = listener.socket.getsockname()[1]
                nursery.start_soon(trio.serve_listeners, handler, [listener])
                limits = RedisLimits(
                    RedisAddress.parse(f"redis://127.0.0.1:{port}"), prefix="test", daemon="a", fail="closed"
                )
                await nursery.start(limits.run)
                with pytest.raises(LimitsUnavailable, match=f"Redis at 127.0.0.1:{port} does not answer"):
                    await limits.rate_limits.take([BUCKET])
                nursery.cancel_scope.cancel()
        (line,) = lines
        assert line["event"] == "shared limits unavailable"
        assert line["reason"].isprintable()


async def test_a_read_only_or_full_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server() as server, capture_logs() as lines:
        async with limits_of(server, "closed") as limits:
            server.command("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(LimitsUnavailable, match="OOM"):
                await limits.allowances.reserve([per_tenant(100)], tokens(60))
            await available(limits, False)
            server.command("CONFIG", "SET", "maxmemory", "0")
            await available(limits)
            got(await limits.allowances.reserve([per_tenant(100)], tokens(60)))
    assert "OOM" in lines[-2]["reason"]
