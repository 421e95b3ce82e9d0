"""The body of one request, where it is too large to leave with its head."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

import trio

# It is handed to the kernel in slices, so that a slow upload is seen to move.
WRITE_BYTES = 65_536


class Exchange(Protocol):
    """What it is a part of.

    Attributes:
        name: "host:port", as errors name it.
        awaiting_head: what is waited for once it is sent, as a time limit's error says it.
        head_received: nobody waits for a head any more.
        progress: told what is being waited for.
    """

    name: str
    awaiting_head: str
    head_received: bool

    @property
    def progress(self) -> Callable[[str], None]: ...


class Upload:
    """A task of its own writes it, from ``begin`` to the exchange's end.

    An upstream may answer before it has read everything: a 413, say, and then close. Whoever writes to the end first
    reads a reset instead of that answer; and an upstream that echoes what it reads waits for its reader.

    Attributes:
        error: that ended it; reported only if no answer can be read.
        is_unsent: it has not been written to its end.
        when_sent: called at its end, if a head is awaited still.
    """

    def __init__(self, stream: trio.abc.SendStream, body: bytes, exchange: Exchange) -> None:
        self.error: BaseException | None = None
        self.is_unsent = True
        self.when_sent: Callable[[], None] | None = None
        self._stream = stream
        self._body = body
        self._exchange = exchange
        self._ended = trio.Event()
        self._task = contextlib.AsyncExitStack()  # around its nursery

    @property
    def has_ended(self) -> bool:
        """Nothing more will be written."""
        return self._ended.is_set()

    async def wait(self) -> None:
        """Until it has."""
        await self._ended.wait()

    async def begin(self) -> None:
        """Start writing; to be followed by ``end``, in the same task."""
        nursery = await self._task.enter_async_context(trio.open_nursery())
        self._task.callback(nursery.cancel_scope.cancel)
        nursery.start_soon(self._write)

    async def end(self) -> None:
        """Write no more."""
        await self._task.aclose()

    async def _write(self) -> None:
        exchange, body = self._exchange, memoryview(self._body)
        exchange.progress(f"sending the request body to {exchange.name}")
        try:
            for start in range(0, len(body), WRITE_BYTES):
                await self._stream.send_all(body[start : start + WRITE_BYTES])
                exchange.progress(f"sending the request body to {exchange.name}")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.error = error
        else:
            self.is_unsent = False
            if not exchange.head_received:
                exchange.progress(exchange.awaiting_head)
        finally:
            self._ended.set()
            if self.when_sent is not None and not exchange.head_received:
                self.when_sent()
