"""One circuit: its states, what moves it, and when it opens."""

from __future__ import annotations

import enum

from vastar_runtime.config.policy import CircuitBreakerPolicy

from .failure_window import FailureWindow

NS_PER_MS = 10**6


class State(enum.Enum):
    """Of a circuit."""

    CLOSED = "closed"
    """Requests are sent."""
    OPEN = "open"
    """None is sent, until it is time for a probe and one comes."""
    HALF_OPEN = "half-open"
    """One is under way, the probe; no other is sent."""


class Event(enum.Enum):
    """What moves a circuit."""

    TRIPPED = "too many failures"
    PROBE_SENT = "probe sent"
    PROBE_SUCCEEDED = "probe succeeded"
    PROBE_FAILED = "probe failed"
    PROBE_ABANDONED = "probe abandoned"


# What does not stand here cannot happen.
TRANSITIONS = {
    (State.CLOSED, Event.TRIPPED): State.OPEN,
    (State.OPEN, Event.PROBE_SENT): State.HALF_OPEN,
    (State.HALF_OPEN, Event.PROBE_SENT): State.HALF_OPEN,  # in the place of one that hangs
    (State.HALF_OPEN, Event.PROBE_SUCCEEDED): State.CLOSED,
    (State.HALF_OPEN, Event.PROBE_FAILED): State.OPEN,
    (State.HALF_OPEN, Event.PROBE_ABANDONED): State.OPEN,  # and it is time for a probe at once
}


class Circuit:
    """What is known of one tenant's requests to one origin. All times are nanoseconds of one monotonic clock.

    Attributes:
        failures: in a row, failed probes included.
        last_reason: of the last of them.
        probe: whose request is the probe that is under way.
        last_opening: the number that its last opening was given; 0: it never opened.
        times_opened: after failed probes too.
    """

    __slots__ = (
        "_idle_at_ns",
        "_open_ns",
        "_probe_at_ns",
        "_probe_sent_at_ns",
        "_window",
        "failures",
        "last_opening",
        "last_reason",
        "probe",
        "state",
        "times_opened",
    )

    def __init__(self) -> None:
        self.state = State.CLOSED
        self.failures = 0
        self.last_reason = ""
        self.last_opening = 0
        self.times_opened = 0
        self.probe: object | None = None
        self._window: FailureWindow | None = None
        self._open_ns = 0
        self._probe_at_ns = 0
        self._probe_sent_at_ns = 0
        self._idle_at_ns = 0

    def is_idle(self, now_ns: int) -> bool:
        """Whether it may be forgotten for another's sake: when closed, once nothing that it counted says anything of
        today any more; when open, once nobody has asked for a probe for as long as it was open; never while a probe
        is under way."""
        return self.state is not State.HALF_OPEN and now_ns >= self._idle_at_ns

    def probe_in_ns(self, now_ns: int, longest_ns: int | None = None) -> int:
        """Until it is time for a probe: never longer than it was opened for, nor than ``longest_ns``, whatever the
        clock did since."""
        longest_ns = self._open_ns if longest_ns is None else min(longest_ns, self._open_ns)
        return max(0, min(self._probe_at_ns - now_ns, longest_ns))

    def may_probe(self, policy: CircuitBreakerPolicy, now_ns: int) -> bool:
        """Whether it is time for one. A policy that allows less time than it was opened for, and a clock that went
        back, move the time of the probe."""
        wait_ns = self.probe_in_ns(now_ns, policy.max_open_ms * NS_PER_MS)
        self._probe_at_ns = now_ns + wait_ns
        return not wait_ns

    def success(self, policy: CircuitBreakerPolicy, now_ns: int) -> None:
        """Count a success of a closed circuit."""
        self.failures = 0
        if policy.failure_rate is not None:
            self._count(policy, now_ns, failed=False)
            self._keep(policy, now_ns)

    def failure(self, policy: CircuitBreakerPolicy, now_ns: int, opening: int) -> None:
        """Count a failure of a closed circuit, which may open it; that opening's number would be ``opening``."""
        self.failures += 1
        self._keep(policy, now_ns)
        has_tripped = policy.consecutive_failures is not None and self.failures >= policy.consecutive_failures
        if policy.failure_rate is not None:
            window = self._count(policy, now_ns, failed=True)
            if window.requests >= policy.minimum_requests:
                has_tripped = has_tripped or window.failures / window.requests >= policy.failure_rate
        if has_tripped:
            self._open(Event.TRIPPED, policy.open_ms * NS_PER_MS, policy, now_ns, opening)

    def probe_sent(self, probe: object, now_ns: int) -> None:
        """This is the probe."""
        self._move(Event.PROBE_SENT)
        self.probe = probe
        self._probe_sent_at_ns = now_ns

    def probe_overdue_in_ns(self, now_ns: int) -> int:
        """Until another probe takes the place of the one under way: that may take as long as the circuit was open for.
        One that hangs would keep everybody else waiting for as long as its own client does."""
        return max(0, self._probe_sent_at_ns + self._open_ns - now_ns)

    def probe_succeeded(self, policy: CircuitBreakerPolicy, now_ns: int) -> None:
        """All is well: what failed before is forgotten."""
        self._move(Event.PROBE_SUCCEEDED)
        self.probe = None
        self.failures = 0
        self._window = None
        self._keep(policy, now_ns)

    def probe_failed(self, policy: CircuitBreakerPolicy, now_ns: int, opening: int) -> None:
        """The next one has twice as long to wait."""
        self.failures += 1
        self._open(Event.PROBE_FAILED, 2 * self._open_ns, policy, now_ns, opening)

    def probe_abandoned(self, now_ns: int) -> None:
        """Nobody knows; the next request is a probe."""
        self._move(Event.PROBE_ABANDONED)
        self.probe = None
        self._probe_at_ns = now_ns
        self._idle_at_ns = now_ns + self._open_ns

    def _move(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]

    def _open(self, event: Event, ns: int, policy: CircuitBreakerPolicy, now_ns: int, opening: int) -> None:
        self._move(event)
        self.probe = None
        self.last_opening = opening
        self.times_opened += 1
        self._open_ns = min(ns, policy.max_open_ms * NS_PER_MS)
        self._probe_at_ns = now_ns + self._open_ns
        self._idle_at_ns = self._probe_at_ns + self._open_ns

    def _count(self, policy: CircuitBreakerPolicy, now_ns: int, *, failed: bool) -> FailureWindow:
        if self._window is None:
            self._window = FailureWindow()
        self._window.count(now_ns, policy.window_ms * NS_PER_MS, failed=failed)
        return self._window

    def _keep(self, policy: CircuitBreakerPolicy, now_ns: int) -> None:
        self._idle_at_ns = now_ns + max(policy.window_ms, policy.open_ms) * NS_PER_MS
