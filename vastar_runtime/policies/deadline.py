"""How long a request may take, and what it was waiting for when that had passed."""

from __future__ import annotations

import math

import trio

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import DeadlinePolicy
from vastar_runtime.errors import RequestError

from .alarm import NOBODY, Alarm, Cancellable

SAME_LIMIT_S = 0.05


class Deadline:
    """The time limits of one request: it is cancelled at the end of the whole request's, or sooner, at that of the
    one which every progress moves on. To be told when the request has ended.

    The limits of an attempt (to connect, to the response head) are not here: when they pass, another attempt may
    follow.

    Args:
        deadline_at_ms: Unix milliseconds, 0 for none (the wire's field).
        timeout_ms: from now, None for none (the connector's field).
        policy: the configured limits.
        unix_now_s: the wall clock, which is what ``deadline_at_ms`` speaks of.
        scope: what the request ends by; None: a scope of its own, for the caller to enter.

    Attributes:
        began_at: when the request came, in trio's time.
        scope: what is cancelled; ``passed`` has the error once it has caught its cancellation.

    Raises:
        RequestError: Timeout, when ``deadline_at_ms`` has passed already.
    """

    def __init__(
        self,
        *,
        deadline_at_ms: int,
        timeout_ms: float | None,
        policy: DeadlinePolicy,
        unix_now_s: float,
        scope: Cancellable | None = None,
    ) -> None:
        self._policy = policy
        self._waiting_for = "starting"
        self._suspended: str | None = None  # what will be waited for again after ``resume``
        allowed_s, self._name = math.inf, ""
        if deadline_at_ms:
            allowed_s, self._name = deadline_at_ms / 1000 - unix_now_s, "deadline_at_ms"
            if allowed_s <= 0:
                raise RequestError(
                    ErrorClass.TIMEOUT,
                    f"deadline_at_ms had passed {abs(allowed_s) * 1000:.0f} ms before the request came; "
                    "nothing was sent",
                )
        # SDKs send both for the same limit; on arrival the deadline is the sooner one by the way's few milliseconds.
        self._limit_ms = allowed_s * 1000
        if timeout_ms is not None and timeout_ms / 1000 < allowed_s + SAME_LIMIT_S:
            self._limit_ms, self._name = timeout_ms, "timeout_ms"
            allowed_s = min(allowed_s, timeout_ms / 1000)
        has_own = not math.isinf(allowed_s)
        longest_ms = policy.max_duration_ms
        if longest_ms is not None and longest_ms / 1000 < allowed_s:
            self._limit_ms, self._name = longest_ms, "deadline.max_duration_ms"
            allowed_s = longest_ms / 1000
        self.began_at = trio.current_time()
        self._ends_at = self.began_at + allowed_s
        # How long nothing may move; None: as long as it likes.
        self._pause_ms = None if has_own else policy.idle_timeout_ms
        self._pause_name = "deadline.idle_timeout_ms"
        ends_at = self._ends_at
        if self._pause_ms is not None:
            ends_at = min(ends_at, self.began_at + self._pause_ms / 1000)
        self.scope: Cancellable = scope if scope is not None else trio.CancelScope()
        self._alarm = Alarm(self.scope)
        self._alarm.set(ends_at)

    def end(self) -> bool:
        """The request has ended, and its scope may be another one's from now on, unless this is true: it is used up."""
        self._alarm.end()
        self.scope = NOBODY  # they know of each other, and only the cyclic collector would find them
        return self._alarm.has_rung

    def progress(self, waiting_for: str) -> None:
        """Something moved; ``waiting_for`` says what is being waited for from here on."""
        if self._suspended is not None:  # a request's body may be on its way still, while the client is waited for
            self._suspended = waiting_for
            return
        self._waiting_for = waiting_for
        if self._pause_ms is not None:
            self._set(self._pause_ms)

    def head_received(self) -> None:
        """From here on it is pieces of the body that are waited for."""
        between_ms = self._policy.between_bytes_timeout_ms
        if between_ms is not None and (self._pause_ms is None or between_ms < self._pause_ms):
            self._pause_ms, self._pause_name = between_ms, "deadline.between_bytes_timeout_ms"
            self._set(between_ms)

    def suspend(self, waiting_for: str) -> None:
        """What is waited for is the client's own doing, or ours: that nothing moves is as it should be."""
        self._suspended, self._waiting_for = self._waiting_for, waiting_for
        if self._pause_ms is not None:
            self._set(None)

    def resume(self) -> None:
        """What was waited for before ``suspend`` is waited for again."""
        assert self._suspended is not None
        waiting_for, self._suspended = self._suspended, None
        self.progress(waiting_for)

    def remaining_s(self) -> float:
        """Until the whole request must be done; may be infinite."""
        return self._ends_at - trio.current_time()

    def patience_s(self) -> float:
        """Until it ends if nothing moves; may be infinite."""
        return self._alarm.at - trio.current_time()

    def was_mostly_spent_since(self, time: float) -> bool:
        """Whether a limit has passed, and at least half of what it allowed went by since then."""
        now = trio.current_time()
        if now >= self._ends_at:
            return now - time >= (self._ends_at - self.began_at) / 2
        return self.has_passed

    @property
    def has_passed(self) -> bool:
        """Whether a limit has passed, as opposed to a cancellation by somebody."""
        return trio.current_time() >= self._alarm.at

    def passed(self) -> RequestError:
        """The error to answer with once the scope has caught its cancellation."""
        # Somebody may have cancelled it too, before any limit passed: nobody gets to read this then.
        if self._pause_ms is None or trio.current_time() >= self._ends_at:
            limit = f"{max(self._limit_ms, 0.001):.{0 if self._limit_ms >= 1 else 3}f} ms passed ({self._name})"
        else:
            limit = f"nothing moved for {self._pause_ms / 1000:g} s ({self._pause_name})"
        return RequestError(ErrorClass.TIMEOUT, f"HTTP request timed out: {limit} while {self._waiting_for}")

    def _set(self, pause_ms: int | None) -> None:
        ends_at = self._ends_at
        if pause_ms is not None:
            ends_at = min(ends_at, trio.current_time() + pause_ms / 1000)
        self._alarm.set(ends_at)
