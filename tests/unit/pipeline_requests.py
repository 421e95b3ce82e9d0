"""Requests through the whole pipeline, to an upstream that does what a test tells it to; the clock is the test's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import trio
from trio.testing import wait_all_tasks_blocked

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import Policies, Settings
from vastar_runtime.config.policy import DeadlinePolicy, Policy, Rate, RateLimitPolicy, RetryPolicy
from vastar_runtime.errors import Failure, RequestError, UpstreamError
from vastar_runtime.policies.circuit import State
from vastar_runtime.policies.pipeline import Pipeline

ORIGIN = "https://upstream.test"
UNIX_S = 1_800_000_000.0
NO_RETRIES = RetryPolicy(max_retries=0)


class Head(NamedTuple):
    """A response head; the body tells two of the same status apart."""

    status_code: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: str = ""


Step = int | Head | UpstreamError | Callable[[], Awaitable[Head]]


def failing(
    failure: Failure, cause: str = "it failed", error_class: ErrorClass = ErrorClass.TRANSIENT
) -> UpstreamError:
    return UpstreamError(cause, error_class, failure=failure)


async def silent() -> Head:
    """Never answers."""
    await trio.sleep_forever()


def hourly(requests: int) -> RateLimitPolicy:
    """So many tokens; the next one comes after an hour's part of that."""
    return RateLimitPolicy(per_tenant=Rate(requests, 3600))


class Upstream:
    """Does the n-th step for the n-th attempt, and the last one for all further ones.

    Args:
        takes_s: until a step that is not a function happens.
        slots: attempts that may be under way at once, as in a pool.
        discard_s: how long it takes to let go of an answer.

    Attributes:
        asked_at_s: when each attempt came.
    """

    def __init__(
        self, *steps: Step, origin: str = ORIGIN, takes_s: float = 0.0, slots: int = 10**6, discard_s: float = 0.0
    ) -> None:
        self.steps = list(steps)
        self.origin = origin
        self.takes_s = takes_s
        self.discard_s = discard_s
        self.slots = trio.Semaphore(slots)
        self.asked_at_s: list[float] = []

    @property
    def attempts(self) -> int:
        return len(self.asked_at_s)

    async def answer(self) -> Head:
        step = self.steps[min(len(self.asked_at_s), len(self.steps) - 1)]
        self.asked_at_s.append(trio.current_time())
        if callable(step):
            return await step()
        await trio.sleep(self.takes_s)
        if isinstance(step, UpstreamError):
            raise step
        return Head(step) if isinstance(step, int) else step


class Exchange:
    """In the place of the real one."""

    def __init__(self, upstream: Upstream, may_repeat: bool, progress: Callable[[str], None]) -> None:
        self.may_repeat = may_repeat
        self.with_upstream_since: float | None = None
        self.was_written = False
        self.attempts = 0
        self.limits: list[DeadlinePolicy] = []
        self._upstream = upstream
        self._progress = progress

    async def attempt(self, limits: DeadlinePolicy, guard: object) -> Head:
        assert self.with_upstream_since is None, "the last attempt was not discarded"
        self._progress("waiting for a slot")
        await self._upstream.slots.acquire()
        self._progress("waiting for the upstream")
        self.with_upstream_since = trio.current_time()
        self.was_written = True
        self.attempts += 1
        self.limits.append(limits)
        return await self._upstream.answer()

    async def discard(self) -> None:
        try:
            await trio.sleep(self._upstream.discard_s)
        finally:
            self.close()

    def close(self) -> None:
        if self.with_upstream_since is not None:
            self.with_upstream_since = None
            self._upstream.slots.release()


