"""Limits and circuits hold over all workers as they do in one process: each client here is on one of four."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from reloadable_daemon import Held, ask
from upstream import Peer, upstream
from wire_client import Answer, WireClient
from worker_daemon import clients, ended, kill, seen, workers

from connector_sdk.wire import ErrorClass, Message

PATIENCE_S = 20


async def admission(client: WireClient) -> dict[str, Any]:
    """What the daemon says of those that run and wait."""
    return (await ask(client, "statistics"))["policies"]["admission"]


async def until_there_are(client: WireClient, *, running: int, waiting: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while True:
            now = await admission(client)
            if (now["running"], now["waiting"]) == (running, waiting):
                return


@pytest.mark.unmeasured
async def test_a_rate_limit_is_one_limit():
    async with upstream(Held()) as up:
        with workers('[policy.rate_limit]\nper_tenant = "10/h"\n') as daemon:
            async with clients(daemon, 20) as opened:
                answers = [await client.get(up.origin) for _ in range(2) for client in opened]
        refused = [answer for answer in answers if answer.error_class is ErrorClass.RATE_LIMITED]
        assert [answer.body for answer in answers if answer not in refused] == ["at once"] * 10
        assert len(up.requests) == 10
        for answer in refused:
            assert answer.message.startswith("rate limit of 10/h (burst 10) of tenant 'tenant' is used up; next in ")
            assert answer.message.endswith(" ms (rate_limit.per_tenant)")


@pytest.mark.unmeasured
async def test_of_one_tenant_so_many_run_and_the_others_wait():
    held = Held()
    async with upstream(held) as up:
        with workers("[policy.concurrency]\nmax_per_tenant = 5\n") as daemon:
            async with clients(daemon, 20) as opened, daemon.connect() as other:
                for client in opened:
                    await client.begin({"url": f"{up.origin}/held"})
                await until_there_are(other, running=5, waiting=15)
                with trio.fail_after(PATIENCE_S):
                    while len(up.requests) < 5:
                        await trio.lowlevel.checkpoint()
                assert len(up.requests) == 5

                await opened.pop().close()  # whether it ran or waited, it does so no longer
                with trio.fail_after(PATIENCE_S):
                    while (now := await admission(other))["running"] + now["waiting"] != 19:
                        assert now["running"] <= 5
                held.go_on.set()
                for client in opened:
                    assert (await client.answer()).body in ("late", "at once")
                await until_there_are(other, running=0, waiting=0)


async def test_a_worker_that_is_killed_gives_back_what_its_requests_held():
    held = Held()
    async with upstream(held) as up:
        with workers("[policy.concurrency]\nmax_per_tenant = 4\n") as daemon:
            async with clients(daemon, 12) as opened:
                for client in opened:
                    await client.begin({"url": f"{up.origin}/held"})
                async with daemon.connect() as other:
                    await until_there_are(other, running=4, waiting=8)
                    killed = max(await seen(other), key=lambda worker: worker.connections)
                kill(killed.pid)
                await ended(killed.pid)
                answers: list[Message | None] = []  # None of those that were the killed worker's

                async def take_answer(client: WireClient) -> None:
                    answers.append(await client.receive())

                async with trio.open_nursery() as nursery, daemon.connect() as other:
                    for client in opened:
                        nursery.start_soon(take_answer, client)
                    with trio.fail_after(PATIENCE_S):
                        now = await admission(other)
                        while not answers or (now["running"], now["waiting"]) != (4, 8 - len(answers)):
                            now = await admission(other)
                    assert not any(answers)
                    lost = len(answers)
                    held.go_on.set()
                assert (len(answers), answers.count(None)) == (12, lost)


class Recovering:
    """An upstream that fails until it is to recover; then it keeps what comes until it is told, and is well."""

    def __init__(self) -> None:
        self.came = 0
        self.recovers = False
        self.kept = trio.Event()
        self.go_on = trio.Event()

    async def __call__(self, peer: Peer) -> None:
        while await peer.request() is not None:
            self.came += 1
            if not self.recovers:
                await peer.respond(status=503)
            else:
                self.kept.set()
                await self.go_on.wait()
                await peer.respond(b"well")


def is_refused(answer: Answer) -> bool:
    return answer.error_class is ErrorClass.TRANSIENT and answer.message.startswith("circuit open for ")


async def the_circuit(client: WireClient) -> dict[str, Any] | None:
    """The only one there is, if anything is held against it."""
    circuits = (await ask(client, "statistics"))["policies"]["circuit_breaker"]["circuits"]
    assert len(circuits) <= 1
    return circuits[0] if circuits else None


async def until_the_probe_is_kept(client: WireClient, up: Recovering, request: dict[str, Any]) -> None:
    """It asks until it is the one that is let out; it waits for its answer then."""
    with trio.fail_after(PATIENCE_S):
        while not up.kept.is_set():
            await client.begin(request)
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def _kept(scope: trio.CancelScope = nursery.cancel_scope) -> None:
                    await up.kept.wait()
                    scope.cancel()

                assert is_refused(await client.answer())
                nursery.cancel_scope.cancel()


async def test_failures_on_all_workers_open_one_circuit_and_one_probe_closes_it():
    recovering = Recovering()
    limits = "[policy.circuit_breaker]\nconsecutive_failures = 5\nopen_ms = 4000\n"
    async with upstream(recovering) as up:
        with workers(limits) as daemon:
            async with clients(daemon, 8) as opened, daemon.connect() as other:
                request = {"url": up.origin, "method": "POST", "timeout_ms": 60_000}  # which is not sent again
                for client in opened[:5]:
                    assert (await client.execute(request)).status == 503
                with trio.fail_after(PATIENCE_S):
                    while (circuit := await the_circuit(other)) is None or circuit["state"] != "open":
                        pass
                    assert (circuit["origin"], circuit["failures"]) == (up.origin, 5)
                    for client in opened:  # those whose workers hear of it later may be a moment behind
                        while not is_refused(await client.execute(request)):
                            pass
                assert recovering.came < 10  # of four circuits none would be open after so few

                recovering.recovers = True
                came = recovering.came
                asking = opened[0]
                await until_the_probe_is_kept(asking, recovering, request)
                for client in opened[1:]:
                    assert is_refused(await client.execute(request))
                assert recovering.came == came + 1

                recovering.go_on.set()
                assert (await asking.answer()).body == "well"
                with trio.fail_after(PATIENCE_S):
                    for client in opened[1:]:
                        while is_refused(answer := await client.execute(request)):
                            pass
                        assert answer.body == "well"


async def test_the_retry_budgets_minimum_is_not_one_for_each_worker():
    """The first attempts fail, and the retries that are let out are kept."""
    kept = 0
    may_end = trio.Event()

    async def script(peer: Peer) -> None:
        nonlocal kept
        while (request := await peer.request()) is not None:
            if request.target in tried:
                kept += 1
                await may_end.wait()
            tried.add(request.target)
            await peer.respond(status=503)

    tried: set[str] = set()
    limits = (
        "[policy.circuit_breaker]\nenabled = false\n"
        "[policy.retry]\nfirst_backoff_ms = 1\nbudget_minimum = 3\nbudget_ratio = 0.0\n"
    )
    async with upstream(script) as up:
        with workers(limits) as daemon:
            async with clients(daemon, 16) as opened, daemon.connect() as other:
                for number, client in enumerate(opened):
                    await client.begin({"url": f"{up.origin}/{number}"})
                with trio.fail_after(PATIENCE_S):
                    while (retry := (await ask(other, "statistics"))["policies"]["retry"])["denied"] < 13 or kept < 3:
                        pass
                assert (retry["retrying"], retry["retried"], kept) == (3, 3, 3)
                may_end.set()
                for client in opened:
                    assert (await client.answer()).status == 503
