"""Other settings while requests are under way: these keep theirs, the next ones get the new ones, what was counted
stays."""

from __future__ import annotations

import msgspec
import pytest
import trio
from pipeline_requests import NO_RETRIES, ORIGIN, Head, Requests, Upstream, failing, hourly
from trio.testing import MockClock, wait_all_tasks_blocked

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import Admission, Scope, Settings
from vastar_runtime.config.policy import (
    CircuitBreakerPolicy,
    ConcurrencyPolicy,
    DeadlinePolicy,
    Policy,
    Rate,
    RateLimitPolicy,
    RetryPolicy,
)
from vastar_runtime.config.settings import Change
from vastar_runtime.errors import Failure
from vastar_runtime.policies.circuit import State

IN_NINE_SECONDS = Head(503, ((b"retry-after", b"9"),))


def settings(**stages: msgspec.Struct) -> Settings:
    return Settings(policy=Policy(**stages))


@pytest.mark.parametrize(("before", "after"), [(2, 0), (1, 9)])
async def test_a_request_that_waits_to_try_again_keeps_its_number_of_retries(
    nursery: trio.Nursery, autojump_clock: MockClock, before: int, after: int
) -> None:
    requests = Requests(nursery, retry=RetryPolicy(max_retries=before))
    upstream, later = Upstream(IN_NINE_SECONDS), Upstream(IN_NINE_SECONDS, origin="https://later.test")
    sent = await requests.start(upstream)
    await trio.sleep(5)
    await requests.configure(
        settings(retry=RetryPolicy(max_retries=after), circuit_breaker=CircuitBreakerPolicy(enabled=False))
    )
    following = await requests.start(later)
    await trio.sleep(200)
    assert (sent.status, sent.attempts) == (503, before + 1)
    assert (following.status, following.attempts) == (503, after + 1)
    requests.nothing_is_held()


