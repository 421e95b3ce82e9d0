"""Hypercorn's server of one connection, where it does otherwise than the simulator needs."""

from typing import Any

import h11
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer


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


class _Http1(H11Protocol):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connection = _Connection(h11.SERVER, self.config.h11_max_incomplete_size)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Changes to no other protocol.

        Faults are done to connections. Streams that share one, as in HTTP/2, would share each other's faults as well.
        An offer to upgrade may be ignored (RFC 9110, 7.8); who begins with HTTP/2 is answered in Exchange.
        """


class _Connection(h11.Connection):
    """Ignores what comes behind the last request, as RFC 9112, 9.6 wants it.

    h11 takes it for an error, for which Hypercorn closes the connection in the middle of that request's answer.
    """

    def receive_data(self, data: bytes) -> None:
        if self.their_state is not h11.MUST_CLOSE or not data:
            super().receive_data(data)

    def next_event(self) -> Any:
        return h11.NEED_DATA if self.their_state is h11.MUST_CLOSE else super().next_event()
