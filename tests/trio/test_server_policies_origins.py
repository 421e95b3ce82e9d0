"""Policies by origin through a whole session: redirects, circuits, limits; and connections that really fail."""

import pytest
import trio
import trio.testing
from http_upstream import client_tls, hello, server_tls, start_upstream
from policed_session import OK, OTHER, OTHER_URL, URL, Upstream, answer, policed, reset, silent, streams, unavailable
from session_under_test import captured_log
from stream_client import delivered, stream_request

from connector_sdk.wire import Cancel, ErrorClass
from vastar_runtime.config import Scope, Settings
from vastar_runtime.config.policy import CircuitBreakerPolicy, Policy, Rate, RateLimitPolicy, RetryPolicy
from vastar_runtime.config.settings import Change
from vastar_runtime.http.dial import Dialer as RealDialer
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.policies.circuit import State

__all__ = ["streams"]

NO_RETRIES = RetryPolicy(max_retries=0)
FIRST = CircuitBreakerPolicy(consecutive_failures=1)


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


def there(status: int = 302):
    return answer(status, "over there", f"Location: {OTHER_URL}\r\n")


def for_the_other(*changes: Change) -> Settings:
    policy = Policy(retry=NO_RETRIES, circuit_breaker=FIRST)
    return Settings(policy=policy, scopes=(Scope(origin=f"http://{OTHER}", changes=changes),))


# --- redirects ---


async def test_what_fails_after_a_redirect_counts_for_where_it_led(autojump_clock):
    async with policed(Upstream(there()), Upstream(unavailable()), retry=NO_RETRIES, circuit_breaker=FIRST) as world:
        assert (await world.send()).status == 503
        assert (world.circuit(), world.circuit(OTHER)) == (State.CLOSED, State.OPEN)
        refused = await world.send()
        assert (refused.error_class, refused.attempts) == (ErrorClass.TRANSIENT, 1)
        assert refused.message == (
            f"circuit open for http://{OTHER}, next probe in {refused.retry_after_ms} ms; last failure: status 503"
        )
        assert 29_990 <= refused.retry_after_ms <= 30_000
        assert (len(world.upstream.requests), len(world.other.requests)) == (2, 1)


async def test_only_the_hop_that_failed_is_made_again(autojump_clock):
    async with policed(Upstream(there()), Upstream(unavailable(), reset, OK)) as world:
        result = await world.send()
        assert (result.status, result.attempts) == (200, 4)
        assert (len(world.upstream.requests), len(world.other.requests)) == (1, 3)


async def test_a_post_that_became_a_get_may_be_made_again_and_one_that_stayed_a_post_may_not(autojump_clock):
    async with policed(Upstream(there(302), there(307)), Upstream(reset, OK, reset)) as world:
        became = await world.send("POST", body="x")
        assert (became.status, became.attempts) == (200, 3)
        stayed = await world.send("POST", body="x")
        assert (stayed.error_class, stayed.attempts) == (ErrorClass.TRANSIENT, 2)
        assert world.other.methods == ["GET", "GET", "POST"]


async def test_every_hop_takes_a_token_of_its_tenant_and_of_its_own_origin(autojump_clock):
    hourly = Rate(10, 3600)
    limits = RateLimitPolicy(per_tenant=hourly, per_origin=Rate(3, 3600))
    async with policed(Upstream(there(), there(), OK), rate_limit=limits) as world:
        assert (await world.send()).attempts == 2
        assert (await world.send()).attempts == 2
        assert (await world.send()).attempts == 1
        refused = await world.send()
        assert "rate limit of 3/h (burst 3) of http://upstream.test is used up" in refused.message
        assert (await world.send(url=OTHER_URL)).status == 200
        assert "of http://other.test is used up" in (await world.send(url=OTHER_URL)).message
        statistics = world.pipeline.statistics().rate_limit
        assert (statistics.admitted, statistics.refused) == (6, 2)


async def test_a_limit_that_refuses_the_second_hop_says_so(autojump_clock):
    settings = for_the_other(Change("rate_limit", "per_tenant_and_origin", Rate(1, 60)))
    async with policed(Upstream(there()), settings=settings) as world:
        assert (await world.send()).status == 200
        refused = await world.send()
        assert (refused.error_class, refused.attempts) == (ErrorClass.RATE_LIMITED, 1)
        assert f"of tenant 'tenant' with http://{OTHER} is used up" in refused.message
        assert 59_000 <= refused.retry_after_ms <= 60_000
        assert len(world.other.requests) == 1


async def test_each_hop_has_the_settings_of_its_origin(autojump_clock):
    settings = for_the_other(
        Change("retry", "max_retries", 1),
        Change("deadline", "first_byte_timeout_ms", 1000),
        Change("deadline", "connect_timeout_ms", 77),
        Change("circuit_breaker", "consecutive_failures", 9),
    )
    async with policed(Upstream(there()), Upstream(silent, OK), settings=settings) as world:
        began_at_s = trio.current_time()
        result = await world.send()
        assert (result.status, result.attempts) == (200, 3)
        assert result.ended_at_s - began_at_s == pytest.approx(1)
        assert world.dialer.timeouts_s == [10.0, 0.077, 0.077]


