"""What anyio has no word for: a task that belongs to no caller, a socket that is watched for good, and a call into a
loop that may have ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, cast

import anyio
from anyio.lowlevel import EventLoopToken, current_token


def spawn(token: EventLoopToken, run: Callable[[], Coroutine[None, None, None]]) -> object:
    """Run in the current event loop until ``run`` returns or the loop ends, which cancels it.

    Returns:
        the task, to be kept while it runs: asyncio's loop holds its tasks weakly (its documentation, "Creating Tasks").

    Args:
        token: of the current event loop.
        run: raises nothing of its own.
    """
    if isinstance(token.native_token, asyncio.AbstractEventLoop):
        return token.native_token.create_task(run())
    return sys.modules["trio"].lowlevel.spawn_system_task(run)


async def call_when_readable(sock: socket.socket, function: Callable[[], None]) -> None:
    """Call ``function``, which raises nothing, whenever the socket has something to read, until it is cancelled.

    On asyncio, the loop is told once, and no task has to wake up; on trio, each waiting is a registration of its own.
    """
    loop = current_token().native_token
    if not isinstance(loop, asyncio.AbstractEventLoop):
        while True:
            await anyio.wait_readable(sock)
            function()
    loop.add_reader(sock, function)
    try:
        await anyio.sleep_forever()
    finally:
        loop.remove_reader(sock)


def has_ended(token: EventLoopToken) -> bool:
    """Whether that event loop will never run again."""
    if isinstance(token.native_token, asyncio.AbstractEventLoop):
        return token.native_token.is_closed()
    trio: Any = sys.modules["trio"]
    try:
        cast(Any, token.native_token).run_sync_soon(_nothing, idempotent=True)  # the only way to ask
    except trio.RunFinishedError:
        return True
    return False


def _nothing() -> None:
    pass


def call_soon(token: EventLoopToken, function: Callable[[], None]) -> None:
    """Call ``function`` in that event loop, from any thread; a loop that has ended calls nothing."""
    if isinstance(token.native_token, asyncio.AbstractEventLoop):
        with contextlib.suppress(RuntimeError):  # the loop is closed
            token.native_token.call_soon_threadsafe(function)
    else:
        trio: Any = sys.modules["trio"]
        with contextlib.suppress(trio.RunFinishedError):
            cast(Any, token.native_token).run_sync_soon(function)
