"""One connection to Redis: connected, introduced, asked until it fails."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Generator, Mapping
from typing import Any, Protocol, cast

import msgspec
import trio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis.connection import (
    BaseConnection,
    TCPConnection,
    TCPLocation,
    UnixDomainSocketConnection,
    UnixDomainSocketLocation,
)
from coredis.exceptions import NoScriptError

from vastar_runtime.policies.use_windows import US_PER_S, Now
from vastar_runtime.telemetry.log import clean

from .redis_address import RedisAddress
from .redis_scripts import Script
from .unavailable import Unavailable

# From the name's resolution to the answer to the first command; nobody waits for it.
CONNECT_TIMEOUT_S = 1.0
# Of what is said in the background.
BACKGROUND_TIMEOUT_S = 1.0
STARTED_ANEW = "it knows nothing yet and waits for what all daemons have used"
# So often others have their turn before an answer counts as late: among them is the task that reads it, and this
# process may have been busy for as long as it took.
_GRACE_TURNS = 5
_MAX_CAUSES = 10

# It logs failures to connect, with tracebacks; ours has a line for them.
logging.getLogger("coredis").setLevel(logging.CRITICAL + 1)


class _Request(Protocol):
    """What was sent, to be awaited."""

    @property
    def complete(self) -> bool: ...

    def __await__(self) -> Generator[Any, None, Any]: ...


class Session:
    """A connection. Requests go out in the order of their asking, and one of them may fail all.

    Args:
        ssl_context: None: no TLS.

    Attributes:
        failed: set when nothing can be asked any more; ``reason`` says why.
        clock_ahead_us: how far Redis' clock was ahead of trio's when it answered last.
    """

    def __init__(self, address: RedisAddress, ssl_context: ssl.SSLContext | None) -> None:
        self.failed = trio.Event()
        self.reason = ""
        self.clock_ahead_us = 0
        self._address = address
        self._connection = _connection(address, ssl_context)
        self._connected = trio.Event()
        self._head: Mapping[str, object] = {}
        self._asking = 0
        self._all_answered = trio.Event()

    async def run(self) -> None:
        """Hold the connection, until it fails or this is cancelled."""
        try:
            await self._connection.run(task_status=cast(Any, self))
        except Exception as error:  # whatever can go wrong with a connection, and the library's own
            self.fail(self._reason_of(error))
        else:
            self.fail("the connection was closed")
        finally:
            # The library leaves them open when it could not connect.
            for value in vars(self._connection).values():
                if isinstance(value, MemoryObjectSendStream | MemoryObjectReceiveStream):
                    value.close()

    def started(self, value: object = None) -> None:
        """As a task status: the connection is ready."""
        self._connected.set()

    def fail(self, reason: str) -> None:
        """Ask no more; the first reason counts."""
        if not self.failed.is_set():
            self.reason = reason
            self.failed.set()
            self._connected.set()
            self._connection.invalidate(reason)

    async def connected(self) -> None:
        """Wait until it is.

        Raises:
            Unavailable: it cannot be.
        """
        with trio.move_on_after(CONNECT_TIMEOUT_S):
            await self._connected.wait()
        if not self._connected.is_set():
            self.fail(f"no connection within {CONNECT_TIMEOUT_S:.0f} s")
        if self.failed.is_set():
            raise Unavailable(self.reason)

    def introduce(self, head: Mapping[str, object]) -> None:
        """What every script is told from now on."""
        self._head = head

    async def command(self, name: bytes, *arguments: str | bytes | int) -> Any:
        """A plain command.

        Raises:
            Unavailable: the session has failed.
        """
        try:
            return await self._answer(self._send(name, *arguments), trio.current_time() + BACKGROUND_TIMEOUT_S)
        except Unavailable as error:
            self.fail(error.reason)
            raise

    async def ask(self, script: Script, body: Mapping[str, object], timeout_s: float = BACKGROUND_TIMEOUT_S) -> Any:
        """Run a script; what it answers after the word "ok": the time in µs, and what else it has to say.

        It is on its way before this waits for anything.

        Raises:
            Unavailable: the session has failed. Nobody knows whether the script ran.
        """
        self._asking += 1
        try:
            return await self._run(script, msgspec.msgpack.encode({**self._head, **body}), timeout_s)
        except Unavailable as error:
            self.fail(error.reason)
            raise
        finally:
            self._asking -= 1
            if not self._asking:
                self._all_answered.set()

    async def all_answered(self) -> None:
        """Wait until nobody waits for an answer any more."""
        while self._asking:
            self._all_answered = trio.Event()
            await self._all_answered.wait()

    def now(self) -> Now:
        """Redis' time, as far as is known here."""
        now_us = _clock_us() + self.clock_ahead_us
        return Now(now_us, now_us)

    # --- inside ---

    async def _run(self, script: Script, encoded: bytes, timeout_s: float) -> list[Any]:
        deadline_s = trio.current_time() + timeout_s
        try:
            found = await self._answer(self._send(b"EVALSHA", script.sha, 0, encoded), deadline_s)
        except NoScriptError:  # somebody has flushed them
            found = await self._answer(self._send(b"EVAL", script.source, 0, encoded), deadline_s)
        try:
            word, now_us, *answer = msgspec.msgpack.decode(found)
        except (ValueError, TypeError) as error:
            raise Unavailable("its answer is not understood") from error
        self.clock_ahead_us = now_us - _clock_us()
        if word == "ok":
            return [now_us, *answer]
        if word == "recovering":
            raise Unavailable(STARTED_ANEW)
        raise Unavailable("it does not know this process any more")

    def _send(self, name: bytes, *arguments: str | bytes | int) -> _Request:
        try:
            return self._connection.create_request(name, *arguments, decode=False)
        except Exception as error:
            raise Unavailable(self.reason or self._reason_of(error)) from error

    async def _answer(self, request: _Request, deadline_s: float) -> Any:
        try:
            with trio.CancelScope(deadline=deadline_s):
                return await request
            with trio.CancelScope(shield=True):
                for _ in range(_GRACE_TURNS):
                    if request.complete:
                        return await request
                    await trio.lowlevel.checkpoint()
        except NoScriptError:
            raise
        except Exception as error:  # of the connection, the server or the library: all say no more than that it failed
            raise Unavailable(self.reason or self._reason_of(error)) from error
        raise Unavailable("no answer in time")

    def _reason_of(self, error: BaseException) -> str:
        """The innermost cause that says something, on one line, without the password."""
        for _ in range(_MAX_CAUSES):
            inner = error.__cause__ or (
                error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__context__
            )
            if inner is None or not str(inner):
                break
            error = inner
        text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        if self._address.password:
            text = text.replace(self._address.password, "…")
        return clean(re.sub(r"\s+", " ", text))


def _clock_us() -> int:
    return int(trio.current_time() * US_PER_S)


def _connection(address: RedisAddress, ssl_context: ssl.SSLContext | None) -> BaseConnection:
    if address.path is not None:
        return UnixDomainSocketConnection(
            UnixDomainSocketLocation(address.path),
            username=address.username,
            password=address.password,
            db=address.database,
        )
    assert address.host is not None
    return TCPConnection(
        TCPLocation(address.host, address.port),
        username=address.username,
        password=address.password,
        db=address.database,
        ssl_context=ssl_context,
    )
