"""Two processes' ends of a channel, here in one: what is asked, told, cancelled, and what happens when an end goes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import InvalidRequest, RateLimited, RequestError
from vastar_runtime.workers import channel as channel_module
from vastar_runtime.workers.channel import Channel
from vastar_runtime.workers.messages import Answer, Count, Counted, Left, News, Question

Answering = Callable[[Question], Answer | Coroutine[Any, Any, Answer]]


def counted(question: Question) -> Counted:
    """What every question here is answered with: how many origins it names."""
    assert isinstance(question, Count)
    return Counted(len(question.origins), 0, 0, ())


def nothing(question: Question) -> Answer:
    raise AssertionError(f"nobody asks this end {question}")


class Ends:
    """A worker's end, which asks, and the supervisor's, which answers as a test says and keeps what it is told."""

    def __init__(self, answer: Answering = counted) -> None:
        first, second = socket.socketpair()
        self.heard: list[News] = []
        self.said: list[object] = []
        self.worker = Channel(first, nothing, self.heard.append)
        self.supervisor = Channel(second, answer, self.said.append)

    def start(self, nursery: trio.Nursery) -> Ends:
        nursery.start_soon(self.worker.run)
        nursery.start_soon(self.supervisor.run)
        return self


def asks_about(count: int) -> Count:
    return Count(("https://upstream.test",) * count)


async def test_each_question_gets_its_own_answer_whatever_the_order(nursery: trio.Nursery) -> None:
    may_go = [trio.Event() for _ in range(3)]

    async def in_turn(number: int) -> Answer:
        await may_go[number].wait()
        return Counted(number, 0, 0, ())

    def answer(question: Question) -> Coroutine[Any, Any, Answer]:
        assert isinstance(question, Count)
        return in_turn(len(question.origins))

    worker = Ends(answer).start(nursery).worker
    answered: list[tuple[int, int]] = []

    async def ask(number: int) -> None:
        answered.append((number, (await worker.ask(asks_about(number))).running))

    for number in range(3):
        nursery.start_soon(ask, number)
    for number in (2, 0, 1):
        await wait_all_tasks_blocked()
        may_go[number].set()
    await wait_all_tasks_blocked()
    assert answered == [(2, 2), (0, 0), (1, 1)]


async def test_news_and_questions_arrive_in_the_order_in_which_they_were_said(nursery: trio.Nursery) -> None:
    said: list[object] = []

    def answer(question: Question) -> Answer:
        said.append(question)
        return counted(question)

    ends = Ends(answer)
    ends.supervisor._hear = said.append
    ends.worker.tell(Left(1))  # before the channel runs: it is kept until then
    ends.start(nursery)
    ends.worker.tell(Left(2))
    await ends.worker.ask(asks_about(1))
    ends.worker.tell(Left(3))
    await ends.worker.ask(asks_about(2))
    assert said == [Left(1), Left(2), asks_about(1), Left(3), asks_about(2)]


class CountingSocket(socket.socket):
    """Counts the system calls that send."""

    sends = 0

    def send(self, *args: Any) -> int:
        type(self).sends += 1
        return super().send(*args)


async def test_what_many_ask_in_one_turn_is_one_write_each_way(nursery: trio.Nursery) -> None:
    first, second = (CountingSocket(fileno=end.detach()) for end in socket.socketpair())
    worker, supervisor = Channel(first, nothing, print), Channel(second, counted, print)
    nursery.start_soon(worker.run)
    nursery.start_soon(supervisor.run)
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as asking:
        for _ in range(100):
            asking.start_soon(worker.ask, asks_about(1))
    assert CountingSocket.sends == 2


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("too many; try again in 7 ms", retry_after_ms=7),
        InvalidRequest("no such thing"),
        RequestError(ErrorClass.TRANSIENT, "circuit open for https://upstream.test", retry_after_ms=30_000),
    ],
    ids=["rate limited", "invalid", "transient"],
)
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a wait"])
async def test_a_refusal_is_raised_where_it_was_asked_for(
    error: RequestError, waits: bool, nursery: trio.Nursery
) -> None:
    async def later() -> Answer:
        await trio.lowlevel.checkpoint()
        raise error

    def answer(question: Question) -> Coroutine[Any, Any, Answer]:
        if waits:
            return later()
        raise error

    worker = Ends(answer).start(nursery).worker
    with pytest.raises(type(error)) as raised:
        await worker.ask(asks_about(1))
    found = raised.value
    assert (found.error_class, found.message, found.retry_after_ms) == (
        error.error_class,
        error.message,
        error.retry_after_ms,
    )


async def test_a_mistake_of_ours_refuses_one_question_and_the_channel_goes_on(nursery: trio.Nursery) -> None:
    def answer(question: Question) -> Answer:
        assert isinstance(question, Count)
        if not question.origins:
            raise ZeroDivisionError
        return counted(question)

    ends = Ends(answer).start(nursery)
    with pytest.raises(RequestError, match="internal error of the runtime; its log has the details") as raised:
        await ends.worker.ask(asks_about(0))
    assert raised.value.error_class is ErrorClass.PERMANENT

    def stumble(news: News) -> None:
        ends.supervisor._hear = ends.said.append
        raise ZeroDivisionError

    ends.supervisor._hear = stumble
    ends.worker.tell(Left(1))
    ends.worker.tell(Left(2))
    assert (await ends.worker.ask(asks_about(4))).running == 4
    assert ends.said == [Left(2)]


async def test_what_cannot_be_said_is_the_askers_error_and_leaves_no_half_message(nursery: trio.Nursery) -> None:
    worker = Ends().start(nursery).worker
    with pytest.raises(UnicodeEncodeError):
        await worker.ask(Count(("https://upstream.test", "half of a pair: \ud800")))
    assert (await worker.ask(asks_about(2))).running == 2


async def test_cancelling_the_asker_cancels_the_work_even_if_both_come_in_one_read(nursery: trio.Nursery) -> None:
    story: list[str] = []

    async def forever() -> Answer:
        try:
            await trio.sleep_forever()
        finally:
            story.append("work ended")

    ends = Ends(lambda question: forever()).start(nursery)
    for is_heard_first in (True, False):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as asking:
                asking.start_soon(ends.worker.ask, asks_about(1))
                if is_heard_first:
                    await wait_all_tasks_blocked()
                else:
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        await wait_all_tasks_blocked()
    assert story == ["work ended", "work ended"]
    assert (ends.worker._askers, ends.supervisor._working) == ({}, {})


async def test_an_answer_that_crosses_the_cancellation_is_undone(nursery: trio.Nursery) -> None:
    undone: list[Counted] = []
    scope = trio.CancelScope()

    def answer(question: Question) -> Answer:
        scope.cancel()  # here, and in the worker: the answer is under way already
        return counted(question)

    ends = Ends(answer).start(nursery)
    with scope:
        await ends.worker.ask(asks_about(3), undone.append)
    assert scope.cancelled_caught
    await wait_all_tasks_blocked()
    assert undone == [Counted(3, 0, 0, ())]
    assert not ends.worker._askers


async def test_an_answer_that_came_before_the_cancellation_is_returned(nursery: trio.Nursery) -> None:
    """Whoever got something always comes back with it, so that it has somebody to give it back."""
    ends = Ends()
    nursery.start_soon(ends.worker.run)
    got: list[Counted] = []
    undone: list[Counted] = []
    scope = trio.CancelScope()
    ends.worker._hear = lambda news: scope.cancel()  # in the turn in which the answer came

    async def ask() -> None:
        with scope:
            got.append(await ends.worker.ask(asks_about(3), undone.append))

    ends.supervisor._hear = ends.supervisor.tell  # which comes right after the answer
    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    ends.worker.tell(Left(1))
    nursery.start_soon(ends.supervisor.run)
    await wait_all_tasks_blocked()
    assert scope.cancel_called
    assert (got, undone) == ([Counted(3, 0, 0, ())], [])


async def test_when_an_end_goes_the_other_one_ends_and_nobody_waits_for_it(nursery: trio.Nursery) -> None:
    story: list[str] = []

    async def forever() -> Answer:
        try:
            await trio.sleep_forever()
        finally:
            story.append("work ended")

    ends = Ends(lambda question: forever())
    supervisor_gone, worker_gone = trio.CancelScope(), trio.Event()

    async def supervise() -> None:
        with supervisor_gone:
            await ends.supervisor.run()

    async def work() -> None:
        await ends.worker.run()
        worker_gone.set()

    async def ask() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await ends.worker.ask(asks_about(1))
        story.append("asker told")

    nursery.start_soon(supervise)
    nursery.start_soon(work)
    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    supervisor_gone.cancel()
    await worker_gone.wait()
    await wait_all_tasks_blocked()
    assert story == ["work ended", "asker told"]
    with pytest.raises(trio.BrokenResourceError):
        await ends.worker.ask(asks_about(1))
    ends.worker.tell(Left(1))
    assert ends.worker._unsent == b""


async def test_more_than_the_socket_takes_is_sent_as_the_other_end_reads(nursery: trio.Nursery) -> None:
    ends = Ends().start(nursery)
    long = Count(("https://upstream.test/" + "x" * 500_000,) * 4)
    async with trio.open_nursery() as asking:
        for _ in range(8):
            asking.start_soon(ends.worker.ask, long)
            ends.worker.tell(Left(1))
    assert len(ends.said) == 8


async def test_an_end_that_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> None:
    """A process that was stopped must not fill the memory of the one that goes on telling it."""
    monkeypatch.setattr(channel_module, "MAX_UNSENT_BYTES", 2**20)
    ends = Ends()
    ended = trio.Event()

    async def supervise() -> None:
        await ends.supervisor.run()
        ended.set()

    nursery.start_soon(supervise)
    for number in range(10):
        ends.supervisor.tell(Left(number))
    for _ in range(200_000):
        if len(ends.supervisor._unsent) == 0:
            break
        ends.supervisor.tell(Left(7))
    await ended.wait()
    with ends.worker._socket, pytest.raises(trio.BrokenResourceError):
        await ends.supervisor.ask(asks_about(1))
    ends.supervisor.tell(Left(7))
    assert not ends.supervisor._unsent
