"""One client's connection: reads frames, runs requests concurrently, answers each as it completes."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

import msgspec
import structlog
import trio

from connector_sdk.wire import (
    BadFrameLength,
    CreditUpdate,
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    Frame,
    FrameDecoder,
    HealthCheck,
    HealthCheckResponse,
    MalformedMessage,
    Message,
    MessageType,
    PayloadFormat,
    ResponseMode,
    UnknownMessageType,
    decode_message,
    encode_message,
)
from vastar_runtime.connectors import Services
from vastar_runtime.telemetry.log import clean

from .memory import Holding, MemoryBudget
from .outbox import MAX_PENDING_FRAMES, ClientDoesNotRead, Outbox
from .request import answer

log = structlog.get_logger()

MAX_REQUESTS_IN_FLIGHT = 1024
READ_BYTES = 65_536
# After a frame that ends the connection: how long a client that is still sending may go on, so that it gets to
# read why instead of a broken pipe.
LINGER_S = 5.0
# The kernel wakes nobody when a client that had ended its sending goes altogether.
HALF_CLOSED_CHECK_S = 0.1
# Names stay in tables after their request has ended (idle connections, by tenant), and on every line of the log.
MAX_NAME_CHARACTERS = 256


class Health(msgspec.Struct, frozen=True):
    """What a HealthCheck tells of the whole daemon."""

    version: str
    uptime_ms: int
    active_requests: int
    is_draining: bool


class Session:
    """The state of one connection.

    Args:
        health: asked at each HealthCheck.
        memory: what this connection may hold.
        idle_timeout_s: see Settings.timeout_s.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        services: Services,
        *,
        idle_timeout_s: float,
        health: Callable[[], Health],
        memory: MemoryBudget | None = None,
    ) -> None:
        self._stream = stream
        self._services = services
        self._idle_timeout_s = idle_timeout_s
        self._health = health
        self._memory = memory or MemoryBudget()
        self._outbox = Outbox(stream, self._memory)
        self._in_flight: set[int] = set()
        self._is_draining = False
        self._requests: trio.Nursery | None = None

    @property
    def active_requests(self) -> int:
        """Requests in flight."""
        return len(self._in_flight)

    async def run(self) -> None:
        """Serve the connection until the client goes, or the session is drained. Closes the stream.

        A client's loss cancels its requests; nothing is raised for anything that a client does.
        """
        framing_is_lost = False
        try:
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                # The requests end before the connection does: none of them writes to what is being closed.
                async with trio.open_nursery(strict_exception_groups=True) as requests:
                    self._requests = requests
                    framing_is_lost = await self._read()
                    requests.cancel_scope.cancel()
                if framing_is_lost:
                    await self._linger()
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone, and with it all that was to be done
        except* ClientDoesNotRead:
            log.warning("connection dropped: the client does not read its answers", waiting_frames=MAX_PENDING_FRAMES)
        finally:
            self._memory.close()
            await trio.aclose_forcefully(self._stream)

    def drain(self) -> None:
        """Refuse new requests; end once those in flight are answered."""
        self._is_draining = True
        if not self._in_flight:
            self._outbox.finish()

    # --- reading ---

    async def _read(self) -> bool:
        """Read until the client ends; True when its framing was lost, so that nothing more can be read."""
        decoder = FrameDecoder()
        unfinished_bytes = 0
        while data := await self._stream.receive_some(READ_BYTES):
            decoder.receive_data(bytes(data))
            try:
                while (frame := decoder.next_frame()) is not None:
                    self._dispatch(frame)
            except BadFrameLength as error:
                self._refuse(0, ErrorClass.INVALID_REQUEST, f"{error}; the connection is closed")
                return True
            self._memory.add(decoder.pending_bytes - unfinished_bytes)
            unfinished_bytes = decoder.pending_bytes
        if _still_reads(self._stream):
            # It has only ended its sending: what it asked for, it waits for.
            self.drain()
            while _still_reads(self._stream):  # noqa: ASYNC110 - there is no event; see the constant
                await trio.sleep(HALF_CLOSED_CHECK_S)
        return False

    async def _linger(self) -> None:
        """Let the answer out and let the client come to read it."""
        with trio.move_on_after(LINGER_S):
            await self._outbox.drained()
            await self._stream.send_eof()
            while await self._stream.receive_some(READ_BYTES):
                pass

    def _dispatch(self, frame: Frame) -> None:
        try:
            message = decode_message(frame.message_type, frame.payload)
        except UnknownMessageType as error:
            self._refuse(0, ErrorClass.INVALID_REQUEST, f"Invalid FlatBuffers message: {error}")
            return
        except MalformedMessage as error:
            # The answer's words are the contract's; the log says where the message broke.
            log.warning("invalid message", message_type=frame.message_type, reason=clean(str(error)))
            self._refuse(0, ErrorClass.INVALID_REQUEST, "Invalid FlatBuffers message")
            return
        if isinstance(message, ExecuteRequest):
            self._admit(message, len(frame.payload))
        elif isinstance(message, HealthCheck):
            self._send(self._health_response())
        elif isinstance(message, CreditUpdate):
            pass  # the existing SDKs know the message; a buffered answer needs no credit
        else:
            name = MessageType(frame.message_type).name
            self._refuse(
                0, ErrorClass.INVALID_REQUEST, f"Invalid FlatBuffers message: {name} is not for a client to send here"
            )

    # --- requests ---

    def _admit(self, request: ExecuteRequest, size: int) -> None:
        if self._is_draining:
            self._refuse(
                request.request_id,
                ErrorClass.TRANSIENT,
                "the runtime is draining and takes no new requests; connect again",
            )
        elif request.request_id in self._in_flight:
            self._refuse(
                request.request_id,
                ErrorClass.INVALID_REQUEST,
                f"request_id {request.request_id} is in flight on this connection already",
            )
        elif reason := _unusable(request):
            self._refuse(request.request_id, ErrorClass.INVALID_REQUEST, reason)
        elif len(self._in_flight) >= MAX_REQUESTS_IN_FLIGHT:
            self._refuse(
                request.request_id,
                ErrorClass.RATE_LIMITED,
                f"{MAX_REQUESTS_IN_FLIGHT} requests are in flight on this connection; wait for answers",
            )
        else:
            assert self._requests is not None
            self._in_flight.add(request.request_id)
            self._requests.start_soon(self._run_request, request, size)

    async def _run_request(self, request: ExecuteRequest, size: int) -> None:
        holding = Holding(self._memory)
        try:
            frame = await answer(request, size, self._services, self._idle_timeout_s, holding)
        finally:
            holding.release()
            self._in_flight.discard(request.request_id)
        self._outbox.put(frame)
        if self._is_draining and not self._in_flight:
            self._outbox.finish()

    # --- answering ---

    async def _write(self, connection: trio.CancelScope) -> None:
        await self._outbox.run()
        connection.cancel()  # all is answered, and nothing more is to come

    def _send(self, message: Message) -> None:
        self._outbox.put(encode_message(message))

    def _refuse(self, request_id: int, error_class: ErrorClass, message: str) -> None:
        self._send(ExecuteResponse(request_id=request_id, error_class=error_class, error_message=message))

    def _health_response(self) -> HealthCheckResponse:
        health = self._health()
        return HealthCheckResponse(
            healthy=not health.is_draining,
            message="draining" if health.is_draining else "ok",
            active_requests=health.active_requests,
            available_credits=MAX_REQUESTS_IN_FLIGHT - len(self._in_flight),
            version=health.version,
            uptime_ms=health.uptime_ms,
            draining=health.is_draining,
        )


def _unusable(request: ExecuteRequest) -> str:
    """Why a request that is well formed cannot be run; empty when it can."""
    for field in ("tenant_id", "workspace_id", "trace_id"):
        size = len(getattr(request, field) or "")
        if size > MAX_NAME_CHARACTERS:
            return f"{field} has {size} characters; at most {MAX_NAME_CHARACTERS} are allowed"
    if request.response_mode is not ResponseMode.BUFFERED:
        return "response_mode Stream needs a Hello, which this version does not take yet"
    if request.payload_format is not PayloadFormat.JSON:
        return "payload_format HttpRequest is not supported by this version"
    return ""


def _still_reads(stream: trio.abc.Stream) -> bool:
    """After a client's end of sending: whether it is still there. Only a Unix socket can tell (poll(2), POLLHUP)."""
    if not isinstance(stream, trio.SocketStream) or stream.socket.family != socket.AF_UNIX:
        return False
    poll = select.poll()
    poll.register(stream.socket.fileno(), 0)  # POLLHUP is reported without being asked for
    return not poll.poll(0)
