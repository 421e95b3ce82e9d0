"""One request and its response, from the pool to the last byte: redirects, resending, decoding, giving back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import trio

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import DeadlinePolicy
from vastar_runtime.errors import Failure, UpstreamError

from .addresses import AddressGuard
from .connection import ConnectionLost, Progress
from .decoding import BodyDecoder, encodings_to_undo
from .dial import Dialer
from .pool import Pool, PoolKey
from .prompt_connection import PromptConnection
from .redirects import MAX_REDIRECTS, next_request
from .request import Headers, OutboundRequest
from .resolver import looking_up_for
from .response import ResponseHead
from .secrets import Secrets
from .url import Origin

# A redirect's own body is of no use; a short one is read so that the connection can be used again.
MAX_DRAINED_BYTES = 65_536
MAX_DRAIN_S = 1.0
# A small piece may expand into many steps; after so many of them others get their turn.
STEPS_PER_TURN = 16


def may_use(connection: PromptConnection, origin: Origin, guard: AddressGuard) -> bool:
    """Whether a connection that was kept leads where it still may. Settings change; and where a proxy has led it,
    nobody knows."""
    return connection.address is not None and guard.refusal(origin.without_root, connection.address) is None


async def at_once(origin: str, exchange: Exchange) -> ResponseHead:
    """One attempt, with nothing before or after it."""
    return await exchange.attempt(DeadlinePolicy())


class Exchange:
    """The response to a request, once ``open`` has returned.

    Use: ``open()``, then ``receive()`` until it returns None, and ``close()`` in any case, also when cancelled.

    Args:
        progress: told what is being waited for, each time something has moved.
        send: called for the request and for each redirected one; makes attempts and returns the last one's head.
        secrets: None: it goes out as it is.

    Attributes:
        request: what is being sent now; after redirects, the last one.
        head: the response's; with headers as they are to be delivered.
        attempts: how often the request, or a redirected one, was sent, or could not be.
        with_upstream_since: when the attempt got its slot, in trio's time; before that it waits for something of ours.
        has_body: whether that head is followed by one; else its Content-Length tells of something that was not sent.
    """

    def __init__(
        self,
        pool: Pool,
        dialer: Dialer,
        tenant_id: str,
        request: OutboundRequest,
        progress: Progress,
        send: Callable[[str, Exchange], Awaitable[ResponseHead]] = at_once,
        secrets: Secrets | None = None,
    ) -> None:
        self.request = request
        self.head = ResponseHead(0, ())
        self.has_body = True
        self.attempts = 0
        self._pool = pool
        self._dialer = dialer
        self._tenant_id = tenant_id
        self._progress = progress
        self._send = send
        self._secrets = secrets
        self._key: PoolKey | None = None  # set while a slot is held
        self._connection: PromptConnection | None = None
        self._decoder: BodyDecoder | None = None
        self._steps: Iterator[bytes] = iter(())
        self._steps_taken = 0
        self._complete = False
        self._has_head = False
        self._is_sent = False  # by try_send, whose answer nobody has taken yet
        self.with_upstream_since: float | None = None

    async def open(self) -> None:
        """Send the request and follow redirects until the head of the answer to deliver is there.

        Raises:
            UpstreamError: see Dialer.dial and Connection; Permanent after MAX_REDIRECTS redirects.
        """
        for _ in range(MAX_REDIRECTS + 1):
            head = await self._send(self.request.url.origin.without_root, self)
            following = next_request(self.request, head.status_code, head.headers)
            if following is None:
                self._deliver(head)
                return
            await self.discard()
            self.request = following
        raise UpstreamError(
            f"stopped after {MAX_REDIRECTS} redirects, the last one to {self.request.url.origin}", ErrorClass.PERMANENT
        )

    async def receive(self) -> bytes | None:
        """The next piece of the body, decoded, as it arrives; None at its end. The reader may stop at any piece.

        Raises:
            UpstreamError: cut short, or not what its headers say.
        """
        if self._complete:  # as ``try_receive`` has found
            return None
        if self._decoder is None:
            return await self._receive()
        while True:
            for step in self._steps:
                self._steps_taken += 1
                if self._steps_taken % STEPS_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()
                if step:
                    return step
            piece = await self._receive()
            if piece is None:
                self._decoder.finish()
                return None
            self._steps = self._decoder.feed(piece)

    def receive_whole(self) -> bytes | None:
        """All of the body, if it has come with the head and is to be delivered as it is; else None."""
        if self._decoder is not None or self._connection is None:
            return None
        body = self._connection.take_whole_body()
        if body is not None:
            self._complete = True
        return body

    def end_early(self) -> None:
        """The reader has all it wants. If the body's end has arrived too, the connection can still be kept."""
        if self._connection is not None and not self._complete:
            self._complete = self._connection.buffered_end()

    async def close(self) -> None:
        """Give the connection back if the exchange is complete, else close it; free the slot. May be repeated."""
        key, connection = self._key, self._connection
        self._key = self._connection = None
        if key is None:
            return
        try:
            if connection is not None:
                surplus: PromptConnection | None = connection
                if self._complete and connection.reuse():
                    connection.rest()
                    surplus = self._pool.keep_idle(key, connection)
                if surplus is not None:
                    await surplus.close()
        finally:
            self._pool.release_slot(key)

    # --- one attempt, for who makes them ---

    @property
    def may_repeat(self) -> bool:
        """Sending the request of the moment twice does no more than sending it once."""
        return self.request.may_repeat

    @property
    def was_written(self) -> bool:
        """Whether any of the attempt's request has gone to the upstream."""
        return self._connection is not None and self._connection.has_written

    async def attempt(self, limits: DeadlinePolicy, guard: AddressGuard | None = None) -> ResponseHead:
        """One request to one origin. An idle connection may die in the moment it is used: then the request goes
        out once more on a fresh one, unless the upstream may have acted on it already.

        Args:
            guard: judges the address that the request goes to; None: it may go to any.

        Raises:
            UpstreamError: see Dialer.dial and Connection; Timeout, when no head came in time.
            EgressDenied: see Dialer.dial.
        """
        key = PoolKey(self._tenant_id, self.request.url.origin)
        self._complete = self._has_head = False
        if self._secrets is not None and not self._is_sent:
            self.with_upstream_since = None
            await self._secrets.fetch(self.request, self._progress)
        connection = self._connection if self._is_sent else await self._begin_attempt(key, guard)
        if connection is not None:
            try:
                return await self._converse(connection, limits)
            except ConnectionLost as error:
                if not error.before_response:
                    raise
                if connection.has_written and not self.request.may_repeat:
                    raise UpstreamError(
                        f"{error.cause}; the {self.request.method} is not sent again, as it may have been acted upon",
                        failure=Failure.LOST,
                    ) from error
                self._connection = None
                await connection.close()
                self.attempts += 1
        self._progress(f"connecting to {key.origin.address}")
        looking_up_for.set(self._tenant_id)
        connection = await self._dialer.dial(key.origin, limits.connect_timeout_ms / 1000, guard)
        return await self._converse(connection, limits)

    async def discard(self) -> None:
        """Let go of what the last attempt brought, and make ready for another one. A short body is read to its end,
        so that the connection can be used again."""
        if self._has_head:
            await self._drain()
        await self.close()

    # --- inside ---

    async def _begin_attempt(self, key: PoolKey, guard: AddressGuard | None) -> PromptConnection | None:
        """Take a slot; and a connection that was kept, if there is one that lives."""
        self.with_upstream_since = None
        if not self._pool.take_slot(key):
            self._progress(f"waiting for a free connection to {key.origin.address}")
            await self._pool.acquire_slot(key)
        self._key = key
        self.attempts += 1
        self.with_upstream_since = trio.current_time()
        connection = self._pool.take_idle(key)
        while connection is not None and (
            connection.has_died() or (guard is not None and not may_use(connection, key.origin, guard))
        ):
            await connection.close()
            connection = self._pool.take_idle(key)
        return connection

    async def _converse(self, connection: PromptConnection, limits: DeadlinePolicy) -> ResponseHead:
        self._connection = connection
        if not self._is_sent:
            self._progress(connection.sending)
            # What is kept for redirects and further attempts is the request without them.
            outgoing = self.request
            if self._secrets is not None:
                outgoing = self._secrets.carried(self.request, connection)
            await connection.send_request(outgoing, self._progress)
            self._progress(connection.awaiting_head)
        self._is_sent = False
        if connection.has_rest:
            await connection.send_rest()
        if limits.first_byte_timeout_ms is None:
            head = await connection.receive_head()
        else:
            head = await _head_within(connection, limits.first_byte_timeout_ms)
        self._has_head = True
        if head.status_code >= 300:
            await connection.end_upload()  # nobody wants the rest of the request's body
        self._progress(connection.reading_body)
        return head

    async def _receive(self) -> bytes | None:
        assert self._connection is not None
        piece = await self._connection.receive_body()
        self._progress(self._connection.reading_body)
        if piece is None:
            self._complete = True
        return piece

    async def _drain(self) -> None:
        """Read a redirect's body to its end, if that is near."""
        drained = 0
        try:
            with trio.move_on_after(MAX_DRAIN_S):
                while drained <= MAX_DRAINED_BYTES:
                    piece = await self._receive()
                    if piece is None:
                        return
                    drained += len(piece)
        except UpstreamError:
            return  # the redirect itself was understood; the connection is not kept

    def _deliver(self, head: ResponseHead) -> None:
        self.head = head
        self.has_body = self.request.method != "HEAD" and head.status_code not in (204, 304)
        if not (self.has_body and self.request.decodes):
            return
        fields = [value for name, value in head.headers if name == b"content-encoding"]
        if not fields:
            return
        field = b", ".join(fields)
        encodings = encodings_to_undo(field.decode("latin-1"))
        if encodings is not None:
            assert self._connection is not None
            self._decoder = BodyDecoder(encodings, self._connection.name)
            self.head = ResponseHead(head.status_code, _without_encoding(head.headers))


async def _head_within(connection: PromptConnection, timeout_ms: int) -> ResponseHead:
    with trio.CancelScope() as scope:

        def request_sent() -> None:
            scope.deadline = trio.current_time() + timeout_ms / 1000

        connection.when_sent(request_sent)
        return await connection.receive_head()
    raise UpstreamError(
        f"no response head from {connection.name} within {timeout_ms} ms (deadline.first_byte_timeout_ms)",
        ErrorClass.TIMEOUT,
        failure=Failure.NO_HEAD_IN_TIME,
    )


def _without_encoding(headers: Headers) -> Headers:
    return tuple(header for header in headers if header[0] not in (b"content-encoding", b"content-length"))
