"""The streamed answer to one request: head and pieces, as far as the client has room for them."""

from __future__ import annotations

import trio

from connector_sdk.wire import ResponseHead
from connector_sdk.wire.flow import SendWindow
from vastar_runtime.errors import InvalidRequest
from vastar_runtime.policies.deadline import Deadline

from .reply import Reply

# A piece of body in one frame; a larger one would keep the other streams of the connection waiting.
MAX_CHUNK_BYTES = 65_536


class StreamedAnswer:
    """What a connector's call sees of it: see Sink.

    Args:
        reply: where it goes.
        window: what credit it has.

    Attributes:
        deadline: of the request, once it has one; it does not run while the client is waited for.
    """

    def __init__(self, request_id: int, reply: Reply, window: SendWindow) -> None:
        self.deadline: Deadline | None = None
        self._request_id = request_id
        self._reply = reply
        self._window = window
        self._granted: trio.Event | None = None  # while credit is waited for
        self._more_credit_may_come = True

    def credit_granted(self) -> None:
        """The window has credit again."""
        if self._granted is not None:
            self._granted.set()

    def no_more_credit(self) -> None:
        """The client has ended its sending: what its window does not hold, it can never take."""
        self._more_credit_may_come = False
        self.credit_granted()

    def head(self, status_code: int, headers: tuple[tuple[str, str], ...], attempts: int) -> None:
        """Send the header block."""
        self._reply.send(
            ResponseHead(request_id=self._request_id, status_code=status_code, headers=headers, attempts=attempts)
        )

    def try_piece(self, data: bytes) -> bool:
        """Send a piece of the body, if the client takes all of it now; False: nothing was sent."""
        size = len(data)
        if size > MAX_CHUNK_BYTES or size > self._window.credit_bytes or self._reply.full() is not None:
            return False
        self._window.take(size)
        self._reply.send_chunk(data)
        return True

    async def piece(self, data: bytes) -> None:
        """Send a piece of the body as it is, or as far as the client takes it, and wait until it takes more."""
        size, sent = len(data), 0
        while sent < size:
            if (full := self._reply.full()) is not None:
                await self._wait_for_client(full)
            elif taken := self._window.take(min(size - sent, MAX_CHUNK_BYTES)):
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
        assert self.deadline is not None
        self.deadline.suspend("waiting for the client to read")
        await event.wait()
        self.deadline.resume()
