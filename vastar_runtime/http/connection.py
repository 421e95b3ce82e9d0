"""One HTTP/1.1 connection: h11 over a trio stream, its errors translated here and nowhere else."""

from __future__ import annotations

import contextlib
import select
import ssl
from collections.abc import Callable

import h11
import msgspec
import trio

from vastar_runtime.errors import Failure, UpstreamError

from .reading import read_some
from .request import Headers, OutboundRequest
from .url import Origin

READ_BYTES = 65_536
# h11's own limit is 16 KiB; some upstreams' policy and cookie headers are longer. A block of 1 MiB is an attack.
MAX_HEADER_BLOCK_BYTES = 64 * 1024
# As many as the wire's own tables take.
MAX_HEADERS = 4096
# Interim responses before the final one: a 103 or two are usual.
MAX_INTERIM_RESPONSES = 32
# An upstream may send a byte a chunk. What has arrived is joined into pieces, and after so many events others get
# their turn.
MAX_PIECE_BYTES = 65_536
MAX_EVENTS_PER_TURN = 128
# A body is handed to the kernel in slices, so that a slow upload is seen to move.
WRITE_BYTES = 65_536
# Up to here, head and body leave in one write; on an idle connection the kernel takes that whole or not at all.
SINGLE_WRITE_BYTES = 16_384

Progress = Callable[[str], None]


class ResponseHead(msgspec.Struct, frozen=True):
    """Status and header block of a final response; header names in lower case, in order."""

    status_code: int
    headers: Headers


class ConnectionLost(UpstreamError):
    """The connection broke. ``before_response``: not one byte of a response had arrived."""

    def __init__(self, cause: str, *, before_response: bool, failure: Failure = Failure.OTHER) -> None:
        super().__init__(cause, failure=failure)
        self.cause = cause
        self.before_response = before_response


