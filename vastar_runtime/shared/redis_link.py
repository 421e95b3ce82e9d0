"""The way to Redis: one connection at a time, made in the background and not asked while it does not answer.

A request waits for an answer for the time limit and no longer, and for none while there is no connection: what the
configuration says for that case holds at once then. A connection is used as soon as all that this process knows has
been said on it, and Redis has waited for the others to do the same, if it has just started.
"""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Protocol

import structlog
import trio

from vastar_runtime.policies.use_windows import Now

from .redis_address import RedisAddress
from .redis_scripts import ALL, HELLO, RENEW, Script
from .redis_session import STARTED_ANEW, Session
from .unavailable import Fail, Unavailable

log = structlog.get_logger()

REDIS_TIMEOUT_S = 0.05
RETRY_S = 0.25
# A process renews its lease so often; one whose lease has run out is gone, and what it had reserved counts as used.
RENEW_S = 1.0
LEASE_S = 30.0
# After Redis has lost what it knew: the time in which every daemon must have noticed, which takes RENEW_S if it is idle
# and Redis still runs, and must have come back.
RECOVERY_S = 3.0
# Longer than the longest window: a word of a run that is older tells nothing.
EPOCH_S = 40 * 86_400


class Contributor(Protocol):
    """What knows something that Redis has to know."""

    async def contribute(self, session: Session) -> None:
        """Say all of it, on a new connection.

        Raises:
            Unavailable: it has failed.
        """

    async def serve(self, session: Session) -> None:
        """Say what is new, until cancelled.

        Raises:
            Unavailable: it has failed.
        """


class RedisLink:
    """What asks Redis.

    Args:
        prefix: of every key; daemons with the same one count together.
        daemon: its name, the same after a restart and no other daemon's.
        fail: only logged here.
        ssl_context: for TLS; None: trusts the system's authorities.
        timeout_s: see REDIS_TIMEOUT_S.
        recovery_s: see RECOVERY_S.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        prefix: str,
        daemon: str,
        fail: Fail,
        ssl_context: ssl.SSLContext | None = None,
        timeout_s: float = REDIS_TIMEOUT_S,
        recovery_s: float = RECOVERY_S,
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.contributors: list[Contributor] = []
        self._fail = fail
        self._ssl_context = None
        if address.is_tls:
            self._ssl_context = ssl_context or ssl.create_default_context()
        # A field for each process, which no other can be taken for; its daemon's come together.
        daemon_part = f"{sha256(daemon.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}:"
        self._head: dict[str, object] = {
            "prefix": f"vastar:{prefix}:",
            "daemon": daemon_part,
            "process": daemon_part + secrets.token_hex(8),
            "lease_ms": round(LEASE_S * 1000),
            "epoch_ms": EPOCH_S * 1000,
            "recovery_us": round(recovery_s * 1_000_000),
            # While a process still speaks, the others wait for so much more.
            "more_us": round(recovery_s * 500_000),
        }
        self._generation = 0
        self._session: Session | None = None
        self._latest: Session | None = None  # that has answered
        self._reason = "no connection yet"
        self._is_logged = False

    @property
    def is_available(self) -> bool:
        """Whether asking makes sense."""
        return self._session is not None

    @property
    def reason(self) -> str | None:
        """Why it makes none, without the password; None: it does."""
        return None if self.is_available else self._reason

    async def ask(self, script: Script, body: Mapping[str, object]) -> Any:
        """See Session.ask.

        Raises:
            Unavailable: there is no answer; where there is no connection, at once.
        """
        session = self.session()
        try:
            return await session.ask(script, body, self.timeout_s)
        except Unavailable as error:
            self._lose(session, error.reason)
            raise

    def session(self) -> Session:
        """The one to ask.

        Raises:
            Unavailable: there is none.
        """
        if self._session is None:
            raise Unavailable(self._reason)
        return self._session

    def now(self) -> Now:
        """Redis' time as far as is known, or this machine's."""
        if self._latest is not None:
            return self._latest.now()
        now_us = time.time_ns() // 1000
        return Now(now_us, now_us)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, and connect again, for ever; started once the first attempt has succeeded or failed."""
        is_started = False
        while True:
            began_s = trio.current_time()
            session = Session(self.address, self._ssl_context)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.run)
                try:
                    await self._introduce(session)
                    for contributor in self.contributors:
                        await contributor.contribute(session)
                    await self._recovered(session)
                except Unavailable as error:
                    session.fail(error.reason)
                    self._lose(session, session.reason)
                else:
                    self._use(session)
                    for contributor in self.contributors:
                        nursery.start_soon(_until_it_fails, contributor, session)
                    nursery.start_soon(self._renew, session)
                if not is_started:
                    is_started = True
                    task_status.started()
                await session.failed.wait()
                self._lose(session, session.reason)
                nursery.cancel_scope.cancel()
            await session.all_answered()
            await trio.sleep_until(max(began_s + RETRY_S, trio.current_time()))

    # --- inside ---

    async def _introduce(self, session: Session) -> None:
        await session.connected()
        server = await session.command(b"INFO", b"server")
        run = next((line[7:] for line in bytes(server).split() if line.startswith(b"run_id:")), b"unknown")
        for script in ALL:
            await session.command(b"SCRIPT", b"LOAD", script.source)
        self._generation += 1
        session.introduce({**self._head, "run": run.decode("ascii", "replace"), "generation": self._generation})
        await session.ask(HELLO, {})
        self._latest = session

    async def _recovered(self, session: Session) -> None:
        while True:
            _, wait_us = await session.ask(RENEW, {})
            if not wait_us:
                return
            self._tell_unavailable(STARTED_ANEW)
            with trio.move_on_after(wait_us / 1_000_000):
                await session.failed.wait()
                raise Unavailable(session.reason)

    async def _renew(self, session: Session) -> None:
        while True:
            await trio.sleep(RENEW_S)
            try:
                await session.ask(RENEW, {})
            except Unavailable:
                return

    def _use(self, session: Session) -> None:
        self._session = session
        if self._is_logged:
            self._is_logged = False
            log.info("shared limits available again", redis=str(self.address))

    def _lose(self, session: Session, reason: str) -> None:
        if self._session is session:
            self._session = None
        self._tell_unavailable(reason)

    def _tell_unavailable(self, reason: str) -> None:
        self._reason = reason
        if not self._is_logged:
            self._is_logged = True
            log.warning("shared limits unavailable", redis=str(self.address), reason=reason, fail=self._fail)


async def _until_it_fails(contributor: Contributor, session: Session) -> None:
    try:
        await contributor.serve(session)
    except Unavailable as error:
        session.fail(error.reason)
