"""What a request's way through the stages is handed: its attempts at an origin, and its account of what it uses."""

from __future__ import annotations

from typing import Protocol, TypeVar

from vastar_runtime.config.policy import DeadlinePolicy

from .allowance import Amount
from .egress import EgressGuard


class ResponseHead(Protocol):
    """What is read of an answer."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]: ...


Head = TypeVar("Head", bound=ResponseHead)
Head_co = TypeVar("Head_co", bound=ResponseHead, covariant=True)


class Attempts(Protocol[Head_co]):
    """An exchange with one origin, which can be made again."""

    @property
    def may_repeat(self) -> bool:
        """Sending the request twice does no more than sending it once."""

    @property
    def with_upstream_since(self) -> float | None:
        """When the attempt began to wait for the upstream, in trio's time; None: it waits for something of ours."""

    @property
    def was_written(self) -> bool:
        """Whether any of the attempt's request has gone to the upstream."""

    async def attempt(self, limits: DeadlinePolicy, guard: EgressGuard | None) -> Head_co:
        """Send the request; returns with the head of the response.

        Args:
            guard: judges the address that it goes to; None: it may go to any.

        Raises:
            UpstreamError: how it failed.
            EgressDenied: it must not go where it leads.
        """

    async def discard(self) -> None:
        """Let go of what the last attempt brought."""


class Account(Protocol):
    """What a request uses: see connectors.account."""

    def sends(self, exchange: object) -> bool:
        """Of this exchange the request of the moment goes out; whether it is another one than before."""

    def demand(self, assumed_completion_tokens: int) -> Amount | None:
        """What it will use, as far as can be told before; None: no tokens."""

    def close(self, *, was_sent: bool) -> Amount:
        """It has ended; what it used."""
