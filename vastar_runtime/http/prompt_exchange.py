"""What of an exchange can be done without waiting: nearly all of it, over a connection that was kept."""

from __future__ import annotations

from .addresses import AddressGuard
from .exchange import Exchange, may_use
from .pool import PoolKey
from .prompt_connection import PromptConnection
from .readiness import Call
from .request import OutboundRequest
from .response import END, OTHER, ResponseHead, Signal


class PromptExchange(Exchange):
    """An exchange that may go ahead in nobody's task; ``open`` and ``receive`` go on from wherever it is.

    Use: ``try_send``; when ``on_answer`` is called, ``try_receive_whole``, or ``try_receive_head`` and ``try_receive``.
    """

    def try_send(self, on_answer: Call, now: float, guard: AddressGuard | None = None) -> bool:
        """Send the request at once, where an idle connection takes it whole. An answer may then be taken by
        ``try_receive_whole``; ``open`` goes on from here in any case.

        Args:
            on_answer: see Connection.try_send.
            now: in trio's time.
            guard: judges the address that the request goes to; None: it may go to any.

        Returns:
            False: nothing was sent, and ``open`` begins from the beginning.
        """
        key = PoolKey(self._tenant_id, self.request.url.origin)
        if not self._pool.take_slot(key):
            return False
        connection = self._pool.take_idle(key)
        if connection is not None:
            if (
                (guard is None or may_use(connection, key.origin, guard))
                and not connection.has_died()
                and (outgoing := self._outgoing(connection)) is not None
                and connection.try_send(outgoing, self._progress, on_answer)
            ):
                self._key, self._connection = key, connection
                self._is_sent = True
                self.attempts += 1
                self.with_upstream_since = now
                self._progress(connection.awaiting_head)
                return True
            self._pool.keep_idle(key, connection)  # it was among them; ``open`` finds out what is wrong with it
        self._pool.release_slot(key)
        return False

    def try_take_back(self) -> bool:
        """Whether nothing that ``try_send`` was given has been sent yet: then it never will be, and it is as if it had
        not been called."""
        key, connection = self._key, self._connection
        if key is None or connection is None or not connection.try_take_back():
            return False
        self._is_sent = False
        self.attempts -= 1
        self.with_upstream_since = None
        self._keep(key, connection)
        return True

    def unwatch(self) -> None:
        """From here on a task waits for what can be read; ``on_answer`` is called no more."""
        if self._connection is not None:
            self._connection.unwatch()

    def try_receive_whole(self) -> bytes | None:
        """When something can be read, after ``try_send``: the body, when all of the response is there and there is
        nothing to be done about it: no failure, no redirect, no encoding, no events to look for the last one among.
        ``head`` is set and the exchange is closed then. None: it is for ``open`` to see."""
        key, connection = self._key, self._connection
        assert key is not None
        assert connection is not None
        whole = connection.try_receive_whole()
        if whole is None:
            return None
        head, body = whole
        if not self._is_plain(head) or head.is_event_stream or not self._pool.has_room:
            connection.put_back()
            return None
        self.head = head
        self._is_sent = False
        self._keep(key, connection)
        return body

    def try_receive_head(self) -> bool:
        """When something can be read, after ``try_send``: whether ``head`` is there, of an answer that nothing is to be
        done about. False: it is for ``open`` to see."""
        connection = self._connection
        assert connection is not None
        head = connection.try_receive_head()
        if head is None:
            return False
        if not self._is_plain(head):
            connection.put_back()
            return False
        self._is_sent, self._has_head = False, True
        self._deliver(head)
        return True

    def try_receive(self, *, reads: bool) -> bytes | Signal:
        """After ``try_receive_head``: the next piece of the body; END, and the exchange is closed; NEED_DATA; OTHER: it
        is for ``receive`` to see.

        Args:
            reads: there is something to be read.

        Raises:
            UpstreamError: see ``receive``.
        """
        key, connection = self._key, self._connection
        assert key is not None
        assert connection is not None
        event = connection.try_receive_body(reads=reads)
        self._progress(connection.reading_body)
        if event is END:
            self._complete = True
            if not self._pool.has_room or not connection.reuse():
                return OTHER
            self._keep(key, connection)
        return event

    @property
    def has_more(self) -> bool:
        """Of what was read something has not been looked at."""
        return self._connection is not None and self._connection.has_more

    def _outgoing(self, connection: PromptConnection) -> OutboundRequest | None:
        return self.request if self._secrets is None else self._secrets.try_carried(self.request, connection)

    def _is_plain(self, head: ResponseHead) -> bool:
        return 200 <= head.status_code < 300 and not (self.request.decodes and head.has(b"content-encoding"))

    def _keep(self, key: PoolKey, connection: PromptConnection) -> None:
        self._key = self._connection = None
        connection.rest()
        self._pool.keep_idle(key, connection)
        self._pool.release_slot(key)
