"""What the log says of one request: no query values, no header values, no bodies."""

from __future__ import annotations

from collections.abc import ItemsView

from vastar_runtime.connectors.base import Outcome
from vastar_runtime.errors import RequestError
from vastar_runtime.policies.peer import Peer
from vastar_runtime.telemetry.log import clean, without_quotations


class RequestFields:
    """The fields of its line; made when the line is written, which the log's thread does for many at once."""

    __slots__ = ("_duration_us", "_error", "_outcome", "_peer", "_tenant_id", "_trace_id")

    def __init__(
        self,
        outcome: Outcome,
        tenant_id: str | None,
        trace_id: str | None,
        error: RequestError | None,
        duration_us: int,
        peer: Peer | None,
    ) -> None:
        self._outcome = outcome
        self._tenant_id = tenant_id
        self._trace_id = trace_id
        # Its message may be long, and quote what is secret: neither is to wait.
        self._error = None if error is None else (error.error_class.name.lower(), _message(error))
        self._duration_us = duration_us
        self._peer = peer

    def items(self) -> ItemsView[str, str | int | float]:
        """Names and values, in their order."""
        outcome = self._outcome
        fields: dict[str, str | int | float] = {}
        if outcome.method:
            fields["method"] = outcome.method
        if outcome.origin:
            fields["origin"] = outcome.origin
            fields["path"] = clean(outcome.path)
        if outcome.status_code:
            fields["status"] = outcome.status_code
        if outcome.body_bytes:
            fields["bytes"] = outcome.body_bytes
        if outcome.attempts > 1:
            fields["attempts"] = outcome.attempts
        if duration_ms := round(self._duration_us / 1000, 1):
            fields["duration_ms"] = duration_ms
        if queued_ms := round(outcome.queued_s * 1000):
            fields["queued_ms"] = queued_ms
        if self._tenant_id:
            fields["tenant"] = clean(self._tenant_id)
        if self._peer is not None:
            fields["uid"], fields["pid"] = self._peer.uid, self._peer.pid
        if self._trace_id:
            fields["trace"] = clean(self._trace_id)
        if self._error is not None:
            fields["error_class"], fields["error"] = self._error
        return fields.items()


def _message(error: RequestError) -> str:
    return clean(error.message if error.quotes_names_only else without_quotations(error.message))
