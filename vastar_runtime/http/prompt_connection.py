"""What of one exchange on a connection can be done without waiting, and in nobody's task."""

from __future__ import annotations

import trio

from .connection import READ_BYTES, SINGLE_WRITE_BYTES, Connection, Progress
from .readiness import Call, Watch, at_end_of_turn, watch
from .reading import read_now, write_some
from .request import OutboundRequest
from .response import OTHER, ResponseHead, Signal


class PromptConnection(Connection):
    """A connection that carries an exchange as far as nothing need be waited for; the methods of ``Connection`` go on
    from wherever it is.

    Use: ``try_send``; when ``on_answer`` is called, ``try_receive_whole``, or ``try_receive_head`` and
    ``try_receive_body``.
    """

    _watch: Watch | None = None

    def try_send(self, request: OutboundRequest, progress: Progress, on_answer: Call) -> bool:
        """As ``send_request``, where nothing need be waited for: over a plain socket, a request of one write.

        Args:
            on_answer: called, in nobody's task, while there is something to be read, up to the first wait for it.

        Returns:
            False: nothing was sent.
        """
        stream = self.stream
        if type(stream) is not trio.SocketStream or len(request.body) > SINGLE_WRITE_BYTES:
            return False
        data = self._written_head(request) + request.body
        if len(data) > SINGLE_WRITE_BYTES or not self._watch_for(on_answer):
            return False
        self._begin(progress)
        self._unsent = data
        if not at_end_of_turn(self._send_now):
            self._send_now()
        return True

    def try_take_back(self) -> bool:
        """Whether nothing that ``try_send`` was given has been written yet: then it never will be."""
        if not self._unsent or self.has_written:
            return False
        self._unsent = b""
        self.exchanges -= 1
        return True

    def try_receive_whole(self) -> tuple[ResponseHead, bytes] | None:
        """After ``try_send``, when something can be read: the response, if one read brings all of it, it is as most
        are, and the connection is fit for another one after it. None: it is for ``receive_head`` to see."""
        return self._reader.take_whole() if self._try_read() else None

    def try_receive_head(self) -> ResponseHead | None:
        """After ``try_send``, when something can be read: the head, if one read brings all of it and the response is as
        most are. None: it is for ``receive_head`` to see."""
        return self._reader.take_head() if self._try_read() else None

    def put_back(self) -> None:
        """What ``try_receive_whole`` or ``try_receive_head`` brought is for ``receive_head`` after all."""
        self._reader.put_back()

    def try_receive_body(self, *, reads: bool) -> bytes | Signal:
        """After ``try_receive_head``: the next piece of the body; END; NEED_DATA; OTHER: it is for ``receive_body`` to
        see.

        Args:
            reads: there is something to be read.

        Raises:
            UpstreamError: see ``receive_body``.
        """
        self.head_received = True
        if reads and not self._try_read():
            return OTHER
        event = self._parse()
        return OTHER if isinstance(event, ResponseHead) else event

    @property
    def has_more(self) -> bool:
        """Something has been read and not looked at."""
        return self._reader.has_more

    def rest(self) -> None:
        """The exchange is over: until the next one nobody is to be called, and nothing of this one is kept."""
        super().rest()
        if self._watch is not None:
            self._watch.call = None

    def unwatch(self) -> None:
        """Nobody is to be called any more."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    async def close(self) -> None:
        """See Connection."""
        self.unwatch()
        await super().close()

    # --- inside ---

    def _send_now(self) -> None:
        """At the end of a turn, for all requests of it: the first write wakes the upstream, if it is a process of this
        machine, and the others find it awake."""
        if not self._unsent:  # it was taken back
            return
        written = write_some(self.stream, self._unsent)
        self.has_written = written > 0
        self._unsent = self._unsent[written:]
        if self._unsent and self._watch is not None and self._watch.call is not None:
            self._watch.call()

    def _try_read(self) -> bool:
        """Read what there is; False: nothing, or what a task is to find."""
        assert isinstance(self.stream, trio.SocketStream)
        if self._unsent:
            return False
        try:
            data = read_now(self.stream.socket.fileno(), READ_BYTES)
        except trio.BrokenResourceError as error:
            self._read_error = error  # the kernel tells it once
            return False
        if not data:  # an end will be there again
            return False
        self._has_received = True
        self._reader.receive_data(data)
        return True

    def _watch_for(self, on_answer: Call) -> bool:
        """False: the kernel watches no more sockets."""
        if self._watch is not None and self._watch.is_on:
            self._watch.call = on_answer
            return True
        assert isinstance(self.stream, trio.SocketStream)
        try:
            self._watch = watch(self.stream.socket.fileno(), on_answer)
        except OSError:
            return False
        return True
