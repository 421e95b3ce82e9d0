"""One request in flight, from its message to its terminal frame: exactly one, whatever happens."""

from __future__ import annotations

import time

import structlog
import trio

from connector_sdk.wire import (
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    LocalProtocolError,
    Message,
    ResponseEnd,
    ResponseHead,
    ResponseMode,
)
from vastar_runtime.connectors import CONNECTORS, Services
from vastar_runtime.connectors.base import Outcome
from vastar_runtime.errors import InvalidRequest, RequestError
from vastar_runtime.policies.deadline import Deadline
from vastar_runtime.policies.passage import Passage
from vastar_runtime.policies.peer import Peer
from vastar_runtime.policies.pipeline import Pipeline
from vastar_runtime.telemetry.log import clean, write_request

from .memory import Holding
from .outbox import ClientDoesNotRead
from .reply import Reply
from .request_fields import RequestFields

log = structlog.get_logger()

# A piece of body in one frame; a larger one would keep the other streams of the connection waiting.
MAX_CHUNK_BYTES = 65_536


class RunningRequest:
    """One request's task, its credit and its end.

    Attributes:
        has_used_scope: the scope that it ran in is cancelled.

    Args:
        size: bytes of the request's message.
        holding: what the request may hold of the connection's memory.
        reply: where its answer goes.
    """

    def __init__(
        self,
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
        self._request = request
        self._size = size
        self._services = services
        self._pipeline = pipeline
        self._peer = peer
        self._holding = holding
        self._reply = reply
        self._granted: trio.Event | None = None  # while credit is waited for
        self._more_credit_may_come = True
        self._deadline: Deadline | None = None
        self._stopped_by: RequestError | None = None
        self._outcome = Outcome()
        self._began_ns = time.perf_counter_ns()

    def stop(self, error: RequestError) -> None:
        """End the request with this error, wherever it is; its upstream connection is closed."""
        if self._stopped_by is None:
            self._stopped_by = error
            if self._deadline is not None:
                self.has_used_scope = True
                self._deadline.scope.cancel()

    def credit_granted(self) -> None:
        """The window has credit again."""
        if self._granted is not None:
            self._granted.set()

    def no_more_credit(self) -> None:
        """The client has ended its sending: what its window does not hold, it can never take."""
        self._more_credit_may_come = False
        self.credit_granted()

    async def run(self, scope: trio.CancelScope) -> None:
        """Run it and send its answer.

        Args:
            scope: around it. Its time limits and ``stop`` cancel that; its answer is for ``stopped`` to send then.
        """
        payload = None
        error: RequestError | None = None
        try:
            self._holding.hold(self._size)
            payload = await self._execute(scope)
            error = self._stopped_by
        except RequestError as failure:
            error = self._stopped_by or failure
        except ClientDoesNotRead:
            raise
        except Exception:
            error = self._internal_error()
        finally:
            self._holding.release()
            if self._deadline is not None and self._deadline.end():
                self.has_used_scope = True
        self._answer(payload, error)

    def stopped(self) -> None:
        """Its scope has caught its cancellation: send its answer."""
        assert self._deadline is not None
        self._answer(None, self._stopped_by or self._deadline.passed())

    def left(self) -> None:
        """It was cancelled with its connection: nobody is there to be answered."""
        error = RequestError(ErrorClass.CANCELLED, "the client left, or the runtime was stopped")
        self._log_line(error, self._duration_us())

    def _answer(self, payload: bytes | None, error: RequestError | None) -> None:
        duration_us = self._duration_us()
        if self._reply.window is not None:
            # Of a stream all has been delivered; its client's next request waits for this line otherwise.
            self._log_line(error, duration_us)
        try:
            self._reply.send(self._terminal(payload, error, duration_us))
        except LocalProtocolError:
            error = self._internal_error()
            self._reply.send(self._terminal(None, error, duration_us))
        if self._reply.window is None:
            self._log_line(error, duration_us)

    def _duration_us(self) -> int:
        return (time.perf_counter_ns() - self._began_ns) // 1000

    # --- the streamed answer: what a connector's call sees ---

    async def head(self, status_code: int, headers: tuple[tuple[str, str], ...]) -> None:
        """Send the header block."""
        self._reply.send(
            ResponseHead(
                request_id=self.request_id,
                status_code=status_code,
                headers=headers,
                attempts=self._outcome.attempts,
            )
        )

    async def piece(self, data: bytes) -> None:
        """Send a piece of the body as it is, or as far as the client takes it, and wait until it takes more."""
        window = self._reply.window
        assert window is not None
        size, sent = len(data), 0
        while sent < size:
            if (full := self._reply.full()) is not None:
                await self._wait_for_client(full)
            elif taken := window.take(min(size - sent, MAX_CHUNK_BYTES)):
                chunk = data if taken == size else data[sent : sent + taken]
                self._reply.send_chunk(chunk)
                sent += taken
            elif not self._more_credit_may_come:
                raise InvalidRequest("the client ended its sending, and the stream is longer than its credit")
            else:
                self._granted = trio.Event()
                await self._wait_for_client(self._granted)
                self._granted = None

    async def _wait_for_client(self, event: trio.Event) -> None:
        assert self._deadline is not None
        self._deadline.suspend("waiting for the client to read")
        await event.wait()
        self._deadline.resume()

    # --- inside ---

    async def _execute(self, scope: trio.CancelScope) -> bytes | None:
        request = self._request
        connector = CONNECTORS.get(request.connector_name)
        if connector is None:
            known = ", ".join(sorted(CONNECTORS))
            raise InvalidRequest(f"Unknown connector: {request.connector_name[:64]} (known: {known})")
        if self._stopped_by is not None:  # before it began
            raise self._stopped_by
        call = connector.prepare(request, self._outcome)
        passage = self._pipeline.passage(
            request.tenant_id,
            call.origin,
            deadline_at_ms=request.deadline_at_ms,
            timeout_ms=call.timeout_ms,
            peer=self._peer,
            scope=scope,
        )
        self._deadline = passage.deadline
        if call.origin and not passage.try_enter():
            await self._entered(passage)
        with passage:
            if request.response_mode is ResponseMode.STREAM:
                await call.stream(self._services, passage, self)
                return None
            return await call.execute(self._services, passage, self._holding.hold)

    async def _entered(self, passage: Passage) -> None:
        try:
            await passage.enter()
        finally:
            self._outcome.queued_s = passage.queued_s

    def _terminal(self, payload: bytes | None, error: RequestError | None, duration_us: int) -> Message:
        error_class = error.error_class if error else ErrorClass.SUCCESS
        error_message = error.message if error else None
        payload = None if error else payload
        if self._request.response_mode is ResponseMode.STREAM:
            return ResponseEnd(
                request_id=self.request_id,
                error_class=error_class,
                error_message=error_message,
                duration_us=duration_us,
                retry_after_ms=error.retry_after_ms if error else 0,
                attempts=self._outcome.attempts,
            )
        return ExecuteResponse(
            request_id=self.request_id,
            error_class=error_class,
            error_message=error_message,
            payload=payload,
            duration_us=duration_us,
            retry_after_ms=error.retry_after_ms if error else 0,
            attempts=self._outcome.attempts,
        )

    def _internal_error(self) -> RequestError:
        """A mistake of ours, being handled: it must not take the connection's other requests with it."""
        log.exception("internal error", tenant=clean(self._request.tenant_id), origin=self._outcome.origin)
        return RequestError(ErrorClass.PERMANENT, "internal error of the runtime; its log has the details")

    def _log_line(self, error: RequestError | None, duration_us: int) -> None:
        request = self._request
        write_request(RequestFields(self._outcome, request.tenant_id, request.trace_id, error, duration_us))
