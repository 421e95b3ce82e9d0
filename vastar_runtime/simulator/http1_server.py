"""Hypercorn's server of one connection, where it does otherwise than the simulator needs."""

from typing import Any

import h11
from hypercorn.events import Closed, Event
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.tcp_server import TCPServer

from .connection import STATE_KEY, Connection


class Http1Server(TCPServer):
    """Speaks HTTP/1 alone, and keeps no connection for a client that has closed it."""

    async def _read_data(self) -> None:
        """Reads until the client closes its side or the connection is lost, and passes on what it reads."""
        spoken = self.protocol.protocol
        self.protocol.protocol = _Http1(
            self.app,
            self.config,
            self.context,
            self._task_group,
            spoken.connection_state,
            spoken.ssl,
            spoken.client,
            spoken.server,
            self.protocol_send,
        )
        await super()._read_data()
        # What still runs closes the connection at its end. Where nothing runs, Hypercorn would wait for another request
        # for as long as it keeps idle connections.
        await self.idle_task.stop()

    async def _close(self) -> None:
        """Closes it when what is being sent is sent: trio takes both at once for a mistake."""
        async with self.send_lock:
            await super()._close()


class _Http1(H11Protocol):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._spoken = _Connection(h11.SERVER, self.config.h11_max_incomplete_size)
        self.connection = self._spoken

    async def handle(self, event: Event) -> None:
        """Ends the connection, too, when a write fails while the reader waits for the end of an answer.

        Hypercorn then ends the answer alone, after which nobody wakes the reader.
        """
        await super().handle(event)
        if isinstance(event, Closed) and self._spoken.is_paused and not self.can_read.is_set():
            connection: Connection = self.connection_state[STATE_KEY]
            connection.close()

    async def _check_protocol(self, event: h11.Request) -> None:
        """Changes to no other protocol.

        Faults are done to connections. Streams that share one, as in HTTP/2, would share each other's faults as well.
        An offer to upgrade may be ignored (RFC 9110, 7.8); who begins with HTTP/2 is answered in Exchange.
        """

    async def _create_stream(self, request: h11.Request) -> None:
        """Takes every request for one of HTTP; Hypercorn would answer an offer of WebSocket as such."""
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=request.headers.raw_items(),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1


class _Connection(h11.Connection):
    """Ignores what comes behind the last request, as RFC 9112, 9.6 wants it.

    h11 takes it for an error, for which Hypercorn closes the connection in the middle of that request's answer.

    Attributes:
        is_paused: nothing more is read before the request that was read is answered.
    """

    is_paused = False

    def receive_data(self, data: bytes) -> None:
        if self.their_state is not h11.MUST_CLOSE or not data:
            super().receive_data(data)

    def next_event(self) -> Any:
        event = h11.NEED_DATA if self.their_state is h11.MUST_CLOSE else super().next_event()
        self.is_paused = event is h11.PAUSED
        return event
