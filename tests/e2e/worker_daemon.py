"""A daemon of several workers, and a look at each of them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import trio
from reloadable_daemon import Reloadable, ask, reloadable
from wire_client import WireClient

WORKERS = 4
PATIENCE_S = 20


class WorkerSeen(NamedTuple):
    pid: int
    connections: int
    active_requests: int
    answers: bool


@contextmanager
def workers(text: str = "", *options: str, number: int = WORKERS, **variables: str) -> Iterator[Reloadable]:
    """A daemon of so many workers that accepts connections; as ``reloadable``."""
    with reloadable(text, "--workers", str(number), *options, **variables) as daemon:
        yield daemon


async def seen(client: WireClient) -> list[WorkerSeen]:
    """What the daemon tells of its workers."""
    return [WorkerSeen(**worker) for worker in (await ask(client, "statistics"))["workers"]]


@asynccontextmanager
async def clients(daemon: Reloadable, number: int) -> AsyncIterator[list[WireClient]]:
    """So many connections, one after the other, each accepted."""
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for _ in range(number):
            client = await stack.enter_async_context(daemon.connect())
            await client.health()
            opened.append(client)
        yield opened


def has_ended(pid: int) -> bool:
    """Whether no such process runs; a zombie has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # it went before the file was opened, or before it was read
        return True


async def ended(pid: int) -> None:
    """Return once it has."""
    with trio.fail_after(PATIENCE_S):
        while not has_ended(pid):
            await trio.sleep(0.01)


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)