class Connection:
    """A connection to an origin, directly or through a proxy; carries one exchange at a time.

    Args:
        stream: connected, handshakes done.
        name: "host:port" as errors name it.
        origin_form_prefix: what stands before the target on a request line: "" (RFC 9112, section 3.2.1), or
            "http://host" through a proxy (section 3.2.2).
        extra_headers: sent with every request: Proxy-Authorization.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        name: str,
        *,
        origin_form_prefix: str = "",
        extra_headers: Headers = (),
    ) -> None:
        self.stream = stream
        self.name = name
        self.exchanges = 0
        self.has_written = False
        self._origin_form_prefix = origin_form_prefix
        self._extra_headers = extra_headers
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BLOCK_BYTES)
        self._has_received = False  # any byte of the response
        self._head_received = False
        self._ended = False  # the upstream has closed its side
        self._ahead: object | None = None  # an event, or an UpstreamError, that was met while joining
        self._unsent_body: bytes | bytearray | memoryview = b""
        self._upload: contextlib.AsyncExitStack | None = None  # around the nursery of the task that writes it
        self._uploaded = trio.Event()
        self._write_error: BaseException | None = None
        self._progress: Progress = _unheard
        self._when_sent: Callable[[], None] | None = None

    # --- one exchange ---

    async def send_request(self, request: OutboundRequest, progress: Progress) -> None:
        """Write the head, and the body if it is small; a larger one is written while the response is read.

        Raises:
            ConnectionLost: nothing was written at all.
        """
        self.exchanges += 1
        self.has_written = False
        self._has_received = self._head_received = False
        self._ahead = None
        self._write_error = None
        self._progress = progress
        self._when_sent = None
        try:
            head = self._h11.send(
                h11.Request(
                    method=request.method,
                    target=self._origin_form_prefix + request.url.target,
                    headers=[*request.headers, *self._extra_headers],
                )
            )
            body = self._h11.send(h11.Data(request.body)) if request.body else b""
            self._h11.send(h11.EndOfMessage())
        except h11.LocalProtocolError as error:
            # build_request has checked everything that h11 checks; whatever is left is our mistake, said as such.
            raise UpstreamError(f"the request cannot be written as HTTP/1.1: {error}") from error
        assert head is not None
        assert body is not None
        try:
            if len(head) + len(body) <= SINGLE_WRITE_BYTES:
                await self.stream.send_all(head + body)
            else:
                await self.stream.send_all(head)
                self._unsent_body = body
                await self._begin_upload()
            self.has_written = True
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._write_error = error
            raise self._lost("was closed", error) from error

    def when_sent(self, call: Callable[[], None]) -> None:
        """Have this called when the request has been written whole: at once, if it has been."""
        if self._upload is None or self._uploaded.is_set():
            call()
        else:
            self._when_sent = call

    async def receive_head(self) -> ResponseHead:
        """The final response's head; interim ones (1xx, RFC 9110, section 15.2) are passed over.

        Raises:
            ConnectionLost: the connection ended first.
            UpstreamError: what came is not HTTP/1.1.
        """
        for _ in range(MAX_INTERIM_RESPONSES + 1):
            event = await self._next_event()
            if isinstance(event, h11.Response):
                self._head_received = True
                if len(event.headers) > MAX_HEADERS:
                    raise UpstreamError(f"{self.name} sent {len(event.headers)} header fields, more than {MAX_HEADERS}")
                return ResponseHead(event.status_code, tuple((bytes(n), bytes(v)) for n, v in event.headers))
            if not isinstance(event, h11.InformationalResponse):
                raise UpstreamError(f"{self.name} sent something other than a response")
        raise UpstreamError(f"{self.name} sent more than {MAX_INTERIM_RESPONSES} interim responses")

    async def receive_body(self) -> bytes | None:
        """The next piece of the body as it arrives, or None at its end.

        Raises:
            ConnectionLost: the body was cut short.
            UpstreamError: its framing is not HTTP/1.1.
        """
        event = await self._next_event()
        if isinstance(event, h11.EndOfMessage):
            if self._upload is not None:
                await self._uploaded.wait()  # the upstream has said all, and may still be reading
                await self.end_upload()
            return None
        if not isinstance(event, h11.Data):
            raise UpstreamError(f"{self.name} sent something other than the response's body")
        pieces = [event.data]
        size = len(event.data)
        while size < MAX_PIECE_BYTES and len(pieces) < MAX_EVENTS_PER_TURN:
            try:
                event = self._parse()
            except UpstreamError as error:
                self._ahead = error
                break
            if not isinstance(event, h11.Data):
                self._ahead = None if event is h11.NEED_DATA else event
                break
            pieces.append(event.data)
            size += len(event.data)
        else:
            await trio.lowlevel.checkpoint()
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    async def end_upload(self) -> None:
        """Stop the body's writer. For the task that sent the request only: the nursery is its own."""
        upload, self._upload = self._upload, None
        if upload is not None:
            await upload.aclose()

    def buffered_end(self) -> bool:
        """True when the end of the body has arrived already, so that nothing need be waited for."""
        try:
            return self._upload is None and isinstance(self._parse(), h11.EndOfMessage)
        except UpstreamError:
            return False

    def reuse(self) -> bool:
        """After a complete exchange: make ready for the next one; False when the connection must be closed."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        if self._ended or self._unsent_body or self._write_error is not None:
            return False  # closed by the upstream, which h11 takes for the end of a body; or not all of it was taken
        if self._h11.trailing_data[0] or self._has_undecrypted():
            return False  # more than one answer to one request: nobody knows what the rest belongs to
        self._h11.start_next_cycle()
        return True

    # --- when idle ---

    def has_died(self) -> bool:
        """While idle nothing may arrive: if the socket is readable, it was closed, or is about to be."""
        stream = self.stream
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        if not isinstance(stream, trio.SocketStream):
            return False
        poll = select.poll()
        poll.register(stream.socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    async def close(self) -> None:
        """Close at once, without a TLS goodbye; a cancelled scope sees its cancellation at its next checkpoint, so
        that closing several connections closes them all."""
        try:
            await self.end_upload()
        finally:
            with trio.CancelScope(shield=True):  # nothing is waited for inside: aclose_forcefully cancels itself
                await trio.aclose_forcefully(self.stream)

    # --- inside ---

    async def _begin_upload(self) -> None:
        """Have the body written by a task of its own, from here to the exchange's end.

        An upstream may answer before it has read everything: a 413, say, and then close. Whoever writes to the end
        first reads a reset instead of that answer; and an upstream that echoes what it reads waits for its reader.
        """
        self._uploaded = trio.Event()
        self._upload = contextlib.AsyncExitStack()
        nursery = await self._upload.enter_async_context(trio.open_nursery())
        self._upload.callback(nursery.cancel_scope.cancel)
        nursery.start_soon(self._send_body)

    async def _send_body(self) -> None:
        """Write what is left of the body. A failure is remembered, and reported only if no answer can be read."""
        body = memoryview(self._unsent_body)
        self._progress(f"sending the request body to {self.name}")
        try:
            for start in range(0, len(body), WRITE_BYTES):
                await self.stream.send_all(body[start : start + WRITE_BYTES])
                self._progress(f"sending the request body to {self.name}")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._write_error = error
        else:
            self._unsent_body = b""
            if not self._head_received:
                self._progress(f"waiting for the response head from {self.name}")
        finally:
            self._uploaded.set()
            if self._when_sent is not None and not self._head_received:
                self._when_sent()

    def _has_undecrypted(self) -> bool:
        """Bytes that came with the end of a response and lie in TLS's own buffer, where no socket shows them."""
        stream = self.stream
        while isinstance(stream, trio.SSLStream):
            try:
                # trio offers no read that does not wait. One that finds nothing also takes in session tickets.
                stream._ssl_object.read(1)
            except ssl.SSLWantReadError:
                stream = stream.transport_stream
            except ssl.SSLError:
                return True  # the goodbye, or garbage
            else:
                return True
        return False

    def _parse(self) -> object:
        """The next event in what has arrived."""
        ahead, self._ahead = self._ahead, None
        if isinstance(ahead, UpstreamError):
            raise ahead
        if ahead is not None:
            return ahead
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            if self._ended:
                raise ConnectionLost(f"{self.name} cut the response body short", before_response=False) from error
            if error.error_status_hint == 431:
                raise UpstreamError(
                    f"{self.name} sent a header block of over {MAX_HEADER_BLOCK_BYTES} bytes"
                ) from error
            raise UpstreamError(f"{self.name} does not speak HTTP/1.1: {error}") from error

    async def _next_event(self) -> object:
        while True:
            event = self._parse()
            if event is not h11.NEED_DATA:
                return event
            try:
                data = await read_some(self.stream, READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise self._lost("was reset", self._write_error or error) from error
            if data:
                self._has_received = True
            elif not self._head_received:
                raise self._lost("was closed", self._write_error)
            else:
                self._ended = True
            self._h11.receive_data(data)

    def _lost(self, how: str, error: BaseException | None) -> ConnectionLost:
        if self._head_received:
            when = "inside the response body"
        elif self._has_received:
            when = "inside the response head"
        else:
            when = "before a response came"
        reason = _system_reason(error)
        failure = Failure.OTHER if self._head_received else Failure.LOST if self.has_written else Failure.UNSENT
        return ConnectionLost(
            f"the connection to {self.name} {how} {when}{reason}",
            before_response=not self._has_received,
            failure=failure,
        )


def _unheard(waiting_for: str) -> None:
    """Progress before the first request."""


def _system_reason(error: BaseException | None) -> str:
    """The operating system's words, from under trio's."""
    cause = error.__cause__ if error is not None else None
    return f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""


def connection_name(origin: Origin, proxy: Origin | None) -> str:
    """What errors call a connection."""
    return origin.address if proxy is None else f"{origin.address} through the proxy {proxy.address}"
