"""One request's way through the stages: it holds what it was given, and gives it back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec
import trio

from vastar_runtime.config import Policies
from vastar_runtime.config.policy import Policy
from vastar_runtime.errors import Failure, RequestError, UpstreamError

from .allowance import Reserved
from .attempts import Account, Attempts, Head
from .deadline import Deadline
from .egress import EgressGuard, address_guard
from .peer import Peer
from .permit import Permit
from .retry import RETRIED_STATUS_CODES, Answer, retry_delay_s
from .spending import NOTHING
from .stages import HeldPlace, HeldRetries
from .token_bucket import Taken

if TYPE_CHECKING:
    from .pipeline import Pipeline

# What opens a circuit. A connection that broke before the head says too little: the upstream may have restarted. Nor
# does a time limit of the client's own, where the request had spent most of it in our queues.
FAILED_STATUS_CODES = frozenset({502, 503, 504})
FAILURES = frozenset({Failure.UNSENT, Failure.NO_HEAD_IN_TIME})
# For a shared backend that does not answer, when a request that was cancelled gives its token back.
GIVE_BACK_S = 1.0


class Passage:
    """One request's way through the pipeline; it keeps to the settings that it began with.

    Use: ``try_enter`` or ``await enter()``; then ``try_send`` and ``succeeded``, or ``await send()``, which goes on
    from wherever ``try_send`` has come to; ``leave``, ``deadline.end`` and ``settle`` in any case.

    Attributes:
        account: what it uses; to be set before it is sent.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        policies: Policies,
        tenant_id: str,
        deadline: Deadline,
        peer: Peer | None,
    ) -> None:
        self.tenant_id = tenant_id
        self.deadline = deadline
        self.peer = peer
        self._pipeline = pipeline
        self._policies = policies
        self._place: HeldPlace | None = None
        self.queued_s = 0.0
        self._retries: HeldRetries | None = None  # for the origin of the moment
        self._retries_done = 0
        self._begun: _Leave | None = None  # by try_send; what ``send`` begins with
        self._asked: Coroutine[object, None, Permit] | None = None  # by try_send; not awaited yet
        self.account: Account | None = None
        self._reserved: Reserved | None = None
        self._was_sent = False

    def try_enter(self) -> bool:
        """Take a place among those that run, if there is a free one; ``leave`` gives it back.

        Raises:
            RequestError: Permanent, this client may not speak for this tenant.
        """
        self._pipeline.access.check(self.peer, self.tenant_id)
        policy = self._policies.concurrency_for(self.tenant_id)
        self._place = self._pipeline.admission.try_enter(policy, self.tenant_id)
        return self._place is not None

    async def enter(self) -> Passage:
        """As ``try_enter``, but wait for a place.

        Raises:
            RateLimited: there is none, and none will come in time.
        """
        self.deadline.progress("waiting for its turn (concurrency.max_per_tenant, admission.max_concurrent)")
        try:
            self._place = await self._pipeline.admission.enter(
                self._policies.concurrency_for(self.tenant_id), self.tenant_id, self.deadline.patience_s()
            )
        finally:
            self.queued_s = trio.current_time() - self.deadline.began_at
        return self

    def __enter__(self) -> Passage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Give back what it holds; more than once does no harm."""
        if self._asked is not None:
            self._asked.close()
            self._asked = None
        if self._begun is not None:
            self._begun.permit.abandoned()
            self._begun = None
        self._leave_origin()
        if self._place is not None:
            self._place.release()
            self._place = None

    def judges_origins(self, origin: str) -> bool:
        """Whether where it goes is limited by what the place is called."""
        return self._policies.limits_origins_of(self.tenant_id, origin)

    def settle(self) -> None:
        """All is said: record what it used; more than once does no harm."""
        account, self.account = self.account, None
        if account is None:
            return
        used = account.close(was_sent=self._was_sent)
        if self._reserved is not None:
            self._pipeline.spending.settle(self._reserved, used)
            self._reserved = None

    def try_send(self, origin: str, attempt: Callable[[EgressGuard | None], bool]) -> bool:
        """Begin the first attempt, where nobody need be waited for.

        Args:
            attempt: makes it, if it can; what came of it is told by ``succeeded``, or made out by ``send``.

        Returns:
            False: nothing was sent, and ``send`` makes the first attempt too.

        Raises:
            RequestError: Transient, the circuit is open.
            EgressDenied: it must not go there.
        """
        policy = self._policies.policy_for(self.tenant_id, origin)
        guard = None
        if policy is not self._policies.open_policy:
            guard = address_guard(policy.egress, origin)
            if policy.rate_limit.limits_anything or policy.deadline.first_byte_timeout_ms is not None:
                return False
            if self._pipeline.spending.applies(policy.token_limit, self.tenant_id):
                return False
        permit = self._pipeline.circuit_breaker.permit(policy.circuit_breaker, self.tenant_id, origin)
        if not isinstance(permit, Permit):
            self._asked = permit
            return False
        self._begun = _Leave(None, permit)
        self._retries = self._pipeline.retry_budget.request(origin).__enter__()
        self._was_sent = attempt(guard)
        return self._was_sent

    def was_taken_back(self) -> None:
        """The attempt that ``try_send`` began never was sent after all."""
        self._was_sent = False

    def succeeded(self) -> None:
        """The attempt that ``try_send`` began has brought an answer to deliver, and a good one."""
        assert self._begun is not None
        self._begun.permit.succeeded()
        self._begun = None

    async def send(self, origin: str, exchange: Attempts[Head]) -> Head:
        """Make attempts until there is an answer to deliver: a good one, or the last one as it came.

        Raises:
            RateLimited: a rate limit refuses.
            RequestError: Transient, the circuit is open.
            EgressDenied: it must not go there.
            UpstreamError: of the last attempt.
        """
        policy = self._policies.policy_for(self.tenant_id, origin)
        guard = address_guard(policy.egress, origin)
        if self._begun is None or self._retries is None:
            self._leave_origin()
            await self._reserve(policy, origin, exchange)
            self._retries = retries = self._pipeline.retry_budget.request(origin).__enter__()
            leave = await self._leave_to_send(policy, origin)
        else:
            retries, leave, self._begun = self._retries, self._begun, None
        while True:
            outcome = await self._attempt(policy, guard, exchange, leave)
            if not isinstance(outcome, UpstreamError) and outcome.status_code not in RETRIED_STATUS_CODES:
                break
            delay_s = self._retry_delay_s(policy, exchange, outcome)
            # No pause for an attempt that the circuit would not let out at its end.
            if delay_s is None or self._pipeline.circuit_breaker.refuses_for_s(self.tenant_id, origin) > delay_s:
                break
            may_retry = retries.try_retry(policy.retry)
            if not (may_retry if isinstance(may_retry, bool) else await may_retry):
                break
            if isinstance(outcome, UpstreamError):
                await exchange.discard()  # it has left nothing to deliver, and others may use its slot meanwhile
            # What came is kept until another attempt may really be made: else it is what the client gets.
            next_leave = await self._leave_to_retry(policy, origin, delay_s)
            if next_leave is None:
                break
            leave = next_leave
            self._retries_done += 1
            try:
                await exchange.discard()
            except BaseException:  # cancelled, while a body is read to its end
                await self._unused(leave)
                raise
        retries.retry_ended()
        if isinstance(outcome, UpstreamError):
            raise outcome
        return outcome

    # --- inside ---

    def _leave_origin(self) -> None:
        if self._retries is not None:
            self._retries.leave()
            self._retries = None

    async def _reserve(self, policy: Policy, origin: str, exchange: Attempts[Head]) -> None:
        """What it may use there; where it is redirected to, that counts, and not what led there."""
        account, spending = self.account, self._pipeline.spending
        if account is None:
            return
        if account.sends(exchange):
            self._was_sent = False  # what led there was, and used nothing
            if self._reserved is not None:
                spending.settle(self._reserved, NOTHING)
                self._reserved = None
        if self._reserved is None and spending.applies(policy.token_limit, self.tenant_id):
            demand = account.demand(policy.token_limit.assumed_completion_tokens)
            if demand is not None:
                self._reserved = await spending.reserve(policy.token_limit, self.tenant_id, origin, demand)

    async def _leave_to_send(self, policy: Policy, origin: str) -> _Leave:
        """A token of the rate limit, and the circuit's permit."""
        taken = None
        if policy.rate_limit.limits_anything:
            taken = await self._pipeline.rate_limiter.take(policy.rate_limit, self.tenant_id, origin)
        try:
            permit: Permit | Coroutine[object, None, Permit] | None
            permit, self._asked = self._asked, None
            if permit is None:
                permit = self._pipeline.circuit_breaker.permit(policy.circuit_breaker, self.tenant_id, origin)
            if not isinstance(permit, Permit):
                permit = await permit
        except BaseException:  # refused, or cancelled while another process was asked
            with trio.move_on_after(GIVE_BACK_S, shield=True):
                await self._pipeline.rate_limiter.give_back(taken)
            raise
        return _Leave(taken, permit)

    async def _attempt(
        self, policy: Policy, guard: EgressGuard | None, exchange: Attempts[Head], leave: _Leave
    ) -> Head | UpstreamError:
        permit = leave.permit
        try:
            head = await exchange.attempt(policy.deadline, guard)
        except UpstreamError as error:
            self._was_sent |= error.failure is not Failure.UNSENT
            if error.failure in FAILURES:
                permit.failed(error.message)
            else:
                permit.failed_otherwise(error.message)
            return error
        except RequestError:  # it must not go there, or not as it is
            await self._unused(leave)
            raise
        except trio.Cancelled:
            since = exchange.with_upstream_since
            self._was_sent |= exchange.was_written
            if since is None:
                await self._unused(leave)
            elif self.deadline.was_mostly_spent_since(since):
                permit.failed("no response head within the request's time limit")
            raise
        else:
            self._was_sent = True
            if head.status_code in FAILED_STATUS_CODES:
                permit.failed(f"status {head.status_code}")
            else:
                permit.succeeded()
            return head
        finally:
            permit.abandoned()  # unless it has been told something

    async def _unused(self, leave: _Leave) -> None:
        """Nothing was sent with it."""
        leave.permit.abandoned()
        with trio.move_on_after(GIVE_BACK_S, shield=True):
            await self._pipeline.rate_limiter.give_back(leave.taken)

    def _retry_delay_s(self, policy: Policy, exchange: Attempts[Head], outcome: Head | UpstreamError) -> float | None:
        return retry_delay_s(
            policy.retry,
            retries_done=self._retries_done,
            outcome=outcome if isinstance(outcome, UpstreamError) else _answer(outcome),
            may_repeat=exchange.may_repeat,
            remaining_s=self.deadline.remaining_s(),
            random=self._pipeline.random,
            unix_now_s=self._pipeline.unix_clock(),
        )

    async def _leave_to_retry(self, policy: Policy, origin: str, delay_s: float) -> _Leave | None:
        """After the pause; None when a limit or the circuit refuses by then."""
        self.deadline.suspend(f"waiting {delay_s * 1000:.0f} ms to try {origin} again")
        await trio.sleep(delay_s)
        self.deadline.resume()
        try:
            return await self._leave_to_send(policy, origin)
        except RequestError:
            return None


class _Leave(msgspec.Struct, frozen=True):
    """What one attempt holds."""

    taken: Taken | None
    permit: Permit


def _answer(head: Head) -> Answer:
    retry_after = next((value for name, value in head.headers if name == b"retry-after"), None)
    return Answer(head.status_code, retry_after)
