"""A worker's circuit breaker: the supervisor has the circuits, and is asked only about those that have failures.

What is held against which of them it tells beforehand. All others let requests out here and now, and their successes
are nobody's business; a failure is told.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator

from vastar_runtime.config.policy import CircuitBreakerPolicy
from vastar_runtime.policies.circuit_breaker import MAX_REASON_CHARACTERS
from vastar_runtime.policies.permit import FREE, CircuitKey, Permit

from .channel import Channel
from .messages import AskPermit, Circuits, Ended, Permitted, ProbeEnded


class _Probe(Permit):
    """Leave to send the one request by which the supervisor's circuit judges the upstream: all goes there."""

    __slots__ = ("_channel", "_number")

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._number = number
        self._told = ""

    def succeeded(self) -> None:
        if self._is_first("succeeded"):
            self._tell("succeeded")

    def failed(self, reason: str) -> None:
        if self._is_first("failed"):
            self._tell("failed", reason)

    def failed_otherwise(self, reason: str) -> None:
        # It is not the probe any more if another one has taken its place: who knows that says what it means.
        self._tell("failed_otherwise", reason)

    def abandoned(self) -> None:
        if not self._told:
            self._told = "abandoned"
            self._tell("abandoned")

    def _tell(self, told: str, reason: str = "") -> None:
        self._channel.tell(ProbeEnded(self._number, told, _text(reason)))


class RemoteCircuitBreaker:
    """The stage, and its permits' Outcomes.

    Args:
        numbers: of what this worker holds.
        clock: seconds, monotonic.
    """

    def __init__(self, channel: Channel, numbers: Iterator[int], clock: Callable[[], float]) -> None:
        self._channel = channel
        self._numbers = numbers
        self._clock = clock
        self._marked: dict[CircuitKey, float] = {}  # with the time until which it lets none out
        self._openings = 0

    def permit(
        self, policy: CircuitBreakerPolicy, tenant_id: str, origin: str
    ) -> Permit | Coroutine[object, None, Permit]:
        """See CircuitBreaker; to be awaited where something is held against the circuit."""
        key = CircuitKey(tenant_id, origin)
        if key in self._marked:
            return self._ask(policy, key)
        return Permit(self, policy, key, self._openings) if policy.enabled else FREE

    def refuses_for_s(self, tenant_id: str, origin: str) -> float:
        """See CircuitBreaker."""
        until = self._marked.get(CircuitKey(tenant_id, origin))
        return 0.0 if until is None else max(0.0, until - self._clock())

    def hear(self, circuits: Circuits) -> None:
        """What the supervisor holds against which."""
        self._openings = circuits.openings
        now = self._clock()
        for mark in circuits.marked:
            self._marked[CircuitKey(mark.tenant_id, mark.origin)] = now + mark.refuses_for_s
        for tenant_id, origin in circuits.cleared:
            self._marked.pop(CircuitKey(tenant_id, origin), None)

    async def _ask(self, policy: CircuitBreakerPolicy, key: CircuitKey) -> Permit:
        number = next(self._numbers)

        def undo(permitted: Permitted) -> None:
            if permitted.is_probe:
                self._channel.tell(ProbeEnded(number, "abandoned", ""))

        permitted = await self._channel.ask(AskPermit(number, policy, *key), undo)
        if permitted.is_probe:
            return _Probe(self._channel, number)
        return Permit(self, policy, key, permitted.openings) if policy.enabled else FREE

    # --- what permits are told ---

    def succeeded(self, permit: Permit) -> None:
        """See Outcomes."""
        if permit.policy.failure_rate is not None or permit.key in self._marked:
            self._tell(permit, None)

    def failed(self, permit: Permit, reason: str) -> None:
        """See Outcomes."""
        # Not only when the supervisor says so: a success that follows at once must not pass it by.
        self._marked.setdefault(permit.key, 0.0)
        self._tell(permit, _text(reason))

    def abandoned(self, permit: Permit) -> None:
        """See Outcomes."""

    def is_probe(self, permit: Permit) -> bool:
        """See Outcomes."""
        return False

    def _tell(self, permit: Permit, failure: str | None) -> None:
        self._channel.tell(Ended(permit.policy, *permit.key, permit.openings, failure))


def _text(reason: str) -> str:
    """What may be sent: no longer than is kept, and without halves of surrogate pairs."""
    return reason[:MAX_REASON_CHARACTERS].encode(errors="replace").decode()
