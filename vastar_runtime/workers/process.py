"""A worker's process, as its supervisor sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec
import trio

from vastar_runtime.config import Settings

from .channel import Channel
from .inherited import Inherited
from .messages import Answer, AskHoldings, Configure, Holdings, News, Question

# Python's imports on a cold disk of a loaded machine take seconds.
START_TIMEOUT_S = 20.0
# After it has closed its end of the channel: its log's last lines, and the end of its interpreter.
END_TIMEOUT_S = 5.0
# One that has not answered by then hangs, and is left out.
ANSWER_TIMEOUT_S = 1.0

# With the paths of this process, so that the worker finds the same modules, wherever they are installed; and -P, so
# that none of the working directory stands in for one of them before that.
_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from vastar_runtime.workers.worker import main; main(sys.argv[1])"


class WorkerProcess:
    """One worker, from its start to its end.

    Args:
        inherited: all but ``channel_fd``, which is made here.
        answer, hear: as Channel takes them; they are told of which worker, too.

    Attributes:
        leaving: set when it takes no more connections: it drains, or has ended.
        was_told_to_leave: somebody had it drain.
    """

    def __init__(
        self,
        inherited: Inherited,
        answer: Callable[[WorkerProcess, Question], Answer | Coroutine[Any, Any, Answer]],
        hear: Callable[[WorkerProcess, News], None],
    ) -> None:
        self.slot = inherited.slot
        self.leaving = trio.Event()
        self.was_told_to_leave = False
        ours, theirs = socket.socketpair()
        with theirs:
            inherited = msgspec.structs.replace(inherited, channel_fd=theirs.fileno())
            try:
                self._popen = _spawn(inherited)
            except OSError:
                ours.close()
                raise
        self.pid = self._popen.pid
        self._pidfd = os.pidfd_open(self.pid)
        self.channel = Channel(ours, lambda question: answer(self, question), lambda news: hear(self, news))

    async def attend(self) -> None:
        """Run its channel; returns when the process has ended, which it has in any case then."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._talk, nursery.cancel_scope)
                await trio.lowlevel.wait_readable(self._pidfd)
                nursery.cancel_scope.cancel()
        finally:
            self._popen.kill()
            self._popen.wait()
            os.close(self._pidfd)
            self.leaving.set()

    async def _talk(self, attending: trio.CancelScope) -> None:
        await self.channel.run()
        # It has gone, or will in a moment; without a channel it is of no use in any case.
        await trio.sleep(END_TIMEOUT_S)
        attending.cancel()

    async def serves(self, settings: Settings) -> bool:
        """Whether it uses these settings and accepts connections, which it is waited for."""
        with trio.move_on_after(START_TIMEOUT_S):
            try:
                await self.channel.ask(Configure.of(settings))
            except trio.BrokenResourceError:
                return False
            return True
        self._popen.kill()
        return False

    async def holdings(self) -> Holdings | None:
        """What its pool and its credentials hold; None: it does not say."""
        with trio.move_on_after(ANSWER_TIMEOUT_S):
            try:
                told = await self.channel.ask(AskHoldings())
            except trio.BrokenResourceError:
                return None
            assert isinstance(told, Holdings)
            return told
        return None

    @property
    def end(self) -> str:
        """How it ended, in words."""
        status = self._popen.returncode
        if status is None:
            return "it does not begin to serve"
        return f"exit status {status}" if status >= 0 else signal.Signals(-status).name


def _spawn(inherited: Inherited) -> subprocess.Popen[bytes]:
    """By exec, as the log's thread runs in this process; and from the main thread, whose end would end the worker."""
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-P", "-c", _PROGRAM, msgspec.json.encode(inherited).decode(), *_absolute(sys.path)],
        stdin=subprocess.DEVNULL,
        pass_fds=(inherited.channel_fd, inherited.board_fd, *inherited.listener_fds),
        process_group=0,  # Ctrl-C in a terminal is for the supervisor, which tells its workers what to do
    )


def _absolute(paths: Iterable[str]) -> list[str]:
    return [os.path.abspath(path) for path in paths]
