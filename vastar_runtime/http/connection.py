"""One HTTP/1.1 connection over a trio stream; what goes wrong on it is translated here and nowhere else."""

from __future__ import annotations

import select
from collections.abc import Callable

import h11
import trio

from vastar_runtime.errors import Failure, UpstreamError

from .reading import close_at_once, has_undecrypted, read_some, under_tls, write_some
from .request import Headers, OutboundRequest, written
from .response import END, INTERIM, MAX_HEADER_BLOCK_BYTES, MAX_HEADERS, NEED_DATA, Event, ResponseHead
from .response_reader import ResponseReader
from .upload import Upload
from .url import Origin

READ_BYTES = 65_536
# Interim responses before the final one: a 103 or two are usual.
MAX_INTERIM_RESPONSES = 32
# Up to here, head and body leave in one write; on an idle connection the kernel takes that whole or not at all.
SINGLE_WRITE_BYTES = 16_384

Progress = Callable[[str], None]


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
        address: the IP address that it leads to; None: a proxy knows.
        is_direct: there is no proxy in between.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        name: str,
        *,
        origin_form_prefix: str = "",
        extra_headers: Headers = (),
        address: str | None = None,
        is_direct: bool = False,
    ) -> None:
        self.stream = stream
        self.name = name
        self.address = address
        self.is_direct = is_direct
        # What is waited for, as a time limit's error says it; said for every request, so made once.
        self.sending = f"sending the request to {name}"
        self.awaiting_head = f"waiting for the response head from {name}"
        self.reading_body = f"reading the response body from {name}"
        self.exchanges = 0
        self.expires_at = 0.0  # while it is idle, in trio's time: the pool's
        self.has_written = False
        self._origin_form_prefix = origin_form_prefix
        self._extra_lines = written(extra_headers)
        self._reader = ResponseReader()
        self._has_received = False  # any byte of the response
        self.head_received = False
        self._ended = False  # the upstream has closed its side
        self._unsent = b""  # of a request of one write, what the kernel has not taken
        self._upload: Upload | None = None  # of a body that is too large for one write
        self._is_unsent = False  # an upload has ended before all of it was
        self._write_error: BaseException | None = None
        self.progress: Progress = _unheard
        self._idle_poll: select.poll | None = None
        self._read_error: trio.BrokenResourceError | None = None  # found by who does not raise it

    # --- one exchange ---

    async def send_request(self, request: OutboundRequest, progress: Progress) -> None:
        """Write the head, and the body if it is small; a larger one is written while the response is read.

        Raises:
            ConnectionLost: nothing was written at all.
        """
        self._begin(progress)
        head = self._written_head(request)
        try:
            if len(head) + len(request.body) <= SINGLE_WRITE_BYTES:
                data = head + request.body
                written = write_some(self.stream, data)
                if written < len(data):
                    await self.stream.send_all(data[written:])
            else:
                await self.stream.send_all(head)
                self._upload = Upload(self.stream, request.body, self)
                await self._upload.begin()
            self.has_written = True
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._write_error = error
            raise self._lost("was closed", error) from error

    async def send_rest(self) -> None:
        """After ``PromptConnection.try_send``: write what the kernel has not taken.

        Raises:
            ConnectionLost: it broke.
        """
        data, self._unsent = self._unsent, b""
        try:
            await self.stream.send_all(data)
            self.has_written = True
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._write_error = error
            raise self._lost("was closed", error) from error

    @property
    def has_rest(self) -> bool:
        """Whether there is something for ``send_rest`` to do."""
        return bool(self._unsent)

    def _begin(self, progress: Progress) -> None:
        self.exchanges += 1
        self.has_written = False
        self._has_received = self.head_received = False
        self._write_error = None
        self._is_unsent = False
        self.progress = progress

    def _written_head(self, request: OutboundRequest) -> bytes:
        """Request line and header block (RFC 9112, sections 3 and 5), of what complete_request has checked."""
        self._reader.begin(request.method, request.closes)
        line = f"{request.method} {self._origin_form_prefix}{request.url.target} HTTP/1.1\r\n".encode("ascii")
        return b"%b%b%b\r\n" % (line, request.lines, self._extra_lines)

    def when_sent(self, call: Callable[[], None]) -> None:
        """Have this called when the request has been written whole: at once, if it has been."""
        if self._upload is None or self._upload.has_ended:
            call()
        else:
            self._upload.when_sent = call

    async def receive_head(self) -> ResponseHead:
        """The final response's head; interim ones (1xx, RFC 9110, section 15.2) are passed over.

        Raises:
            ConnectionLost: the connection ended first.
            UpstreamError: what came is not HTTP/1.1.
        """
        if not self._reader.has_more:
            await self._read()  # it has only just been asked for
        for _ in range(MAX_INTERIM_RESPONSES + 1):
            event = await self._next_event()
            if isinstance(event, ResponseHead):
                self.head_received = True
                if len(event.headers) > MAX_HEADERS:
                    raise UpstreamError(f"{self.name} sent {len(event.headers)} header fields, more than {MAX_HEADERS}")
                return event
            if event is not INTERIM:
                raise UpstreamError(f"{self.name} sent something other than a response")
        raise UpstreamError(f"{self.name} sent more than {MAX_INTERIM_RESPONSES} interim responses")

    async def receive_body(self) -> bytes | None:
        """The next piece of the body as it arrives, or None at its end.

        Raises:
            ConnectionLost: the body was cut short.
            UpstreamError: its framing is not HTTP/1.1.
        """
        event = await self._next_event()
        if isinstance(event, bytes):
            if self._reader.has_more:
                await trio.lowlevel.checkpoint()  # of what one read brings, others would wait for all of it
            return event
        if event is not END:
            raise UpstreamError(f"{self.name} sent something other than the response's body")
        if self._upload is not None:
            await self._upload.wait()  # the upstream has said all, and may still be reading
            await self.end_upload()
        return None

    def take_whole_body(self) -> bytes | None:
        """What ``receive_body`` would bring up to the end, if it can be told at once; else None."""
        return self._reader.take_whole_body() if self._upload is None else None

    async def end_upload(self) -> None:
        """Stop the body's writer. For the task that sent the request only: the nursery is its own."""
        upload, self._upload = self._upload, None
        if upload is not None:
            await upload.end()
            self._is_unsent = upload.is_unsent
            self._write_error = upload.error

    def buffered_end(self) -> bool:
        """True when the end of the body has arrived already, so that nothing need be waited for."""
        try:
            return self._upload is None and self._parse() is END
        except UpstreamError:
            return False

    def reuse(self) -> bool:
        """After a complete exchange: whether the connection may carry the next one; else it must be closed."""
        if self._ended or self._is_unsent or self._write_error is not None:
            return False  # closed by the upstream, which is a body's end too; or not all of the request was taken
        # More than one answer to one request: nobody knows what the rest belongs to.
        return self._reader.may_go_on and not has_undecrypted(self.stream)

    def rest(self) -> None:
        """The exchange is over: until the next one nothing of this one is kept."""
        self._reader.forget()
        self.has_written = False
        self.progress = _unheard

    # --- when idle ---

    def has_died(self) -> bool:
        """While idle nothing may arrive: if the socket is readable, it was closed, or is about to be."""
        if self._idle_poll is None:
            stream = under_tls(self.stream)
            if not isinstance(stream, trio.SocketStream):
                return False
            self._idle_poll = select.poll()
            self._idle_poll.register(stream.socket.fileno(), select.POLLIN)
        return bool(self._idle_poll.poll(0))

    async def close(self) -> None:
        """Close at once, without a TLS goodbye; a cancelled scope sees its cancellation at its next checkpoint, so
        that closing several connections closes them all."""
        try:
            await self.end_upload()
        finally:
            await close_at_once(self.stream)

    # --- inside ---

    def _parse(self) -> Event:
        """The next event in what has arrived."""
        try:
            return self._reader.next_event()
        except h11.RemoteProtocolError as error:
            if self._ended:
                raise ConnectionLost(f"{self.name} cut the response body short", before_response=False) from error
            if error.error_status_hint == 431:
                raise UpstreamError(
                    f"{self.name} sent a header block of over {MAX_HEADER_BLOCK_BYTES} bytes"
                ) from error
            raise UpstreamError(f"{self.name} does not speak HTTP/1.1: {without_quotation(error)}") from error

    async def _next_event(self) -> Event:
        while (event := self._parse()) is NEED_DATA:
            await self._read()
        return event

    async def _read(self) -> None:
        try:
            if self._read_error is not None:
                raise self._read_error
            data = await read_some(self.stream, READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise self._lost("was reset", self._error_of_writing or error) from error
        if data:
            self._has_received = True
        elif not self.head_received:
            raise self._lost("was closed", self._error_of_writing)
        else:
            self._ended = True
        self._reader.receive_data(data)

    @property
    def _error_of_writing(self) -> BaseException | None:
        return self._write_error if self._upload is None else self._upload.error

    def _lost(self, how: str, error: BaseException | None) -> ConnectionLost:
        if self.head_received:
            when = "inside the response body"
        elif self._has_received:
            when = "inside the response head"
        else:
            when = "before a response came"
        reason = _system_reason(error)
        failure = Failure.OTHER if self.head_received else Failure.LOST if self.has_written else Failure.UNSENT
        return ConnectionLost(
            f"the connection to {self.name} {how} {when}{reason}",
            before_response=not self._has_received,
            failure=failure,
        )


def without_quotation(error: h11.RemoteProtocolError) -> str:
    """What h11 says, without what it quotes: an upstream may have sent back what it was shown."""
    return str(error).partition(":")[0].partition("b'")[0].partition("bytearray(")[0].strip()


def _unheard(waiting_for: str) -> None:
    """Progress before the first request."""


def _system_reason(error: BaseException | None) -> str:
    """The operating system's words, from under trio's."""
    cause = error.__cause__ if error is not None else None
    return f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""


def connection_name(origin: Origin, proxy: Origin | None) -> str:
    """What errors call a connection."""
    return origin.address if proxy is None else f"{origin.address} through the proxy {proxy.address}"
