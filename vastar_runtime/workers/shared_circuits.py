"""The supervisor's circuit breaker: one for all workers, which are told where they have to ask."""

from __future__ import annotations

from collections.abc import Callable

from vastar_runtime.config.policy import CircuitBreakerPolicy
from vastar_runtime.policies.circuit_breaker import CircuitBreaker
from vastar_runtime.policies.permit import FREE, CircuitKey, Permit

from .messages import Circuits, Ended, Mark


class SharedCircuits:
    """Judges by what the workers say, and marks the circuits against which something is held.

    Args:
        breaker: has the circuits; those that it forgets it is to tell ``forgotten``.
        tell_all: tells every worker.
    """

    def __init__(self, breaker: CircuitBreaker, tell_all: Callable[[Circuits], None]) -> None:
        self._breaker = breaker
        self._tell_all = tell_all
        self._marks: dict[CircuitKey, int] = {}  # with the opening that the workers know of

    def marked(self) -> Circuits:
        """What a new worker has to know."""
        return Circuits(self._breaker.openings, tuple(map(self._mark, self._marks)), ())

    def permit(self, policy: CircuitBreakerPolicy, tenant_id: str, origin: str) -> tuple[Permit, bool]:
        """Leave to send a request, and whether that is the probe.

        Raises:
            RequestError: Transient; the circuit is open.
        """
        permit = self._breaker.permit(policy, tenant_id, origin)
        return permit, permit is not FREE and self._breaker.is_probe(permit)

    def ended(self, ended: Ended, tell_back: Callable[[Circuits], None]) -> None:
        """What came of a request that is no probe.

        Args:
            tell_back: tells the worker that told it.
        """
        key = CircuitKey(ended.tenant_id, ended.origin)
        permit = Permit(self._breaker, ended.policy, key, ended.openings)
        if ended.failure is None:
            permit.succeeded()
            self.changed(key)
        else:
            permit.failed(ended.failure)
            if not self.changed(key) and key not in self._marks:
                # It was not counted. Whoever told it asks about this circuit until it hears that it need not; another
                # one may have told a failure that was not heard here yet, and must not forget it.
                tell_back(Circuits(self._breaker.openings, (), (key,)))

    def changed(self, key: CircuitKey) -> bool:
        """Something may have: tell the workers, if they have to know; whether that was so."""
        opening = self._breaker.held_against(key)
        if opening == self._marks.get(key):
            return False
        if opening is None:
            self.forgotten(key)
        else:
            self._marks[key] = opening
            self._tell_all(Circuits(self._breaker.openings, (self._mark(key),), ()))
        return True

    def forgotten(self, key: CircuitKey) -> None:
        """Nothing is held against it any more."""
        if self._marks.pop(key, None) is not None:
            self._tell_all(Circuits(self._breaker.openings, (), (key,)))

    def _mark(self, key: CircuitKey) -> Mark:
        return Mark(*key, self._breaker.refuses_for_s(*key))