async def test_a_redirect_round_in_a_circle_leaves_nothing_behind(autojump_clock):
    back = answer(302, "", f"Location: {URL}\r\n")
    async with policed(Upstream(there()), Upstream(back)) as world:
        result = await world.send()
        assert (result.error_class, result.attempts) == (ErrorClass.PERMANENT, 11)
        assert result.message.startswith("HTTP request failed: stopped after 10 redirects")


# --- circuits ---


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_five_failures_open_the_circuit_and_then_nothing_is_sent(autojump_clock, status):
    upstream = Upstream(*[unavailable(status=status)] * 5, OK)
    async with policed(upstream, retry=NO_RETRIES) as world:
        for _ in range(5):
            assert (await world.send()).status == status
        refused = await world.send()
        assert (refused.error_class, refused.attempts) == (ErrorClass.TRANSIENT, 0)
        assert refused.message == (
            f"circuit open for http://upstream.test, next probe in {refused.retry_after_ms} ms; "
            f"last failure: status {status}"
        )
        assert 29_990 <= refused.retry_after_ms <= 30_000
        assert (len(upstream.requests), upstream.connections) == (5, 1)
        assert (await world.send(tenant_id="another")).status == 200
        await trio.sleep(refused.retry_after_ms / 1000)
        assert (await world.send()).status == 200
        assert world.circuit() is State.CLOSED


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 429, 500, 501])
async def test_these_answers_open_none(autojump_clock, status):
    async with policed(Upstream(answer(status)), retry=NO_RETRIES, circuit_breaker=FIRST) as world:
        assert [(await world.send()).status for _ in range(20)] == [status] * 20


async def test_a_reset_after_the_request_was_written_opens_none(autojump_clock):
    async with policed(Upstream(reset), retry=NO_RETRIES, circuit_breaker=FIRST) as world:
        for _ in range(10):
            assert (await world.send()).attempts == 1


async def test_of_many_requests_at_once_one_is_the_probe(autojump_clock):
    async def slow(peer):
        await trio.sleep(5)
        await peer.answer(b"well again")

    async with policed(Upstream(unavailable(), slow), retry=NO_RETRIES, circuit_breaker=FIRST, greets=True) as world:
        await world.client.send(stream_request(1, URL))
        assert (await delivered(world.client, 1)).head.status_code == 503
        await trio.sleep(30)
        for request_id in range(2, 12):
            await world.client.send(stream_request(request_id, URL))
            await trio.testing.wait_all_tasks_blocked()
        for request_id in range(3, 12):
            refused = await delivered(world.client, request_id)
            assert refused.error_class is ErrorClass.TRANSIENT
            assert "next probe in 1000 ms unless the one under way succeeds" in refused.message
            assert (refused.end.retry_after_ms, refused.end.attempts) == (1000, 0)
        assert (await delivered(world.client, 2)).data == b"well again"
        assert (len(world.upstream.requests), world.circuit()) == (2, State.CLOSED)


async def test_a_probe_that_its_client_cancels_leaves_the_next_one_to_probe(autojump_clock):
    upstream = Upstream(unavailable(), silent, OK)
    async with policed(upstream, retry=NO_RETRIES, circuit_breaker=FIRST, greets=True) as world:
        await world.client.send(stream_request(1, URL))
        await delivered(world.client, 1)
        await trio.sleep(30)
        await world.client.send(stream_request(2, URL))
        await trio.testing.wait_all_tasks_blocked()
        assert world.circuit() is State.HALF_OPEN
        await world.client.send(Cancel(request_id=2))
        assert (await delivered(world.client, 2)).error_class is ErrorClass.CANCELLED
        assert world.circuit() is State.OPEN
        await world.client.send(stream_request(3, URL))
        assert (await delivered(world.client, 3)).data == b"fine"


# --- connections that really fail: real sockets, and the real clock ---


async def test_handshakes_that_fail_are_tried_again_and_open_the_circuit(nursery):
    async def no_tls(peer):
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    plain = await start_upstream(nursery, no_tls)
    dialer = RealDialer(Proxies({}), client_tls)
    async with policed(dialer=dialer) as world:
        url = f"https://127.0.0.1:{plain.port}/"
        failed = await world.send("POST", url)
        assert (failed.error_class, failed.attempts) == (ErrorClass.TRANSIENT, 3)
        assert failed.message.startswith(f"HTTP request failed: the TLS handshake with 127.0.0.1:{plain.port} failed")
        assert (await world.send("POST", url)).attempts == 2
        refused = await world.send("POST", url)
        assert refused.message.startswith(f"circuit open for https://127.0.0.1:{plain.port}, ")
        assert (refused.attempts, plain.connections) == (0, 5)


async def test_a_rejected_certificate_is_not_tried_again_and_opens_the_circuit_too(nursery):
    wrong = await start_upstream(nursery, hello, tls=server_tls("another.name"))
    async with policed(dialer=RealDialer(Proxies({}), client_tls)) as world:
        for _ in range(5):
            failed = await world.send(url=wrong.url())
            assert (failed.error_class, failed.attempts) == (ErrorClass.PERMANENT, 1)
        assert (await world.send(url=wrong.url())).attempts == 0
        assert wrong.connections == 5


async def test_refused_connections_open_the_circuit():
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        async with policed(dialer=RealDialer(Proxies({}))) as world:
            assert [(await world.send("POST", url)).attempts for _ in range(3)] == [3, 2, 0]
