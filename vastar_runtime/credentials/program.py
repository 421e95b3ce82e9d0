"""Running a program for its output. Whatever it does, it ends in time, and what it started ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

import trio

from .child import Child, Start
from .errors import Unusable
from .secret import MAX_SOURCE_BYTES

COMMAND_TIMEOUT_S = 10.0
# A process that was killed ends in milliseconds, unless its disk hangs, or it is another user's.
END_TIMEOUT_S = 1.0


class Program:
    """A program, which runs once at a time.

    Args:
        arguments: the first one is its absolute path.
        environ: all that it gets.
    """

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._environ = environ
        self._one_thread = trio.CapacityLimiter(1)
        self._left: subprocess.Popen[bytes] | None = None  # it was killed, and had not ended

    async def output(self) -> bytes:
        """What it prints.

        Raises:
            Unusable: it failed, took longer than COMMAND_TIMEOUT_S, or printed more than a secret can have.
        """
        with trio.move_on_after(COMMAND_TIMEOUT_S):
            return await self._output()
        raise Unusable(f"took longer than {COMMAND_TIMEOUT_S:g} s")

    async def _output(self) -> bytes:
        if self._left is not None and self._left.poll() is None:
            raise Unusable("took too long, and does not end though it was killed")
        self._left = None
        child = await self._start()
        try:
            output = await _read(child)
        finally:
            await self._end(child)
        status = child.popen.returncode
        if status > 0:
            raise Unusable(f"ended with status {status}")
        if status < 0:
            raise Unusable(f"was ended by {_signal_name(-status)}")
        return output

    async def _start(self) -> Child:
        start = Start(self._arguments, self._environ)
        try:
            return await trio.to_thread.run_sync(start.run, abandon_on_cancel=True, limiter=self._one_thread)
        except OSError as error:
            raise Unusable(f"cannot be run: {error.strerror or error}") from error
        except RuntimeError as error:  # there can be no more threads
            raise Unusable(f"cannot be run: {error}") from error
        except trio.Cancelled:
            child = start.abandon()
            if child is not None:
                await self._end(child)
            else:
                with trio.move_on_after(END_TIMEOUT_S) as limit:
                    limit.shield = True
                    await start.ended.wait()
            raise

    async def _end(self, child: Child) -> None:
        """All of its process group; it is not left as a zombie."""
        child.kill()
        with trio.move_on_after(END_TIMEOUT_S) as limit:
            limit.shield = True
            await trio.lowlevel.wait_readable(child.pidfd)
        if child.popen.poll() is None:
            self._left = child.popen
        child.close()


async def _read(child: Child) -> bytes:
    """All that is printed until the process ends; what others that it started print later is not waited for."""
    output = bytearray()
    fd = child.stdout_fd

    async def read() -> None:
        while len(output) <= MAX_SOURCE_BYTES:
            await trio.lowlevel.wait_readable(fd)
            piece = _piece(fd)
            if piece == b"":
                return
            output.extend(piece or b"")
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.lowlevel.wait_readable(child.pidfd)
        nursery.cancel_scope.cancel()
    while len(output) <= MAX_SOURCE_BYTES and (piece := _piece(fd)):
        output.extend(piece)
    if len(output) > MAX_SOURCE_BYTES:
        raise Unusable(f"printed more than {MAX_SOURCE_BYTES >> 10} KiB")
    return bytes(output)


def _piece(fd: int) -> bytes | None:
    """None: nothing at the moment; empty: nothing any more."""
    try:
        return os.read(fd, MAX_SOURCE_BYTES)
    except BlockingIOError:
        return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # SIGRTMIN + 3
        return f"signal {number}"
