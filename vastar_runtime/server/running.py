"""One request in flight, from its message to its terminal frame: exactly one, whatever happens."""

from __future__ import annotations

import time
from typing import Protocol

import structlog
import trio

from connector_sdk.wire import (
    ErrorClass,
    ExecuteRequest,
    LocalProtocolError,
)
from vastar_runtime.connectors import CONNECTORS, Services
from vastar_runtime.connectors.base import Begun, Call, Outcome, Passed
from vastar_runtime.errors import InvalidRequest, RequestError
from vastar_runtime.policies.passage import Passage
from vastar_runtime.policies.peer import Peer
from vastar_runtime.policies.pipeline import Pipeline
from vastar_runtime.telemetry.log import clean, write_request

from .memory import Holding
from .outbox import ClientDoesNotRead
from .reply import Reply
from .request_fields import RequestFields
from .streamed import StreamedAnswer
from .terminal import terminal_message

log = structlog.get_logger()


class Host(Protocol):
    """Where requests run: their connection."""

    def run_in_task(self, running: RunningRequest) -> None:
        """Have ``running.run`` run in a task, in a scope of its own."""

    def ended(self, running: RunningRequest) -> None:
        """It is answered."""

    def fail(self, error: Exception) -> None:
        """The connection must be dropped."""