class Sent:
    """One request.

    Attributes:
        head: what was delivered.
        error: what it ended with instead.
        is_cancelled: its client cancelled it.
    """

    def __init__(self, pipeline: Pipeline, upstreams: tuple[Upstream, ...], tenant: str, may_repeat: bool) -> None:
        self.head: Head | None = None
        self.error: RequestError | None = None
        self.is_cancelled = False
        self.done = trio.Event()
        self.attempts = 0
        self.ended_at_s = 0.0
        self._pipeline = pipeline
        self._upstreams = upstreams
        self._tenant = tenant
        self._may_repeat = may_repeat
        self._scope = trio.CancelScope()

    def cancel(self) -> None:
        self._scope.cancel()

    @property
    def status(self) -> int:
        assert self.head is not None, self.error
        return self.head.status_code

    @property
    def failure(self) -> RequestError:
        assert self.error is not None, self.head
        return self.error

    async def run(self, timeout_ms: float | None) -> None:
        """As a session does it; each upstream but the last one redirects to the next."""
        with self._scope:
            try:
                self.head = await self._pass(timeout_ms)
            except RequestError as error:
                self.error = error
        self.is_cancelled = self._scope.cancelled_caught
        self.ended_at_s = trio.current_time()
        self.done.set()

    async def _pass(self, timeout_ms: float | None) -> Head:
        passage = self._pipeline.passage(
            self._tenant, self._upstreams[0].origin, deadline_at_ms=0, timeout_ms=timeout_ms
        )
        with passage.deadline.scope, await passage.enter():
            for upstream in self._upstreams:
                exchange = Exchange(upstream, self._may_repeat, passage.deadline.progress)
                try:
                    head = await passage.send(upstream.origin, exchange)
                finally:
                    exchange.close()
                    self.attempts += exchange.attempts
            return head
        raise passage.deadline.passed()


class Requests:
    """Sends requests through one pipeline.

    Args:
        random: the share of each backoff that is waited for; by default none.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        settings: Settings | None = None,
        *,
        random: Callable[[], float] = lambda: 0.0,
        **stages: Any,
    ) -> None:
        """``stages`` are those of a Policy."""
        self.pipeline = Pipeline(
            settings or Settings(policy=Policy(**stages)),
            unix_clock=lambda: UNIX_S + trio.current_time(),
            random=random,
        )
        self._nursery = nursery

    async def configure(self, settings: Settings) -> None:
        """As a reload does."""
        await self.pipeline.configure(settings, Policies(settings))

    def start_soon(
        self,
        *upstreams: Upstream,
        tenant: str = "tenant",
        may_repeat: bool = True,
        timeout_ms: float | None = 10**8,
    ) -> Sent:
        sent = Sent(self.pipeline, upstreams, tenant, may_repeat)
        self._nursery.start_soon(sent.run, timeout_ms)
        return sent

    async def start(self, *upstreams: Upstream, **options: Any) -> Sent:
        """Send one; it has come as far as it can when this returns."""
        sent = self.start_soon(*upstreams, **options)
        await wait_all_tasks_blocked()
        return sent

    async def send(self, *upstreams: Upstream, **options: Any) -> Sent:
        """Send one, and wait until it has ended; nothing else may be under way."""
        sent = self.start_soon(*upstreams, **options)
        await sent.done.wait()
        return sent

    async def tokens(self, upstream: Upstream, *, at_most: int = 50, **options: Any) -> int:
        """How many more requests the rate limit lets through."""
        for number in range(at_most):
            sent = await self.send(upstream, **options)
            if sent.error is not None:
                assert sent.failure.error_class is ErrorClass.RATE_LIMITED, sent.failure
                return number
        raise AssertionError("there is no end of tokens")

    def nothing_is_held(self) -> None:
        """No place, no retry, no probe."""
        found = self.pipeline.statistics()
        assert (found.admission.running, found.admission.waiting, found.admission.busy_tenants) == (0, 0, 0)
        assert (found.retry.active, found.retry.retrying) == (0, 0)
        assert [circuit for circuit in found.circuit_breaker.circuits if circuit.state is State.HALF_OPEN] == []

    def circuit(self) -> State:
        """Of the only one that is not closed; CLOSED when there is none."""
        circuits = self.pipeline.statistics().circuit_breaker.circuits
        assert len(circuits) <= 1
        return circuits[0].state if circuits else State.CLOSED
