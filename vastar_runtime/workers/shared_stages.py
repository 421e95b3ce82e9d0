"""The supervisor's stages: limits and circuits of all workers, in one place, by what the workers ask and tell."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import msgspec
import trio

from vastar_runtime.config import Policies, Settings
from vastar_runtime.policies.admission import Place, Waiter
from vastar_runtime.policies.allowance import Allowance, AllowanceBackend, Amount, Reserved, UsedBefore
from vastar_runtime.policies.permit import Permit
from vastar_runtime.policies.stages import LocalStages, PipelineStatistics
from vastar_runtime.policies.token_bucket import RateLimitBackend, Taken

from .channel import Channel
from .messages import (
    Answer,
    AskPermit,
    AskRetry,
    Circuits,
    Count,
    Counted,
    Decided,
    Done,
    Ended,
    Enter,
    Entered,
    GiveBack,
    Left,
    News,
    Permitted,
    ProbeEnded,
    Question,
    Reserve,
    RetryEnded,
    Settle,
    Take,
    Tokens,
)
from .shared_circuits import SharedCircuits
from .shared_retries import SharedRetries, WorkerRetries

# A worker that has not counted by then hangs: its requests are left out, so that retries are rather too few.
COUNT_TIMEOUT_S = 0.1

Result = TypeVar("Result")


class SharedStages:
    """All of them, for every worker that has joined.

    Args:
        clock: seconds, monotonic.
        used_before, rate_limits, allowances: see LocalStages.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = trio.current_time,
        *,
        used_before: UsedBefore | None = None,
        rate_limits: RateLimitBackend | None = None,
        allowances: AllowanceBackend | None = None,
    ) -> None:
        # Late: the circuits that are told of are made of the breaker that tells of them.
        self.local = LocalStages(
            settings,
            clock,
            on_forgotten=lambda key: self.circuits.forgotten(key),
            used_before=used_before,
            rate_limits=rate_limits,
            allowances=allowances,
        )
        self.circuits = SharedCircuits(self.local.circuit_breaker, self._tell_all)
        self.retries = SharedRetries(self._count_active)
        self._desks: set[Desk] = set()
        self._admitted_by_gone = 0
        self._returned: list[Taken] = []  # tokens for ``run`` to give back
        self._has_returned = trio.Event()

    async def run(self) -> None:
        """Do what nobody waits for, until cancelled."""
        while True:
            await self._has_returned.wait()
            self._has_returned = trio.Event()
            returned, self._returned = self._returned, []
            for taken in returned:
                await self.local.rate_limiter.give_back(taken)

    def give_back(self, taken: Taken) -> None:
        """Nothing was sent with these tokens; never waits."""
        if self.local.waits:
            self._returned.append(taken)
            self._has_returned.set()
        else:
            _at_once(self.local.rate_limiter.give_back(taken))

    def join(self, channel: Channel) -> Desk:
        """A worker has come; it is told what it has to know."""
        desk = Desk(self, channel)
        self._desks.add(desk)
        channel.tell(self.circuits.marked())
        return desk

    def leave(self, desk: Desk) -> None:
        """Its worker has gone; what it has admitted since it was asked last nobody knows."""
        self._desks.remove(desk)
        self._admitted_by_gone += desk.admitted

    async def configure(self, settings: Settings, policies: Policies) -> None:
        """Other settings hold from now on. What was counted stays."""
        await self.local.configure(settings, policies)

    async def statistics(self) -> PipelineStatistics:
        """What each stage holds now, and has done so far, over all workers."""
        statistics = self.local.statistics()
        origins = self.retries.listed_origins()
        counted = await self._count(origins)
        admitted_by_workers = self._admitted_by_gone + sum(desk.admitted for desk in self._desks)
        return msgspec.structs.replace(
            statistics,
            admission=msgspec.structs.replace(
                statistics.admission,
                running=statistics.admission.running + sum(worker.running for worker in counted),
                admitted=statistics.admission.admitted + admitted_by_workers,
            ),
            retry=self.retries.statistics(
                active=sum(worker.active for worker in counted),
                with_origins={
                    origin: sum(worker.with_origins[position] for worker in counted)
                    for position, origin in enumerate(origins)
                },
            ),
        )

    # --- what the workers have under way ---

    async def _count_active(self, origin: str) -> int:
        return sum(worker.with_origins[0] for worker in await self._count((origin,)))

    async def _count(self, origins: tuple[str, ...]) -> list[Counted]:
        counted: list[Counted] = []

        async def ask(desk: Desk) -> None:
            try:
                counted.append(await desk.count(origins))
            except trio.BrokenResourceError:
                return  # it has gone, and its requests with it

        with trio.move_on_after(COUNT_TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                for desk in self._desks:
                    nursery.start_soon(ask, desk)
        return counted

    def _tell_all(self, circuits: Circuits) -> None:
        for desk in self._desks:
            desk.channel.tell(circuits)


class Desk:
    """Where one worker's questions are answered; it knows all that the worker holds.

    Attributes:
        admitted: requests that the worker asked nobody about, as it counted them last.
    """

    def __init__(self, stages: SharedStages, channel: Channel) -> None:
        self.channel = channel
        self.admitted = 0
        self._stages = stages
        self._local = stages.local
        self._places: dict[int, Place] = {}
        self._probes: dict[int, Permit] = {}
        self._reserved: dict[int, Reserved] = {}
        self._retries = WorkerRetries(stages.retries)

    def answer(self, question: Question) -> Answer | Coroutine[Any, Any, Answer]:
        """As Channel takes it.

        Raises:
            RequestError: a limit or a circuit refuses.
        """
        match question:
            case Take(policy, tenant_id, origin):
                taking = _tokens(self._local.rate_limiter.take(policy, tenant_id, origin))
                return taking if self._local.waits else _at_once(taking)
            case Enter(number, policy, tenant_id, remaining_s):
                entered = self._local.admission.enter_or_queue(policy, tenant_id, remaining_s)
                if isinstance(entered, Waiter):
                    return self._wait(number, entered)
                self._places[number] = entered
                return Done()
            case AskPermit(number, policy, tenant_id, origin):
                permit, is_probe = self._stages.circuits.permit(policy, tenant_id, origin)
                if is_probe:
                    self._probes[number] = permit
                return Permitted(is_probe, self._local.circuit_breaker.openings)
            case AskRetry():
                return self._retries.ask(question)
            case Reserve(allowances, amount):
                return self._reserve(allowances, amount)
            case _:
                raise AssertionError(f"{type(question).__name__} is not for a worker to ask")

    def hear(self, news: News) -> None:
        """As Channel takes it."""
        match news:
            case Left(number):
                self._places.pop(number).release()
            case Ended():
                self._stages.circuits.ended(news, self.channel.tell)
            case GiveBack(buckets):
                self._stages.give_back(Taken(buckets))
            case Settle(reserved_id, used):
                self._local.spending.settle(self._reserved.pop(reserved_id), used)
            case ProbeEnded(number, told, reason):
                self._probe_ended(number, told, reason)
            case RetryEnded(number):
                self._retries.ended(number)
            case Entered(number, policy, tenant_id):
                self._places[number] = self._local.admission.count_running(policy, tenant_id)
            case _:
                raise AssertionError(f"{type(news).__name__} is not for a worker to tell")

    async def count(self, origins: tuple[str, ...]) -> Counted:
        """What the worker has under way.

        Raises:
            trio.BrokenResourceError: it has gone.
        """
        counted: Counted = await self.channel.ask(Count(origins))
        self.admitted = counted.admitted
        return counted

    def close(self) -> None:
        """The worker has gone: what it held is given back. What it waited for its channel has ended."""
        self._stages.leave(self)
        for place in self._places.values():
            place.release()
        for number in list(self._probes):
            self._probe_ended(number, "abandoned", "")
        self._retries.close()
        for reserved in self._reserved.values():  # what it had sent is used by now, or will be
            self._local.spending.settle(reserved, reserved.in_full)

    # --- inside ---

    async def _reserve(self, allowances: tuple[Allowance, ...], amount: Amount) -> Decided:
        decision = await self._local.spending.decide(allowances, amount)
        if isinstance(decision, Reserved):
            self._reserved[decision.id] = decision
            return Decided(decision, None)
        return Decided(None, decision)

    async def _wait(self, number: int, waiter: Waiter) -> Done:
        self._places[number] = await waiter.place()
        return Done()

    def _probe_ended(self, number: int, told: str, reason: str) -> None:
        permit = self._probes.get(number)
        if permit is None:  # what follows the first word of it says nothing new
            return
        tell: dict[str, Callable[[], None]] = {
            "succeeded": permit.succeeded,
            "failed": partial(permit.failed, reason),
            "failed_otherwise": partial(permit.failed_otherwise, reason),
            "abandoned": permit.abandoned,
        }
        tell[told]()
        if told != "failed_otherwise":
            del self._probes[number]
        self._stages.circuits.changed(permit.key)


async def _tokens(taking: Coroutine[Any, Any, Taken | None]) -> Tokens:
    taken = await taking
    return Tokens(taken.buckets if taken is not None else ())


def _at_once(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What it returns; the buckets of this process never have it wait, and a task for it would cost more than it."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise AssertionError("the local backend waits for nothing")
