"""What the server needs of a connector, and a connector of the server."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol

import msgspec

from connector_sdk.wire import ExecuteRequest
from vastar_runtime.credentials import Credentials
from vastar_runtime.http.dial import Dialer
from vastar_runtime.http.pool import Pool
from vastar_runtime.metering.metering import Metering
from vastar_runtime.policies.passage import Passage


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What came of reading the configuration again.

    Attributes:
        file: that was read; None: there is none, and the defaults hold.
        mistakes: one line each; where there are any, nothing has changed.
        settings, scopes: how many the file sets; where it has mistakes: how many scopes hold still.
        needs_restart: keys that differ and hold only after a restart.
    """

    file: str | None
    mistakes: tuple[str, ...]
    settings: int
    scopes: int
    needs_restart: tuple[str, ...]


class Control(Protocol):
    """The daemon, as far as it can be asked and told."""

    async def statistics(self) -> msgspec.Struct | msgspec.Raw:
        """An immutable snapshot, or JSON of one."""

    async def reload(self) -> Reloaded:
        """Read the configuration again and use it from the next request on, if it is valid."""


class Services(msgspec.Struct, frozen=True):
    """What all requests share."""

    pool: Pool
    dialer: Dialer
    control: Control | None = None
    metering: Metering = msgspec.field(default_factory=Metering)
    credentials: Credentials = msgspec.field(default_factory=lambda: Credentials({}))


class Outcome(msgspec.Struct):
    """What is known of a call so far, for the log: it is filled as the call goes on, and read when it ended."""

    method: str = ""
    origin: str = ""
    path: str = ""
    status_code: int = 0
    body_bytes: int = 0
    attempts: int = 0
    queued_s: float = 0.0


class Sink(Protocol):
    """Where a streamed answer goes."""

    def head(self, status_code: int, headers: tuple[tuple[str, str], ...], attempts: int) -> None:
        """The header block; once, first. ``attempts``: how often the request was sent for it."""

    def try_piece(self, data: bytes) -> bool:
        """A piece of the body, if the client has room for it now; False: it was not taken."""

    async def piece(self, data: bytes) -> None:
        """A piece of the body; waits while the client has no room for it."""


class Passed(enum.Enum):
    """How a streamed answer stands."""

    SO_FAR = enum.auto()  # more will come
    WHOLE = enum.auto()
    FOR_TASK = enum.auto()  # ``Call.stream`` is to go on


class Begun(Protocol):
    """A request that was sent; an answer is on its way."""

    def try_finish(self, passage: Passage) -> bytes | None:
        """As ``Call.execute``, if all of the answer is there; None: it is for ``execute`` to see. What one read brings
        is not kept before it is answered, and so is not asked for.

        Raises:
            RequestError: how it failed.
        """

    def try_pass_on(self, passage: Passage, sink: Sink) -> Passed:
        """As ``Call.stream``, as far as nothing need be waited for.

        Raises:
            RequestError: how it failed.
        """

    def try_take_back(self) -> bool:
        """Whether nothing of it has been sent yet: then it never will be, and it is as if it had not begun."""

    def unwatch(self) -> None:
        """A task takes it from here: ``on_answer`` is called no more."""

    async def close(self) -> None:
        """Let go of it, whatever state it is in."""


class Call(Protocol):
    """One request, checked, not yet begun."""

    @property
    def origin(self) -> str:
        """Where it goes: what policies are chosen by; "" for one that goes nowhere, and through no limit."""

    @property
    def timeout_ms(self) -> float | None:
        """The time limit that stands in the payload; None: none."""

    def try_begin(self, services: Services, passage: Passage, on_answer: Callable[[], None]) -> Begun | None:
        """Send the request, if nothing need be waited for; ``execute`` or ``stream`` go on from there in any case.

        Args:
            on_answer: called, in nobody's task, while an answer can be read: for ``try_finish``.

        Returns:
            None: it is for ``execute`` or ``stream`` to send it.

        Raises:
            RequestError: how it failed.
        """

    async def execute(self, services: Services, passage: Passage, hold: Callable[[int], None]) -> bytes:
        """Run it; the answer's payload.

        Args:
            passage: what every attempt goes through; its deadline is told of every progress.
            hold: to be called with the size of each piece that is kept; raises RequestError when it is too much.

        Raises:
            RequestError: how it failed.
        """

    async def stream(self, services: Services, passage: Passage, sink: Sink) -> None:
        """Run it; the answer goes to ``sink`` piece by piece as it arrives.

        Raises:
            RequestError: how it failed; what was delivered before stands.
        """


class Connector(Protocol):
    """A kind of request."""

    @property
    def name(self) -> str:
        """The wire's connector_name."""

    def prepare(self, request: ExecuteRequest, outcome: Outcome) -> Call:
        """Check the payload.

        Args:
            outcome: filled in as things become known, now and by the call.

        Raises:
            InvalidRequest: saying what is wrong with it.
        """
