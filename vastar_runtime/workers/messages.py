"""What supervisor and workers ask and tell each other: one struct a message, tagged with its name.

A question is answered with the struct that stands beside it, or with a RequestError; news are not answered.
"""

from __future__ import annotations

import msgspec

from vastar_runtime.config import Listen, Settings
from vastar_runtime.config.policy import CircuitBreakerPolicy, ConcurrencyPolicy, RateLimitPolicy, RetryPolicy
from vastar_runtime.credentials import CredentialStatistics
from vastar_runtime.http.pool import PoolStatistics
from vastar_runtime.policies.allowance import Allowance, AllowanceRefused, Amount, Reserved
from vastar_runtime.policies.token_bucket import Bucket


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The root of all."""


class Done(Message, frozen=True):
    """The answer that says nothing else."""


# --- what a worker asks: limits and circuits. The numbers are the worker's own. ---


class Enter(Message, frozen=True):
    """Wait for a place of ``Admission``; answered with Done, and held until Left."""

    number: int
    policy: ConcurrencyPolicy
    tenant_id: str
    remaining_s: float


class Take(Message, frozen=True):
    """Tokens of every rate limit that applies; answered with Tokens."""

    policy: RateLimitPolicy
    tenant_id: str
    origin: str


class Tokens(Message, frozen=True):
    """They were taken, of these; () of none."""

    buckets: tuple[Bucket, ...]


class AskPermit(Message, frozen=True):
    """Leave to send one request to an origin that fails; answered with Permitted."""

    number: int
    policy: CircuitBreakerPolicy
    tenant_id: str
    origin: str


class Permitted(Message, frozen=True):
    """It may be sent.

    Attributes:
        is_probe: what comes of it is told with ProbeEnded, else with Ended.
        openings: of all circuits so far.
    """

    is_probe: bool
    openings: int


class AskRetry(Message, frozen=True):
    """Leave for one more attempt; one that this number held before is given back. Answered with Granted."""

    number: int
    policy: RetryPolicy
    origin: str


class Granted(Message, frozen=True):
    """Whether there is leave; if so it is held until RetryEnded."""

    is_granted: bool


class Reserve(Message, frozen=True):
    """So much of every allowance; answered with Decided."""

    allowances: tuple[Allowance, ...]
    amount: Amount


class Decided(Message, frozen=True):
    """What came of it: one of the two."""

    reserved: Reserved | None
    refused: AllowanceRefused | None


# --- what a worker tells ---


class Entered(Message, frozen=True):
    """A request that runs already counts from now on, as its tenant has got a limit; until Left."""

    number: int
    policy: ConcurrencyPolicy
    tenant_id: str


class Left(Message, frozen=True):
    """The place is free again."""

    number: int


class GiveBack(Message, frozen=True):
    """Nothing was sent with these tokens."""

    buckets: tuple[Bucket, ...]


class Settle(Message, frozen=True):
    """So much was used of what was reserved under this id."""

    reserved_id: int
    used: Amount


class Ended(Message, frozen=True):
    """What came of a request that is no probe.

    Attributes:
        openings: of all circuits, when it was sent.
        failure: how it failed; None: it did not.
    """

    policy: CircuitBreakerPolicy
    tenant_id: str
    origin: str
    openings: int
    failure: str | None


class ProbeEnded(Message, frozen=True):
    """What came of a probe.

    Attributes:
        told: the method of ``Permit``: "succeeded", "failed", "failed_otherwise" or "abandoned".
        reason: of a failure.
    """

    number: int
    told: str
    reason: str


class RetryEnded(Message, frozen=True):
    """The retry has brought what is delivered."""

    number: int


# --- what the supervisor asks and tells ---


class Count(Message, frozen=True):
    """How much a worker has under way; answered with Counted."""

    origins: tuple[str, ...]


class Counted(Message, frozen=True):
    """Now, and since the start.

    Attributes:
        running, admitted: requests that no limit of admission holds back, which nobody was asked about.
        active: requests that are with an origin or wait for it.
        with_origins: of those, with each of the origins asked about.
    """

    running: int
    admitted: int
    active: int
    with_origins: tuple[int, ...]


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A circuit that requests must be asked about; for so long it lets none out."""

    tenant_id: str
    origin: str
    refuses_for_s: float


class Circuits(Message, frozen=True):
    """Circuits that have got a mark, or another one, and those whose mark is gone.

    Attributes:
        openings: of all circuits so far.
        cleared: tenant and origin.
    """

    openings: int
    marked: tuple[Mark, ...]
    cleared: tuple[tuple[str, str], ...]


# --- settings, the state of the whole, the end ---


class Configure(Message, frozen=True):
    """Use these settings, and serve; answered with Done by a worker that does."""

    settings: Settings

    @classmethod
    def of(cls, settings: Settings) -> Configure:
        """Without where to listen, which is the supervisor's: that path may hold bytes that MessagePack has no form
        for."""
        return cls(msgspec.structs.replace(settings, listen=Listen()))


class AskHoldings(Message, frozen=True):
    """What the worker's connection pool holds, which credentials it has, and whether it writes what is used; answered
    with Holdings."""


class Holdings(Message, frozen=True):
    """
    Attributes:
        usage_problem: of ``UsageLog``.
    """

    pool: PoolStatistics
    credentials: tuple[CredentialStatistics, ...]
    usage_problem: str | None


class Drain(Message, frozen=True):
    """Accept no more, answer what is in flight, and end."""


class Stop(Message, frozen=True):
    """End at once."""


class Draining(Message, frozen=True):
    """A worker was told to end by somebody else than its supervisor."""


class AskReload(Message, frozen=True):
    """Read the configuration again; answered with ReloadTold."""


class ReloadTold(Message, frozen=True):
    """``Reloaded``, as exact JSON: MessagePack has no form for a path that is no text."""

    json: bytes


class AskStatistics(Message, frozen=True):
    """What the daemon holds and does; answered with StatisticsTold."""


class StatisticsTold(Message, frozen=True):
    """``Statistics`` of the daemon, as exact JSON."""

    json: bytes


Question = Enter | Take | AskPermit | AskRetry | Reserve | Count | Configure | AskHoldings | AskReload | AskStatistics
Answer = Done | Tokens | Permitted | Granted | Decided | Counted | Holdings | ReloadTold | StatisticsTold
News = Entered | Left | GiveBack | Settle | Ended | ProbeEnded | RetryEnded | Circuits | Drain | Stop | Draining
