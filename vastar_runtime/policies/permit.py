"""Leave to send one request, and who is told what came of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from vastar_runtime.config.policy import CircuitBreakerPolicy


class CircuitKey(NamedTuple):
    """Whose circuit, and of which origin."""

    tenant_id: str
    origin: str


class Outcomes(Protocol):
    """Who is told what came of requests, once for each permit: the circuit breaker, or, in a worker, what stands in
    its place."""

    def succeeded(self, permit: Permit) -> None:
        """The upstream answered."""

    def failed(self, permit: Permit, reason: str) -> None:
        """The upstream failed."""

    def abandoned(self, permit: Permit) -> None:
        """Nobody knows."""

    def is_probe(self, permit: Permit) -> bool:
        """Whether it is the probe that is under way."""


class Permit:
    """Leave to send one request. What came of it must be told, once: ``succeeded``, ``failed`` or ``abandoned``.

    Telling the same again, or ``abandoned`` after one of the others, as a ``finally`` would, changes nothing. What
    contradicts the first raises RuntimeError.

    Attributes:
        policy: that it was sent under.
        openings: of all circuits, when it was sent.
        probes: which opening's probe it is; 0: none's.
    """

    __slots__ = ("_outcomes", "_told", "key", "openings", "policy", "probes")

    def __init__(self, outcomes: Outcomes, policy: CircuitBreakerPolicy, key: CircuitKey, openings: int) -> None:
        self._outcomes = outcomes
        self._told = ""
        self.policy = policy
        self.key = key
        self.openings = openings
        self.probes = 0

    def succeeded(self) -> None:
        """The upstream answered, and not with what counts as a failure."""
        if self._is_first("succeeded"):
            self._outcomes.succeeded(self)

    def failed(self, reason: str) -> None:
        """The upstream failed; ``reason`` is for the status."""
        if self._is_first("failed"):
            self._outcomes.failed(self, reason)

    def failed_otherwise(self, reason: str) -> None:
        """The upstream failed in a way that does not open a circuit; but a probe fails by it."""
        if self._outcomes.is_probe(self):
            self.failed(reason)

    def abandoned(self) -> None:
        """The request ended, or was never sent, and says nothing of the upstream."""
        if not self._told:
            self._told = "abandoned"
            self._outcomes.abandoned(self)

    def _is_first(self, told: str) -> bool:
        if self._told not in ("", told):
            raise RuntimeError(f"a permit that was told {self._told} is told {told}")
        is_first = not self._told
        self._told = told
        return is_first


class _FreePermit(Permit):
    """For requests that no circuit watches: one for all."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def succeeded(self) -> None:
        pass

    def failed(self, reason: str) -> None:
        pass

    def failed_otherwise(self, reason: str) -> None:
        pass

    def abandoned(self) -> None:
        pass


FREE = _FreePermit()
