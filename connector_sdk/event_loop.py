"""What anyio has no word for: a task that belongs to no caller, and a call into a loop that may have ended."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine
from typing import Any, cast

from anyio.lowlevel import EventLoopToken


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
