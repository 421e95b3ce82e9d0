"""Questions and news between the supervisor and one of its workers, both ways, over a socketpair.

A message is its length, four bytes, and MessagePack. What is said in one turn of the loop leaves in one write.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import structlog
import trio

from .frames import Answered, Asked, Cancel, Cancelled, Frame, Refused, Told, error_of, refusal
from .messages import Answer, News, Question

READ_BYTES = 65_536
# What waits for an end that does not read: thousands of circuits, or the settings of as many scopes, fit many times.
# An end that is so far behind is not coming back.
MAX_UNSENT_BYTES = 64 * 2**20

_LENGTH = struct.Struct("<I")
_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ESHUTDOWN})

log = structlog.get_logger()


class _Asker:
    """Who waits for an answer; kept until it has come, even if nobody waits any more."""

    __slots__ = ("answer", "task", "undo")

    def __init__(self, undo: Callable[[Any], None] | None) -> None:
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self.answer: Answer | Exception | None = None
        self.undo = undo


class Channel:
    """One end. Either end may ask and tell before ``run`` has begun; it is sent then.

    Args:
        end: one of a connected pair of stream sockets; it is closed when ``run`` ends.
        answer: called for each question of the other end, in their order. It returns the answer, or, where that has
            to wait, a coroutine, which is run in a task of its own; either may raise RequestError.
        hear: called for each of the other end's news, in order with the questions.
    """

    def __init__(
        self,
        end: socket.socket,
        answer: Callable[[Question], Answer | Coroutine[Any, Any, Answer]],
        hear: Callable[[News], None],
    ) -> None:
        end.setblocking(False)
        self._socket = end
        self._answer = answer
        self._hear = hear
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)
        self._unsent = bytearray()
        self._writer: trio.lowlevel.Task | None = None  # while it has nothing to write
        self._askers: dict[int, _Asker] = {}
        self._asked = 0
        self._working: dict[int, trio.CancelScope] = {}
        self._has_ended = False

    async def run(self) -> None:
        """Serve until the other end has gone, or is hopelessly behind. Work for its questions ends with it, and
        whoever asked it gets BrokenResourceError."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read(nursery)
                nursery.cancel_scope.cancel()
        finally:
            self._has_ended = True
            self._unsent.clear()
            self._socket.close()
            for asker in self._askers.values():
                self._settle(asker, trio.BrokenResourceError("the other end of the channel has gone"))
            self._askers.clear()

    async def ask(self, question: Question, undo: Callable[[Any], None] | None = None) -> Any:
        """The other end's answer, of the kind that stands beside the question. No checkpoint but for the answer:
        one that has come is returned even if the asker was cancelled since.

        Cancelling it cancels the other end's work.

        Args:
            undo: told the answer, if one was given all the same after the asker was cancelled: what that brought is
                to be given back.

        Raises:
            RequestError, RateLimited, InvalidRequest: as the other end raised it.
            trio.BrokenResourceError: the other end has gone.
        """
        if self._has_ended:
            raise trio.BrokenResourceError("the other end of the channel has gone")
        self._asked += 1
        number = self._asked
        self._put(Asked(number, question))
        asker = self._askers[number] = _Asker(undo)

        def cancel(_: object) -> trio.lowlevel.Abort:
            asker.task = None
            self._put(Cancel(number))
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(cancel)
        if isinstance(asker.answer, Exception):
            raise asker.answer
        return asker.answer

    def tell(self, news: News) -> None:
        """Say it, in order with the questions; never waits. An end that has gone misses it."""
        if not self._has_ended:
            self._put(Told(news))

    # --- writing ---

    def _put(self, frame: Frame) -> None:
        self._append(frame)
        self._wake_writer()

    def _append(self, frame: Frame) -> None:
        unsent = self._unsent
        begin = len(unsent)
        try:
            self._encoder.encode_into(frame, unsent, begin + _LENGTH.size)
        except BaseException:  # half a message would be the end of all that follow
            del unsent[begin:]
            raise
        _LENGTH.pack_into(unsent, begin, len(unsent) - begin - _LENGTH.size)
        if len(unsent) > MAX_UNSENT_BYTES:
            self._give_up()

    def _wake_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            trio.lowlevel.reschedule(writer)

    async def _write(self) -> None:
        def cancel(_: object) -> trio.lowlevel.Abort:
            self._writer = None
            return trio.lowlevel.Abort.SUCCEEDED

        while True:
            while not self._flush():
                await trio.lowlevel.wait_writable(self._socket)
            self._writer = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(cancel)

    def _flush(self) -> bool:
        """Send what the socket takes at once; whether that was all."""
        if self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                sent = len(self._unsent)  # the reader sees it too, after what came before
            del self._unsent[:sent]
        return not self._unsent

    def _give_up(self) -> None:
        log.error("a process does not read what it is told; its channel is closed", limit_bytes=MAX_UNSENT_BYTES)
        self._has_ended = True
        self._unsent.clear()
        self._socket.shutdown(socket.SHUT_RDWR)  # which the reader sees

    # --- reading ---

    async def _read(self, nursery: trio.Nursery) -> None:
        buffer = bytearray()
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                received = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                return
            if not received:
                return
            buffer += received
            begin = 0
            while len(buffer) - begin >= _LENGTH.size:
                body = begin + _LENGTH.size
                (length,) = _LENGTH.unpack_from(buffer, begin)
                if len(buffer) - body < length:
                    break
                with memoryview(buffer) as view:
                    frame = self._decoder.decode(view[body : body + length])
                begin = body + length
                self._take(frame, nursery)
            del buffer[:begin]
            # Answers that were ready at once leave with no turn of the loop between; the writer waits for the rest.
            if self._writer is not None and not self._flush():
                self._wake_writer()

    def _take(self, frame: Frame, nursery: trio.Nursery) -> None:
        if isinstance(frame, Asked):
            self._take_question(frame.number, frame.question, nursery)
        elif isinstance(frame, Told):
            try:
                self._hear(frame.news)
            except Exception:  # a mistake of ours; what follows is to be heard all the same
                log.exception("internal error; news of another process are lost")
        elif isinstance(frame, Cancel):
            if (scope := self._working.get(frame.number)) is not None:
                scope.cancel()
        else:
            self._take_answer(frame)

    def _take_question(self, number: int, question: Question, nursery: trio.Nursery) -> None:
        try:
            answer = self._answer(question)
        except Exception as error:
            self._append(refusal(number, error))
            return
        if isinstance(answer, Coroutine):
            # Here, not in the task: the cancellation may be the next message.
            scope = self._working[number] = trio.CancelScope()
            nursery.start_soon(self._work, number, answer, scope)
        else:
            self._append_answer(Answered(number, answer))

    def _append_answer(self, frame: Answered | Refused | Cancelled) -> None:
        try:
            self._append(frame)
        except Exception as error:  # what cannot be written, such as half a surrogate pair, ends no channel
            self._append(refusal(frame.number, error))

    def _take_answer(self, frame: Answered | Refused | Cancelled) -> None:
        asker = self._askers.pop(frame.number)
        if isinstance(frame, Answered):
            self._settle(asker, frame.answer)
        elif isinstance(frame, Refused):
            self._settle(asker, error_of(frame))

    @staticmethod
    def _settle(asker: _Asker, answer: Answer | Exception) -> None:
        task, asker.task = asker.task, None
        if task is not None:
            asker.answer = answer
            trio.lowlevel.reschedule(task)
        elif asker.undo is not None and not isinstance(answer, Exception):
            asker.undo(answer)

    async def _work(self, number: int, answer: Coroutine[Any, Any, Answer], scope: trio.CancelScope) -> None:
        frame: Answered | Refused | Cancelled = Cancelled(number)
        with scope:
            try:
                frame = Answered(number, await answer)
            except Exception as error:
                frame = refusal(number, error)
        del self._working[number]
        self._append_answer(frame)
        self._wake_writer()