async def test_a_request_under_way_keeps_its_time_limits(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    requests = Requests(nursery, deadline=DeadlinePolicy(max_duration_ms=20_000, first_byte_timeout_ms=1234))
    upstream = Upstream(IN_NINE_SECONDS, 200, takes_s=5)
    sent = await requests.start(upstream)
    await requests.configure(settings(deadline=DeadlinePolicy(max_duration_ms=1)))
    following = await requests.start(upstream)
    await trio.sleep(30)
    assert (sent.status, sent.attempts) == (200, 2)
    assert "1 ms passed (deadline.max_duration_ms)" in following.failure.message


async def test_a_request_keeps_the_settings_also_for_where_it_is_redirected_to(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, retry=RetryPolicy(max_retries=1))
    first, second = Upstream(302, takes_s=10), Upstream(503, origin="https://other.test")
    sent = await requests.start(first, second)
    await requests.configure(settings(retry=RetryPolicy(max_retries=0)))
    await trio.sleep(11)
    assert (sent.status, second.attempts) == (503, 2)
    assert (await requests.send(second)).attempts == 1


async def test_an_open_circuit_stays_open_and_an_empty_bucket_empty(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, rate_limit=hourly(5), circuit_breaker=CircuitBreakerPolicy(consecutive_failures=3))
    bad, good = Upstream(failing(Failure.UNSENT)), Upstream(200, origin="https://good.test")
    assert (await requests.send(bad)).attempts == 3
    assert await requests.tokens(good) == 2
    for _ in range(100):
        await requests.configure(
            settings(rate_limit=hourly(5), circuit_breaker=CircuitBreakerPolicy(consecutive_failures=3))
        )
    assert requests.circuit() is State.OPEN
    assert (await requests.send(good)).failure.error_class is ErrorClass.RATE_LIMITED
    await requests.configure(settings(rate_limit=RateLimitPolicy()))
    refused = await requests.send(bad)
    assert refused.failure.message.startswith(f"circuit open for {ORIGIN}, ")
    assert (await requests.send(good)).status == 200


async def test_a_higher_limit_lets_those_in_who_wait(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    requests = Requests(nursery, Settings(admission=Admission(max_concurrent=1)))
    upstream = Upstream(200, takes_s=10)
    sent = [await requests.start(upstream) for _ in range(3)]
    assert upstream.attempts == 1
    await requests.configure(Settings(admission=Admission(max_concurrent=2)))
    await wait_all_tasks_blocked()
    assert upstream.attempts == 2
    await requests.configure(Settings())
    await wait_all_tasks_blocked()
    assert upstream.attempts == 3
    await trio.sleep(10)
    await wait_all_tasks_blocked()
    assert [one.status for one in sent] == [200, 200, 200]
    requests.nothing_is_held()


async def test_a_lower_limit_turns_nobody_out(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    requests = Requests(nursery, concurrency=ConcurrencyPolicy(max_per_tenant=3))
    upstream = Upstream(200, takes_s=10)
    sent = [await requests.start(upstream) for _ in range(3)]
    await requests.configure(settings(concurrency=ConcurrencyPolicy(max_per_tenant=1)))
    late = await requests.start(upstream)
    await trio.sleep(10)
    await wait_all_tasks_blocked()
    assert [one.status for one in sent] == [200, 200, 200]
    assert upstream.attempts == 4
    await trio.sleep(10)
    await wait_all_tasks_blocked()
    assert late.status == 200
    requests.nothing_is_held()


async def test_each_attempt_after_a_redirect_has_the_settings_of_its_origin(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    other = Scope(origin="https://other.test", changes=(Change("retry", "max_retries", 1),))
    requests = Requests(nursery, Settings(policy=Policy(retry=RetryPolicy(max_retries=0)), scopes=(other,)))
    first, second = Upstream(302), Upstream(503, origin="https://other.test")
    sent = await requests.send(first, second)
    assert (sent.status, first.attempts, second.attempts) == (503, 1, 2)
    assert (await requests.send(Upstream(503))).attempts == 1


async def test_what_a_tenant_s_scope_says_holds_for_that_tenant_alone(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    limited = Scope(
        tenant="batch",
        changes=(
            Change("concurrency", "max_per_tenant", 1),
            Change("concurrency", "max_queued_per_tenant", 0),
            Change("deadline", "max_duration_ms", 100),
        ),
    )
    requests = Requests(nursery, Settings(scopes=(limited,)))
    upstream = Upstream(200, takes_s=1)
    batch = [await requests.start(upstream, tenant="batch") for _ in range(2)]
    others = [await requests.start(upstream, tenant="other") for _ in range(2)]
    await trio.sleep(2)
    assert "100 ms passed (deadline.max_duration_ms)" in batch[0].failure.message
    assert batch[1].failure.error_class is ErrorClass.RATE_LIMITED
    assert [one.status for one in others] == [200, 200]


async def test_a_tenant_s_raised_limit_lets_those_in_who_wait_at_the_reload(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, concurrency=ConcurrencyPolicy(max_per_tenant=1))
    upstream = Upstream(200, takes_s=10)
    sent = [await requests.start(upstream) for _ in range(4)]
    await requests.configure(settings(concurrency=ConcurrencyPolicy(max_per_tenant=3)))
    await wait_all_tasks_blocked()
    assert upstream.attempts == 3
    await trio.sleep(20)
    await wait_all_tasks_blocked()
    assert [one.status for one in sent] == [200] * 4
    requests.nothing_is_held()


async def test_a_limit_that_was_used_up_stays_used_up_when_it_is_tightened(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, rate_limit=RateLimitPolicy(per_tenant=Rate(5, 1)))
    upstream = Upstream(200)
    assert await requests.tokens(upstream) == 5
    await requests.configure(settings(rate_limit=hourly(5)))
    await trio.sleep(3)
    assert (await requests.send(upstream)).failure.error_class is ErrorClass.RATE_LIMITED
    await requests.configure(settings(rate_limit=RateLimitPolicy(per_tenant=Rate(1000, 1))))
    assert (await requests.send(upstream)).status == 200


async def test_a_request_that_began_before_a_reload_is_counted_by_its_own_limit_and_forgives_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, rate_limit=RateLimitPolicy(per_tenant=Rate(5, 1)))
    upstream, later = Upstream(IN_NINE_SECONDS, 200), Upstream(200)
    sent = await requests.start(upstream)
    await requests.configure(settings(rate_limit=hourly(5)))
    assert await requests.tokens(later) == 4
    await trio.sleep(10)
    assert (sent.status, sent.attempts) == (503, 1), "its retry found none of the five"
    assert (await requests.send(later)).failure.error_class is ErrorClass.RATE_LIMITED


async def test_circuits_are_closed_by_turning_breakers_off_and_on_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    requests = Requests(nursery, retry=NO_RETRIES)
    down = Upstream(503)
    for _ in range(5):
        await requests.send(down)
    assert (await requests.send(down)).failure.message.startswith("circuit open")

    await requests.configure(Settings(policy=Policy(circuit_breaker=CircuitBreakerPolicy(enabled=False))))
    await requests.configure(Settings(policy=Policy(retry=NO_RETRIES)))

    assert (await requests.send(down)).status == 503
