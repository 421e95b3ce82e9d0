"""One client's connection: reads frames, runs requests concurrently, answers each as it completes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import structlog
import trio

from connector_sdk.wire import (
    MAX_FRAME_BYTES,
    BadFrameLength,
    Cancel,
    CreditUpdate,
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    GoAway,
    HealthCheck,
    Hello,
    Message,
    ResponseMode,
    encode_message,
)
from connector_sdk.wire.daemon_connection import (
    Admitted,
    BadCredit,
    DaemonConnection,
    DaemonEvent,
    Refused,
)
from vastar_runtime import __version__
from vastar_runtime.connectors import Services
from vastar_runtime.errors import InvalidRequest, RequestError
from vastar_runtime.http.readiness import after_turn, watch
from vastar_runtime.http.reading import close_at_once, read_now, read_some
from vastar_runtime.policies.pipeline import Pipeline
from vastar_runtime.telemetry.log import clean

from .health import Health, health_response
from .memory import Holding, MemoryBudget
from .outbox import MAX_PENDING_FRAMES, ClientDoesNotRead, Outbox
from .peer import is_sending, peer_of, still_reads
from .reply import Reply
from .runners import Runners
from .running import RunningRequest

log = structlog.get_logger()

READ_BYTES = 65_536
# After a frame that ends the connection: how long a client that is still sending may go on, so that it gets to
# read why instead of a broken pipe.
LINGER_S = 5.0
# The kernel wakes nobody when a client that had ended its sending goes altogether.
HALF_CLOSED_CHECK_S = 0.025
# One read may hold twelve thousand frames; after so many of them, about 2 ms if all are requests, others get their
# turn.
EVENTS_PER_TURN = 32
PROTOCOL_VERSION = 1


class Session:
    """One connection: reads events of its protocol state, runs requests, hands messages to its writer.

    Args:
        health: asked at each HealthCheck.
        pipeline: what every request goes through.
        memory: what this connection may hold.
        on_requests: told +1 and -1 as requests begin and end.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        services: Services,
        pipeline: Pipeline,
        *,
        health: Callable[[], Health],
        memory: MemoryBudget | None = None,
        on_requests: Callable[[int], None] | None = None,
    ) -> None:
        self._stream = stream
        self._services = services
        self._pipeline = pipeline
        self._peer = peer_of(stream)
        self._health = health
        self._memory = memory or MemoryBudget()
        self._on_requests = on_requests
        self._outbox = Outbox(stream, self._memory, self._start_writer)
        self._wire = DaemonConnection()
        self._running: dict[int, RunningRequest] = {}
        self._connection: trio.Nursery | None = None
        self._needs_writer = False
        self._runners = Runners(self.ended)
        self._needs_task = trio.Event()  # there is something that cannot be done in nobody's task
        self._has_ended = self._framing_is_lost = False
        self._unfinished_bytes = 0  # of a frame

    @property
    def active_requests(self) -> int:
        """Requests in flight."""
        return len(self._running)

    async def run(self) -> None:
        """Serve the connection until the client goes, or the session is drained. Closes the stream.

        A client's loss cancels its requests; nothing is raised for anything that a client does.
        """
        try:
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                self._connection = nursery
                if self._needs_writer:
                    self._start_writer()
                # The requests end before the connection does: none of them writes to what is being closed.
                try:
                    async with trio.open_nursery(strict_exception_groups=True) as requests:
                        self._runners.nursery = requests
                        try:
                            await self._read()
                        finally:
                            for running in list(self._running.values()):
                                running.run_in_task()  # where it is cancelled
                        requests.cancel_scope.cancel()
                    if self._framing_is_lost:
                        await self._linger()
                finally:
                    self._connection = None  # what is still to be written needs no writer any more
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone, and with it all that was to be done
        except* ClientDoesNotRead:
            log.warning("connection dropped: the client does not read its answers", waiting_frames=MAX_PENDING_FRAMES)
        finally:
            self._memory.close()
            await close_at_once(self._stream)

    def drain(self) -> None:
        """Refuse new requests; end once those in flight are answered."""
        if self._wire.has_hello and not self._wire.is_draining:
            # To a client that does not read, nothing can be said; its next frame drops the connection.
            with contextlib.suppress(ClientDoesNotRead):
                self._outbox.put(self._wire.send(GoAway(reason="the runtime is draining")))
        self._end_once_answered()

    def _end_once_answered(self) -> None:
        self._wire.is_draining = True
        if not self._running:
            self._outbox.finish()

    # --- reading ---

    async def _read(self) -> None:
        """Read until the client ends, or its framing is lost, so that nothing more can be read."""
        if not (type(self._stream) is trio.SocketStream and await self._read_when_ready(self._stream.socket.fileno())):
            while not self._framing_is_lost and (data := await read_some(self._stream, READ_BYTES)):
                self._wire.receive_data(data)
                await self._handle_all()
        if not self._framing_is_lost and still_reads(self._stream):
            # It has only ended its sending: what it asked for, it waits for.
            self._end_once_answered()
            for running in list(self._running.values()):
                if running.stream is not None:
                    running.stream.no_more_credit()
            while still_reads(self._stream):  # noqa: ASYNC110 - there is no event; see the constant
                await trio.sleep(HALF_CLOSED_CHECK_S)

    async def _read_when_ready(self, fd: int) -> bool:
        """Read and handle without a task, for as long as there is nothing else to do about it than that. False: the
        kernel watches no more sockets."""
        while not (self._has_ended or self._framing_is_lost):
            self._needs_task = trio.Event()
            try:
                watched = watch(fd, lambda: self._on_readable(fd))
            except OSError:
                return False
            try:
                await self._needs_task.wait()
            finally:
                watched.stop()
            if not (self._has_ended or self._framing_is_lost):
                await self._handle_all()
        return True

    def _on_readable(self, fd: int) -> None:
        if self._needs_task.is_set():
            return
        try:
            data = read_now(fd, READ_BYTES)
            if data is None:
                return
            self._has_ended = not data
            self._wire.receive_data(data)
            if self._has_ended or not self._handle_some() or self._framing_is_lost:
                self._needs_task.set()
        except Exception as error:
            self._needs_task.set()
            self.fail(error)

    async def _handle_all(self) -> None:
        while not self._handle_some():
            await trio.lowlevel.checkpoint()

    def _handle_some(self) -> bool:
        """Handle what has arrived; False: others get their turn before the rest."""
        try:
            for _ in range(EVENTS_PER_TURN):
                event = self._wire.next_event()
                if event is None:
                    break
                self._handle(event)
            else:
                return False
        except BadFrameLength as error:
            self._framing_is_lost = True
            log.warning("invalid frame; the connection is closed", reason=clean(str(error)))
            message = f"{error}; the connection is closed"
            self._refuse(ExecuteResponse(request_id=0, error_class=ErrorClass.INVALID_REQUEST, error_message=message))
            return True
        if (pending_bytes := self._wire.pending_bytes) != self._unfinished_bytes:
            self._memory.add(pending_bytes - self._unfinished_bytes)
            self._unfinished_bytes = pending_bytes
        return True

    async def _linger(self) -> None:
        """Let the answer out and let the client come to read it."""
        with trio.move_on_after(LINGER_S):
            await self._outbox.drained()
            await self._stream.send_eof()
            while await self._stream.receive_some(READ_BYTES):
                pass

    def _handle(self, event: DaemonEvent) -> None:
        if type(event) is Admitted:  # nearly all are; it is a third of a class pattern's time
            self._start(event.request, event.size)
            return
        match event:
            # A request that could not tell its end to a client that does not read is in flight for the wire only.
            case CreditUpdate(request_id=request_id):
                if (running := self._running.get(request_id)) and running.stream is not None:
                    running.stream.credit_granted()
            case Cancel(request_id=request_id):
                if running := self._running.get(request_id):
                    running.stop(RequestError(ErrorClass.CANCELLED, "cancelled by the client"))
            case BadCredit(request_id, reason):
                if running := self._running.get(request_id):
                    running.stop(InvalidRequest(reason))
            case Refused(answer, reason):
                if reason:
                    log.warning("invalid message", reason=clean(reason))
                self._refuse(answer)
            case HealthCheck():
                self._outbox.put(self._wire.send(health_response(self._health(), self._wire.available_credits)))
            case Hello():
                self._greet()

    # --- requests ---

    def _start(self, request: ExecuteRequest, size: int) -> None:
        request_id = request.request_id
        is_stream = request.response_mode is ResponseMode.STREAM
        running = self._running[request_id] = RunningRequest(
            self,
            request,
            size,
            self._services,
            self._pipeline,
            self._peer,
            Holding(self._memory),
            Reply(self._wire, self._outbox, request_id, self._wire.window(request_id) if is_stream else None),
        )
        if self._on_requests is not None:
            self._on_requests(1)
        running.begin()

    def run_in_task(self, running: RunningRequest) -> None:
        """See Host."""
        self._runners.run(running)

    def fail(self, error: Exception) -> None:
        """See Host."""
        self._runners.fail(error)

    def ended(self, running: RunningRequest) -> None:
        """See Host."""
        del self._running[running.request_id]
        if not after_turn(running.settle):  # first the answer leaves, and then it is read what it says was used
            running.settle()
        if self._on_requests is not None:
            self._on_requests(-1)
        if self._wire.is_draining and not self._running:
            self._outbox.finish()

    # --- answering ---

    def _start_writer(self) -> None:
        if self._connection is None:  # it is drained before it runs, or has run
            self._needs_writer = True
        else:
            self._connection.start_soon(self._write, self._connection.cancel_scope)

    async def _write(self, connection: trio.CancelScope) -> None:
        await self._outbox.run()
        # All is answered. Over TCP the end of it may still be in our kernel, and the client's next frame would be
        # answered with a reset, which discards that.
        with trio.move_on_after(LINGER_S):
            while is_sending(self._stream):  # noqa: ASYNC110 - there is no event
                await trio.sleep(HALF_CLOSED_CHECK_S)
        connection.cancel()

    def _refuse(self, answer: Message) -> None:
        self._outbox.put(encode_message(answer))

    def _greet(self) -> None:
        hello = Hello(
            protocol_version=PROTOCOL_VERSION,
            agent=f"vastar-runtime/{__version__}",
            max_frame_bytes=MAX_FRAME_BYTES,
            stream_window_bytes=self._wire.window_bytes,
        )
        credits = CreditUpdate(total_credits=self._wire.available_credits)
        self._outbox.put(self._wire.send(hello) + self._wire.send(credits))
