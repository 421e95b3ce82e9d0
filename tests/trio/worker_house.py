"""Workers and their supervisor in one process, over real channels."""

from __future__ import annotations

import math
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from vastar_runtime.config import Settings
from vastar_runtime.config.policy import (
    CircuitBreakerPolicy,
    ConcurrencyPolicy,
    Rate,
    RateLimitPolicy,
    RetryPolicy,
)
from vastar_runtime.errors import RequestError
from vastar_runtime.policies.permit import Permit
from vastar_runtime.policies.stages import HeldPlace, HeldRetries
from vastar_runtime.workers.channel import Channel
from vastar_runtime.workers.messages import Answer, Circuits, Count, Counted, News, Question
from vastar_runtime.workers.remote_stages import RemoteStages
from vastar_runtime.workers.shared_stages import SharedStages

ORIGIN = "https://upstream.test"
OTHER_ORIGIN = "https://other.test"
TENANT = "tenant"
WHO = (TENANT, ORIGIN)

UNLIMITED = ConcurrencyPolicy()
ONE_AT_A_TIME = ConcurrencyPolicy(max_per_tenant=1)
NO_RATE = RateLimitPolicy()
ONE_AN_HOUR = RateLimitPolicy(per_tenant=Rate(1, 3600))
BREAKER = CircuitBreakerPolicy(consecutive_failures=2, open_ms=1000)
BRITTLE = CircuitBreakerPolicy(consecutive_failures=1, open_ms=1000)


class Clock:
    """Seconds, which pass when a test says so."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class CountingSocket(socket.socket):
    """Counts the system calls that send, each with something."""

    sends = 0

    def send(self, *args: Any) -> int:
        self.sends += 1
        return super().send(*args)


class Worker:
    """One worker's stages, its channel, and its desk at the supervisor's.

    Attributes:
        counted: how often it was asked what it has under way.
        on_question: called when the supervisor has got a question of its own, and before that is answered.
        may_count: what it has under way it says when that is set.
        held_news: None: it hears all at once; else what is on its way to it.
    """

    def __init__(self, shared: SharedStages, clock: Clock) -> None:
        self._ends = [CountingSocket(fileno=end.detach()) for end in socket.socketpair()]
        self.counted: Counter[str] = Counter()
        self.on_question: Callable[[], None] = lambda: None
        self.may_count = trio.Event()
        self.may_count.set()
        self.held_news: list[News] | None = None
        self.heard: list[News] = []
        self._gone = trio.CancelScope()
        self._channel = Channel(self._ends[0], self._count, self._hear)
        self._supervisors = Channel(self._ends[1], self._answer, lambda news: self._desk.hear(news))
        stages = RemoteStages(Settings(), self._channel, clock)
        self.admission, self.rate_limiter = stages.admission, stages.rate_limiter
        self.circuit_breaker, self.retry_budget = stages.circuit_breaker, stages.retry_budget
        self.stages = stages
        self._desk = shared.join(self._supervisors)

    async def run(self) -> None:
        """Until it goes; then its desk is closed, as the supervisor does."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._supervisors.run)
            with self._gone:
                await self._channel.run()
        self._desk.close()

    async def go(self) -> None:
        """As a process that is killed does: no word of what it holds."""
        self._gone.cancel()
        await wait_all_tasks_blocked()

    def said(self) -> int:
        """How often anything was sent over the channel, either way."""
        return sum(end.sends for end in self._ends)

    def hear_held_news(self) -> None:
        """What was on its way arrives."""
        news, self.held_news = self.held_news, None
        for one in news or ():
            self._hear(one)

    def is_marked(self, origin: str = ORIGIN) -> bool:
        """Whether it would ask about a request to this origin."""
        permit = self.circuit_breaker.permit(BREAKER, TENANT, origin)
        if isinstance(permit, Permit):
            return False
        assert isinstance(permit, Coroutine)
        permit.close()
        return True

    async def permit(self, policy: CircuitBreakerPolicy = BREAKER) -> Permit:
        permit = self.circuit_breaker.permit(policy, *WHO)
        return await permit if isinstance(permit, Awaitable) else permit

    async def sends(self, failure: str | None = None, policy: CircuitBreakerPolicy = BREAKER) -> None:
        """One request, and how it failed; until all have heard of it."""
        permit = await self.permit(policy)
        if failure is None:
            permit.succeeded()
        else:
            permit.failed(failure)
        await wait_all_tasks_blocked()

    async def enter(self, policy: ConcurrencyPolicy = ONE_AT_A_TIME) -> HeldPlace:
        return await self.admission.enter(policy, TENANT, math.inf)

    def begin(self, origin: str = ORIGIN) -> HeldRetries:
        """A request that is under way for good."""
        return self.retry_budget.request(origin).__enter__()

    def _answer(self, question: Question) -> Answer | Coroutine[Any, Any, Answer]:
        self.on_question()
        return self._desk.answer(question)

    async def _count(self, question: Question) -> Counted:
        assert isinstance(question, Count)
        self.counted.update(question.origins)
        await self.may_count.wait()
        return self.stages.answer(question)

    def _hear(self, news: News) -> None:
        assert isinstance(news, Circuits)
        if self.held_news is not None:
            self.held_news.append(news)
        else:
            self.heard.append(news)
            self.stages.hear(news)


class House:
    """The supervisor and its workers."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.clock = Clock()
        self.shared = SharedStages(Settings(), self.clock)

    def worker(self) -> Worker:
        worker = Worker(self.shared, self.clock)
        self._nursery.start_soon(worker.run)
        return worker

    async def workers(self) -> tuple[Worker, Worker]:
        pair = self.worker(), self.worker()
        await wait_all_tasks_blocked()
        return pair

    def pass_s(self, seconds: float) -> None:
        self.clock.now_s += seconds


class Task:
    """Something that is waited for, and how that ended: not at all yet, with a result, an error, or cancelled."""

    def __init__(self, nursery: trio.Nursery, function: Callable[[], Awaitable[Any]]) -> None:
        self.scope = trio.CancelScope()
        self.result: Any = None
        nursery.start_soon(self._run, function)

    async def _run(self, function: Callable[[], Awaitable[Any]]) -> None:
        with self.scope:
            try:
                self.result = await function()
            except RequestError as error:
                self.result = error


def budget(minimum: int, ratio: float) -> RetryPolicy:
    return RetryPolicy(budget_minimum=minimum, budget_ratio=ratio)


def asks(nursery: trio.Nursery, request: HeldRetries, policy: RetryPolicy) -> Task:
    async def ask() -> bool:
        answer = request.try_retry(policy)
        assert isinstance(answer, Awaitable)
        return await answer

    return Task(nursery, ask)
