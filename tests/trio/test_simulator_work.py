"""What takes long is done in threads, and little of it at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from simulator_client import question, simulator
from trio.testing import wait_all_tasks_blocked

from vastar_runtime.simulator.api_error import ApiError
from vastar_runtime.simulator.work import MAX_AT_ONCE, MAX_SMALL_BYTES, Work

TOOLS = [{"type": "function", "function": {"name": "weather"}}]
FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
LONG = "word " * (MAX_SMALL_BYTES // 5 + 1)
ANTHROPIC = {"anthropic-version": "2023-06-01"}


async def test_little_is_done_at_once_and_the_loop_goes_on() -> None:
    work = Work()
    running = threading.Semaphore(0)
    may_end = threading.Event()
    done: list[int] = []

    def wait(number: int) -> int:
        running.release()
        assert may_end.wait(10)
        return number

    async def ask(number: int) -> None:
        done.append(await work.done(True, partial(wait, number)))

    async with trio.open_nursery() as nursery:
        for number in range(MAX_AT_ONCE + 2):
            nursery.start_soon(ask, number)
        await wait_all_tasks_blocked()
        assert all([await trio.to_thread.run_sync(running.acquire) for _ in range(MAX_AT_ONCE)])
        assert not running.acquire(blocking=False)
        may_end.set()
    assert sorted(done) == list(range(MAX_AT_ONCE + 2))


async def test_what_is_short_is_done_here_and_errors_come_from_anywhere() -> None:
    work = Work()
    here = threading.get_ident()
    assert await work.done(False, threading.get_ident) == here
    assert await work.done(True, threading.get_ident) != here

    def fail() -> None:
        raise ApiError(400, "no")

    for is_long in (False, True):
        with pytest.raises(ApiError):
            await work.done(is_long, fail)


async def test_large_bodies_schemas_and_vectors_are_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[bool] = []
    done = Work.done

    async def note(self: Work, is_long: bool, function: Callable[[], Any]) -> Any:
        noted.append(is_long)
        return await done(self, is_long, function)

    monkeypatch.setattr(Work, "done", note)

    async def kinds(body: object, path: str = "/v1/chat/completions", **headers: str) -> list[bool]:
        noted.clear()
        assert (await ask(body, path=path, **headers)).status == 200
        return noted.copy()

    async with simulator() as ask:
        assert await kinds(question()) == [False, False]
        assert await kinds(question(tools=TOOLS)) == [False, True]
        assert await kinds(question(response_format=FORM)) == [False, True]
        assert await kinds(question(LONG)) == [True, True]
        assert await kinds({"model": "any", "input": LONG}, "/v1/responses") == [True, True]
        counted = question(LONG)
        assert await kinds(counted, "/v1/messages/count_tokens", **ANTHROPIC) == [True]
        assert await kinds({"model": "any", "input": "Hello"}, "/v1/embeddings") == [True]
    async with simulator(rai=True) as ask:
        assert await kinds(LONG.encode()) == [True]
