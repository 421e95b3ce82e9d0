"""How long a request may take, and what it was waiting for when that had passed."""

from __future__ import annotations

import math

import trio

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import RequestError

SAME_LIMIT_S = 0.05


class Deadline:
    """The time limit of one request: one cancel scope, whose deadline is the request's own or, when it has none,
    moves on with every progress (first byte and between bytes).

    Args:
        deadline_at_ms: Unix milliseconds, 0 for none (the wire's field).
        timeout_ms: from now, None for none (the connector's field).
        idle_timeout_s: seconds to the first byte and between bytes, for a request with neither.
        unix_now_s: the wall clock, which is what ``deadline_at_ms`` speaks of.

    Raises:
        RequestError: Timeout, when ``deadline_at_ms`` has passed already.
    """

    def __init__(
        self, *, deadline_at_ms: int, timeout_ms: float | None, idle_timeout_s: float, unix_now_s: float
    ) -> None:
        self._began_at = trio.current_time()
        self._idle_timeout_s = idle_timeout_s
        self._waiting_for = self._suspended = "starting"
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
        self._is_idle = math.isinf(allowed_s)
        self.scope = trio.CancelScope(deadline=self._began_at + (idle_timeout_s if self._is_idle else allowed_s))

    def progress(self, waiting_for: str) -> None:
        """Something moved; ``waiting_for`` says what is being waited for from here on."""
        self._waiting_for = waiting_for
        if self._is_idle:
            self.scope.deadline = trio.current_time() + self._idle_timeout_s

    def suspend(self, waiting_for: str) -> None:
        """What is waited for is the client's own doing: without a deadline of its own it may take its time."""
        self._suspended, self._waiting_for = self._waiting_for, waiting_for
        if self._is_idle:
            self.scope.deadline = math.inf

    def resume(self) -> None:
        """The client has moved; what was waited for before ``suspend`` is waited for again."""
        self.progress(self._suspended)

    def passed(self) -> RequestError:
        """The error to answer with once the scope has caught its cancellation."""
        if self._is_idle:
            limit = f"nothing moved for {self._idle_timeout_s:g} s (VASTAR_TIMEOUT)"
        else:
            limit = f"{self._limit_ms:.0f} ms passed ({self._name})"
        return RequestError(ErrorClass.TIMEOUT, f"HTTP request timed out: {limit} while {self._waiting_for}")
