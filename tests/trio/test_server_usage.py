"""What requests to language models use is counted, however they end, and limits hold by it, through a whole session."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
import trio
from http_upstream import Peer
from policed_session import OK, OTHER_URL, URL, Policed, Step, Upstream, answer, policed, saying, streams
from session_under_test import captured_log
from stream_client import delivered, end, head, piece, stream_request

from connector_sdk.wire import Cancel, ErrorClass
from vastar_runtime.config import Budget, Price, Scope, Settings
from vastar_runtime.config.policy import Policy, Rate, TokenLimitPolicy
from vastar_runtime.config.settings import Change
from vastar_runtime.metering.ledger import UsageLog
from vastar_runtime.metering.metering import Metering

__all__ = ["streams"]

QUESTION = {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
CHAT: dict[str, Any] = {"method": "POST", "url": URL, "body": json.dumps(QUESTION)}
STREAMED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Counted(NamedTuple):
    origin: str
    model: str
    prompt: int
    completion: int
    is_estimated: bool
    cost_nano: int


class Recorded(UsageLog):
    """What was counted, one by one."""

    is_kept = True

    def __init__(self) -> None:
        super().__init__(None)
        self.counted: list[Counted] = []

    def add(self, tenant_id: str, origin: str, model: str, **amounts: Any) -> None:
        assert tenant_id == "tenant"
        self.counted.append(
            Counted(
                origin,
                model,
                amounts.get("prompt_tokens", 0),
                amounts.get("completion_tokens", 0),
                amounts.get("is_estimated", False),
                amounts.get("cost_nano", 0),
            )
        )

    def only(self) -> Counted:
        (counted,) = self.counted
        return counted


@pytest.fixture
def usage() -> Recorded:
    return Recorded()


@pytest.fixture
def metering(usage: Recorded) -> Metering:
    metering = Metering(usage)
    price = Price(model="gpt-4o*", prompt_per_million=1.0, completion_per_million=2.0)
    metering.configure(Settings(prices=(price,)))
    return metering


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


def answered(prompt: int = 9, completion: int = 20) -> Step:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return answer(200, json.dumps({"model": "gpt-4o-2024", "choices": [], "usage": usage}))


def event(**members: Any) -> bytes:
    data = b"data: " + json.dumps(members).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def words(*texts: str) -> bytes:
    return b"".join(event(model="gpt-4o-2024", choices=[{"index": 0, "delta": {"content": text}}]) for text in texts)


def told(prompt: int, completion: int) -> bytes:
    return event(model="gpt-4o-2024", choices=[], usage={"prompt_tokens": prompt, "completion_tokens": completion})


def in_flight(world: Policed) -> int:
    return sum(standing.reserved for standing in world.pipeline.statistics().spending.standings)


def limited(tokens_a_minute: int, **more: Any) -> dict[str, Any]:
    return {"token_limit": TokenLimitPolicy(per_tenant=Rate(tokens_a_minute, 60), **more)}


# --- usage ---


async def test_a_whole_answer_is_counted_as_it_says_with_and_without_a_task(usage, metering, autojump_clock):
    async with policed(Upstream(answered()), metering=metering) as world:
        for _ in range(3):  # the first one dials
            assert (await world.send(**CHAT)).status == 200
    assert usage.counted == [Counted("http://upstream.test", "gpt-4o-2024", 9, 20, False, 49_000)] * 3


async def test_what_has_nothing_to_do_with_models_counts_as_a_request(usage, metering, autojump_clock):
    async with policed(Upstream(OK), metering=metering) as world:
        await world.send()
        await world.send()
    assert usage.counted == [Counted("http://upstream.test", "", 0, 0, False, 0)] * 2


async def test_an_answer_that_says_nothing_is_estimated_and_a_refusal_costs_nothing(usage, metering, autojump_clock):
    silent_answer = answer(200, json.dumps({"model": "gpt-4o", "choices": [{"message": {"content": "word " * 30}}]}))
    async with policed(Upstream(silent_answer, answer(400, '{"error": {}}')), metering=metering) as world:
        await world.send(**CHAT)
        await world.send(**CHAT)
    estimated, refused = usage.counted
    assert estimated.is_estimated
    assert estimated.prompt >= 2
    assert 30 <= estimated.completion <= 60
    assert refused == Counted("http://upstream.test", "gpt-4o", 0, 0, False, 0)


async def test_a_request_that_was_never_sent_is_not_counted(usage, metering, autojump_clock):
    async with policed(Upstream(refuses=9), metering=metering) as world:
        assert (await world.send(**CHAT)).error_class is ErrorClass.TRANSIENT
        await world.send(url="http://upstream.test:0/")
    assert usage.counted == []


async def test_a_redirected_request_is_counted_once_where_it_is_answered(usage, metering, autojump_clock):
    redirect = answer(307, headers=f"Location: {OTHER_URL}\r\n")
    async with policed(Upstream(redirect), Upstream(answered()), metering=metering) as world:
        assert (await world.send(**CHAT)).status == 200
    assert usage.only() == Counted("http://other.test", "gpt-4o-2024", 9, 20, False, 49_000)


async def test_a_redirect_leads_round_no_limit(usage, metering, autojump_clock):
    redirect = answer(307, headers=f"Location: {OTHER_URL}\r\n")
    changes = (Change("token_limit", "per_origin", Rate(100, 60)),)
    settings = Settings(scopes=(Scope(origin="http://other.test", changes=changes),))
    async with policed(Upstream(redirect), Upstream(answered()), metering=metering, settings=settings) as world:
        # The one is less than what is reserved for another; all four would be more than the limit.
        classes = [(await world.send(**CHAT)).error_class for _ in range(4)]
        assert classes == [ErrorClass.SUCCESS, ErrorClass.SUCCESS, ErrorClass.RATE_LIMITED, ErrorClass.RATE_LIMITED]
        assert len(world.other.requests) == 2
        assert in_flight(world) == 0
    # What was refused there is not counted, and costs nothing.
    assert usage.counted == [Counted("http://other.test", "gpt-4o-2024", 9, 20, False, 49_000)] * 2


@pytest.mark.parametrize("is_kept", [False, True], ids=["dialed", "kept"])
async def test_a_stream_is_counted_as_its_last_event_says(usage, metering, is_kept, autojump_clock):
    stream = saying(STREAMED_HEAD + words("a", "b") + told(9, 2) + b"0\r\n\r\n")
    upstream = Upstream(*([OK] if is_kept else []), stream)
    async with policed(upstream, metering=metering, greets=True) as world:
        if is_kept:
            await world.send()
            usage.counted.clear()
        await world.client.send(stream_request(1, URL, parameters=CHAT))
        assert b'"content": "b"' in (await delivered(world.client, 1)).data
    assert usage.only() == Counted("http://upstream.test", "gpt-4o-2024", 9, 2, False, 13_000)


@pytest.mark.parametrize("how", ["cancel", "client leaves", "upstream breaks"])
@pytest.mark.parametrize("is_kept", [False, True], ids=["dialed", "kept"])
async def test_a_stream_that_is_cut_off_is_estimated_by_what_came(usage, metering, how, is_kept, autojump_clock):
    async def stream(peer: Peer) -> None:
        await peer.send(STREAMED_HEAD + words(*["word "] * 8))
        if how != "upstream breaks":
            await peer.gone()
        await peer.stream.aclose()

    upstream = Upstream(*([OK] if is_kept else []), stream)
    # With a limit it has a task from the beginning.
    limits = {} if is_kept else limited(1000)
    async with policed(upstream, metering=metering, greets=True, **limits) as world:
        if is_kept:
            await world.send()
            usage.counted.clear()
        await world.client.send(stream_request(1, URL, parameters=CHAT))
        await head(world.client, 1)
        received = b""
        while received.count(b"\n\n") < 8:
            received += await piece(world.client, 1)
        if how == "cancel":
            await world.client.send(Cancel(request_id=1))
            await end(world.client, 1)
        elif how == "client leaves":
            await world.client.close()
        else:
            await end(world.client, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert in_flight(world) == 0
    counted = usage.only()
    assert counted.is_estimated
    assert counted.model == "gpt-4o-2024"
    assert 8 <= counted.completion <= 24
    assert counted.cost_nano == counted.prompt * 1000 + counted.completion * 2000


async def test_a_collected_stream_that_is_cut_off_is_estimated_too(usage, metering, autojump_clock):
    async def stream(peer: Peer) -> None:
        await peer.send(STREAMED_HEAD + words(*["word "] * 8))
        await peer.gone()

    async with policed(Upstream(stream), metering=metering) as world:
        result = await world.send(**CHAT, timeout_ms=2000)
        assert result.error_class is ErrorClass.TIMEOUT
    assert usage.only().is_estimated
    assert 8 <= usage.only().completion <= 24


# --- limits ---


async def test_what_is_reserved_counts_until_what_was_used_is_known(usage, metering, autojump_clock):
    release = trio.Event()

    async def held(peer: Peer) -> None:
        await release.wait()
        await answered(9, 20)(peer)

    async with policed(Upstream(held), metering=metering, **limited(100)) as world:
        await world.begin(**CHAT)
        await trio.testing.wait_all_tasks_blocked()
        assert 50 < in_flight(world) <= 100
        refused = await world.send(**CHAT)
        assert refused.error_class is ErrorClass.RATE_LIMITED
        assert refused.attempts == 0
        release.set()
        assert (await world.result()).status == 200
        (standing,) = world.pipeline.statistics().spending.standings
        assert (standing.used, standing.reserved) == (29, 0)
        assert (await world.send(**CHAT)).status == 200  # there is room for its estimate now
        assert len(world.upstream.requests) == 2


async def test_a_request_that_did_not_get_through_gives_back_what_it_reserved(usage, metering, autojump_clock):
    async with policed(Upstream(refuses=9), metering=metering, **limited(100)) as world:
        assert (await world.send(**CHAT)).error_class is ErrorClass.TRANSIENT
        (standing,) = world.pipeline.statistics().spending.standings
        assert (standing.used, standing.reserved) == (0, 0)


async def test_requests_without_a_model_pass_a_token_limit(usage, metering, autojump_clock):
    async with policed(Upstream(OK), metering=metering, **limited(1)) as world:
        assert (await world.send()).status == 200
        refused = await world.send(**CHAT)
        assert refused.error_class is ErrorClass.PERMANENT
        assert "can never hold the request" in refused.message


async def test_an_answer_whose_request_sets_no_limit_is_taken_for_what_is_configured(metering, autojump_clock):
    question = json.dumps({key: value for key, value in QUESTION.items() if key != "max_tokens"})
    limit = limited(100, assumed_completion_tokens=200)
    async with policed(Upstream(answered()), metering=metering, **limit) as world:
        assert (await world.send(**CHAT)).status == 200
        refused = await world.send(**CHAT | {"body": question})
        assert refused.error_class is ErrorClass.PERMANENT
        assert "it needs about 2" in refused.message


async def test_a_budget_of_money_refuses_with_its_name(usage, metering, autojump_clock):
    price = Price(model="*", prompt_per_million=1000.0, completion_per_million=1000.0)
    settings = Settings(policy=Policy(), prices=(price,), budgets=(Budget(name="small", per="day", cost=0.1),))
    metering.configure(settings)
    async with policed(Upstream(answered(9, 20)), metering=metering, settings=settings) as world:
        assert (await world.send(**CHAT)).status == 200
        refused = await world.send(**CHAT | {"body": json.dumps(QUESTION | {"max_tokens": 70})})
        assert refused.error_class is ErrorClass.RATE_LIMITED
        assert refused.message.startswith("budget 'small' of tenant 'tenant' is used up: 0.029 of 0.10 USD today")
        assert refused.retry_after_ms > 1000
