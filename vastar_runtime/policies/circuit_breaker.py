"""Circuit breakers: an origin that fails is left alone for a while, for each tenant on its own.

The caller decides what is a failure and tells it; here it is decided whether a request may be sent.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import Policies
from vastar_runtime.config.policy import CircuitBreakerPolicy
from vastar_runtime.errors import RequestError

from .bounded import MAX_KEYS, BoundedTable
from .circuit import NS_PER_MS, Circuit, State
from .permit import FREE, CircuitKey, Permit

# What is kept of a failure's reason for the status: it may quote an upstream.
MAX_REASON_CHARACTERS = 256
# Of the circuits that are not closed the status lists so many, the latest; their number counts all.
MAX_LISTED = 100
# While a probe is under way nobody knows when the next one may be. A refused client that asks again after this long
# finds most probes answered, and does not wait for the whole of another opening.
PROBE_TAKES_MS = 1000


class CircuitStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A circuit that is not closed.

    Attributes:
        state: CLOSED only where a change is told.
        failures: in a row, failed probes included.
        last_reason: of the last of them, at most MAX_REASON_CHARACTERS.
        next_probe_in_ms: 0: the next request is the probe, or one is under way.
        times_opened: after failed probes too.
    """

    tenant_id: str
    origin: str
    state: State
    failures: int
    last_reason: str
    next_probe_in_ms: int
    times_opened: int


class CircuitBreakerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot.

    Attributes:
        opened: how often any circuit opened, since the start; after failed probes too.
        refused: requests, since the start.
        untracked: results that could not be counted, since the start, as the table held nothing that may be forgotten.
        tracked: circuits in the table; closed ones that counted something are among them.
        not_closed: circuits that are open or half-open.
        circuits: those, the latest first, at most MAX_LISTED.
    """

    opened: int
    refused: int
    untracked: int
    tracked: int
    not_closed: int
    circuits: tuple[CircuitStatistics, ...]


class CircuitBreaker:
    """The stage: the circuits of all tenants and origins; where nothing fails there are none, unless rates are counted.

    A result counts only if its circuit has not opened since the request was sent: what was sent before is not heard,
    neither while the circuit is open nor after it has closed again. Only a failure opens a circuit. A request keeps
    the policy that it was sent under. Where a policy turns breakers off nothing is kept: a circuit that was open is
    forgotten at the reload that brings it, or at the next request.

    Args:
        clock: seconds, monotonic.
        max_keys: circuits kept; while none of them may be forgotten, requests of other keys are sent unwatched.
        on_change: told of a circuit that has opened, again after a failed probe, or closed.
        on_forgotten: told of a circuit of which nothing is known any more.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        max_keys: int = MAX_KEYS,
        on_change: Callable[[CircuitStatistics], None] | None = None,
        on_forgotten: Callable[[CircuitKey], None] | None = None,
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._table: BoundedTable[CircuitKey, Circuit] = BoundedTable(max_keys, Circuit.is_idle, on_forgotten)
        # Every opening of any circuit has a number. A permit bears that of its time, so that requests sent before a
        # circuit opened are told from those sent since, and those of a circuit that nobody knows cost nothing.
        self._openings = 0
        self._refused = self._untracked = 0

    def permit(self, policy: CircuitBreakerPolicy, tenant_id: str, origin: str) -> Permit:
        """Leave to send a request.

        Raises:
            RequestError: Transient; the circuit is open.
        """
        key = CircuitKey(tenant_id, origin)
        if not policy.enabled:
            self._table.remove(key)
            return FREE
        permit = Permit(self, policy, key, self._openings)
        circuit = self._table.get(key)
        if circuit is None or circuit.state is State.CLOSED:
            return permit
        now_ns = self._now_ns()
        if circuit.state is State.HALF_OPEN:
            if overdue_in_ns := circuit.probe_overdue_in_ns(now_ns):
                wait_ms = min(PROBE_TAKES_MS, _ms(overdue_in_ns))
                raise self._refusal(origin, circuit, wait_ms, " unless the one under way succeeds")
        elif not circuit.may_probe(policy, now_ns):
            raise self._refusal(origin, circuit, _ms(circuit.probe_in_ns(now_ns)))
        circuit.probe_sent(permit, now_ns)
        permit.probes = circuit.last_opening
        permit.openings = 0  # once another probe has taken its place, what comes of it is late for good
        return permit

    def settle(self, policies: Policies) -> None:
        """These policies hold from now on: circuits of requests that have no breaker any more are forgotten."""
        for key, circuit in list(self._table.latest()):
            if circuit.state is not State.CLOSED and not policies.policy_for(*key).circuit_breaker.enabled:
                self._table.remove(key)

    def refuses_for_s(self, tenant_id: str, origin: str) -> float:
        """How long no request would get a permit, as far as is known; 0: the next one may."""
        circuit = self._table.get(CircuitKey(tenant_id, origin))
        if circuit is None or circuit.state is not State.OPEN:
            return 0.0
        return circuit.probe_in_ns(self._now_ns()) / 10**9

    def is_probe(self, permit: Permit) -> bool:
        """Whether it is the probe that is under way."""
        circuit = self._table.get(permit.key)
        return circuit is not None and circuit.probe is permit

    @property
    def openings(self) -> int:
        """Of all circuits, since the start: what a permit of now bears."""
        return self._openings

    def held_against(self, key: CircuitKey) -> int | None:
        """None: nothing, so that a request gets its permit and its success changes nothing, unless rates are counted;
        else the number of the circuit's last opening, 0 before the first one."""
        circuit = self._table.get(key)
        if circuit is None or (circuit.state is State.CLOSED and not circuit.failures):
            return None
        return circuit.last_opening

    def statistics(self) -> CircuitBreakerStatistics:
        """What happened so far, and which circuits are not closed."""
        now_ns = self._now_ns()
        circuits = [(key, circuit) for key, circuit in self._table.latest() if circuit.state is not State.CLOSED]
        return CircuitBreakerStatistics(
            opened=self._openings,
            refused=self._refused,
            untracked=self._untracked,
            tracked=len(self._table),
            not_closed=len(circuits),
            circuits=tuple(self._statistics_of(key, circuit, now_ns) for key, circuit in circuits[:MAX_LISTED]),
        )

    @staticmethod
    def _statistics_of(key: CircuitKey, circuit: Circuit, now_ns: int) -> CircuitStatistics:
        return CircuitStatistics(
            tenant_id=key.tenant_id,
            origin=key.origin,
            state=circuit.state,
            failures=circuit.failures,
            last_reason=circuit.last_reason,
            next_probe_in_ms=_ms(circuit.probe_in_ns(now_ns)),
            times_opened=circuit.times_opened,
        )

    # --- what permits are told ---

    def succeeded(self, permit: Permit) -> None:
        """See Outcomes."""
        counts_rate = permit.policy.failure_rate is not None
        circuit = self._table.get(permit.key)
        if circuit is None:
            circuit = self._track(permit.key) if counts_rate else None
        if circuit is None:
            return
        # A probe that was replaced and succeeds after all: an upstream whose answers take longer than the circuit was
        # open for would never be let in again otherwise, as long as somebody asks.
        if circuit.state is State.HALF_OPEN and circuit.last_opening == permit.probes:
            circuit.probe_succeeded(permit.policy, self._now_ns())
            self._changed(permit.key, circuit)
        elif self._is_late(permit, circuit):
            return
        elif counts_rate or circuit.last_opening:
            circuit.success(permit.policy, self._now_ns())
        else:
            self._table.remove(permit.key)  # there is nothing left to know

    def failed(self, permit: Permit, reason: str) -> None:
        """See Outcomes."""
        circuit = self._table.get(permit.key) or self._track(permit.key)
        if circuit is None:
            return
        openings = circuit.times_opened
        if circuit.probe is permit:
            circuit.probe_failed(permit.policy, self._now_ns(), self._openings + 1)
        elif self._is_late(permit, circuit):
            return
        else:
            circuit.failure(permit.policy, self._now_ns(), self._openings + 1)
        circuit.last_reason = reason[:MAX_REASON_CHARACTERS]
        self._openings = max(self._openings, circuit.last_opening)
        if circuit.times_opened > openings:
            self._changed(permit.key, circuit)

    def abandoned(self, permit: Permit) -> None:
        """See Outcomes."""
        circuit = self._table.get(permit.key)
        if circuit is not None and circuit.probe is permit:
            circuit.probe_abandoned(self._now_ns())

    # --- inside ---

    @staticmethod
    def _is_late(permit: Permit, circuit: Circuit) -> bool:
        """It was sent before the circuit opened, or was a probe that took too long."""
        return circuit.last_opening > permit.openings

    def _changed(self, key: CircuitKey, circuit: Circuit) -> None:
        if self._on_change is not None:
            self._on_change(self._statistics_of(key, circuit, self._now_ns()))

    def _track(self, key: CircuitKey) -> Circuit | None:
        if not self._table.make_room(1, self._now_ns()):
            self._untracked += 1
            return None
        circuit = Circuit()
        self._table.put(key, circuit)
        return circuit

    def _refusal(self, origin: str, circuit: Circuit, wait_ms: int, unless: str = "") -> RequestError:
        self._refused += 1
        # The circuit is one tenant's, and so is what its requests were told.
        message = f"circuit open for {origin}, next probe in {wait_ms} ms{unless}; last failure: {circuit.last_reason}"
        return RequestError(ErrorClass.TRANSIENT, message, retry_after_ms=wait_ms)

    def _now_ns(self) -> int:
        return round(self._clock() * 10**9)


def _ms(ns: int) -> int:
    """Rounded up."""
    return -(-ns // NS_PER_MS)