class RunningRequest:
    """One request, its credit and its end.

    All that can be done at once is done as soon as it comes, up to the last byte that is sent to an upstream whose
    connection was kept; and when the whole answer is there, it goes to the client in the same step. Only where
    something must be waited for beyond that, the request gets a task, which goes on from where it is.

    Attributes:
        has_used_scope: the scope that it ran in is cancelled.
        stream: its answer, where it is to be streamed.

    Args:
        size: bytes of the request's message.
        holding: what the request may hold of the connection's memory.
        reply: where its answer goes.
    """

    def __init__(
        self,
        host: Host,
        request: ExecuteRequest,
        size: int,
        services: Services,
        pipeline: Pipeline,
        peer: Peer | None,
        holding: Holding,
        reply: Reply,
    ) -> None:
        self.request_id = request.request_id
        self.has_used_scope = False
        self._host = host
        self._request = request
        self._size = size
        self._services = services
        self._pipeline = pipeline
        self._peer = peer
        self._holding = holding
        self._reply = reply
        self.stream = None if reply.window is None else StreamedAnswer(request.request_id, reply, reply.window)
        self._call: Call | None = None
        self._passage: Passage | None = None
        self._is_in = False  # among those that run
        self._begun: Begun | None = None
        self._has_task = False
        self._needs_task = False
        self._scope: trio.CancelScope | None = None  # its task's
        self._stopped_by: RequestError | None = None
        self._failed_by: RequestError | None = None  # while it had no task
        self._outcome = Outcome()
        self._began_ns = time.perf_counter_ns()

    def begin(self) -> None:
        """Do what can be done without waiting; the rest is a task's."""
        try:
            self._begin()
        except RequestError as error:
            self._failed_by = error
        except Exception:
            self._failed_by = self._internal_error()
        if self._begun is None or self._failed_by is not None or self._needs_task:
            self.run_in_task()

    def run_in_task(self) -> None:
        """Have a task go on with it, if none does."""
        if not self._has_task:
            self._has_task = True
            self._host.run_in_task(self)

    def cancel(self) -> None:
        """End what it does, wherever it is: what its time limits do, and ``stop``."""
        self.has_used_scope = True
        if self._scope is not None:
            self._scope.cancel()
        elif self._begun is not None and self._begun.try_take_back():  # both came in one read
            self._begun = None
            assert self._passage is not None
            self._passage.was_taken_back()
        self.run_in_task()

    def stop(self, error: RequestError) -> None:
        """End the request with this error, wherever it is; its upstream connection is closed."""
        if self._stopped_by is None:
            self._stopped_by = error
            self.cancel()

    async def run(self, scope: trio.CancelScope) -> None:
        """Run it and send its answer.

        Args:
            scope: around it. Its time limits and ``stop`` cancel that; its answer is for ``stopped`` to send then.
        """
        self._scope = scope
        if self.has_used_scope:  # before it ran
            scope.cancel()
        payload = None
        error: RequestError | None = None
        try:
            payload = await self._execute()
            error = self._stopped_by
        except RequestError as failure:
            error = self._stopped_by or failure
        except ClientDoesNotRead:
            raise
        except Exception:
            error = self._internal_error()
        finally:
            self._let_go()
        self._answer(payload, error)

    def stopped(self) -> None:
        """Its scope has caught its cancellation: send its answer."""
        assert self._passage is not None
        self._answer(None, self._stopped_by or self._passage.deadline.passed())

    def left(self) -> None:
        """It was cancelled with its connection: nobody is there to be answered."""
        error = RequestError(ErrorClass.CANCELLED, "the client left, or the runtime was stopped")
        self._log_line(error, self._duration_us())

    def settle(self) -> None:
        """All is said: what it used is recorded."""
        if self._passage is not None:
            self._passage.settle()

    # --- without a task ---

    def _begin(self) -> None:
        self._holding.hold(self._size)
        request = self._request
        connector = CONNECTORS.get(request.connector_name)
        if connector is None:
            known = ", ".join(sorted(CONNECTORS))
            raise InvalidRequest(f"Unknown connector: {request.connector_name[:64]} (known: {known})")
        self._call = call = connector.prepare(request, self._outcome)
        self._passage = passage = self._pipeline.passage(
            request.tenant_id,
            call.origin,
            deadline_at_ms=request.deadline_at_ms,
            timeout_ms=call.timeout_ms,
            peer=self._peer,
            scope=self,
        )
        if self.stream is not None:
            self.stream.deadline = passage.deadline
        if not call.origin:
            self._is_in = True
        elif passage.try_enter():
            self._is_in = True
            self._begun = call.try_begin(self._services, passage, self._on_answer)

    def _on_answer(self) -> None:
        """Something of an answer can be read, or the request could not be sent."""
        if self._has_task:
            return
        if self._begun is None:  # it has not even returned yet
            self._needs_task = True
            return
        try:
            if self.stream is None:
                self._finish(self._begun)
            else:
                self._pass_on(self._begun, self.stream)
        except Exception as error:  # the client does not read; or it is a mistake of ours
            self._host.fail(error)

    def _finish(self, begun: Begun) -> None:
        assert self._passage is not None
        payload = None
        try:
            payload = begun.try_finish(self._passage)
        except RequestError as error:
            self._failed_by = error
        except Exception:
            self._failed_by = self._internal_error()
        if payload is None:
            self.run_in_task()
            return
        self._let_go()
        try:
            duration_us = self._duration_us()
            try:
                self._reply.send_success(payload, duration_us, self._outcome.attempts)
            except LocalProtocolError:
                self._answer(payload, None)  # which says so
            else:
                self._log_line(None, duration_us)
        finally:
            self._host.ended(self)

    def _pass_on(self, begun: Begun, stream: StreamedAnswer) -> None:
        assert self._passage is not None
        passed = Passed.FOR_TASK
        try:
            passed = begun.try_pass_on(self._passage, stream)
        except RequestError as error:
            self._failed_by = error
        except ClientDoesNotRead:
            raise
        except Exception:
            self._failed_by = self._internal_error()
        if passed is Passed.FOR_TASK:
            self.run_in_task()
        elif passed is Passed.WHOLE:
            self._let_go()
            try:
                self._answer(None, None)
            finally:
                self._host.ended(self)

    def _let_go(self) -> None:
        """Give back all that it holds."""
        if self._passage is not None:
            self._passage.leave()
            if self._passage.deadline.end():
                self.has_used_scope = True
        self._holding.release()

    def _answer(self, payload: bytes | None, error: RequestError | None) -> None:
        duration_us = self._duration_us()
        if self.stream is not None:
            # Of a stream all has been delivered; its client's next request waits for this line otherwise.
            self._log_line(error, duration_us)
        try:
            self._reply.send(terminal_message(self._request, payload, error, duration_us, self._outcome.attempts))
        except LocalProtocolError:
            error = self._internal_error()
            self._reply.send(terminal_message(self._request, None, error, duration_us, self._outcome.attempts))
        if self.stream is None:
            self._log_line(error, duration_us)

    def _duration_us(self) -> int:
        return (time.perf_counter_ns() - self._began_ns) // 1000

    # --- inside ---

    async def _execute(self) -> bytes | None:
        if self._begun is not None:
            self._begun.unwatch()
        if self._failed_by is not None:
            if self._begun is not None:
                await self._begun.close()
            raise self._failed_by
        if self._stopped_by is not None and self._begun is None:
            raise self._stopped_by
        call, passage = self._call, self._passage
        assert call is not None
        assert passage is not None
        if not self._is_in:
            await self._entered(passage)
        if self.stream is not None:
            await call.stream(self._services, passage, self.stream)
            return None
        return await call.execute(self._services, passage, self._holding.hold)

    async def _entered(self, passage: Passage) -> None:
        try:
            await passage.enter()
        finally:
            self._outcome.queued_s = passage.queued_s

    def _internal_error(self) -> RequestError:
        """A mistake of ours, being handled: it must not take the connection's other requests with it."""
        log.exception("internal error", tenant=clean(self._request.tenant_id), origin=self._outcome.origin)
        return RequestError(ErrorClass.PERMANENT, "internal error of the runtime; its log has the details")

    def _log_line(self, error: RequestError | None, duration_us: int) -> None:
        request = self._request
        write_request(RequestFields(self._outcome, request.tenant_id, request.trace_id, error, duration_us, self._peer))
