"""What one request uses: told before it is sent, read beside its answer, recorded when all is said."""

from __future__ import annotations

import msgspec

from vastar_runtime.http.exchange import Exchange
from vastar_runtime.http.request import OutboundRequest
from vastar_runtime.http.response import ResponseHead
from vastar_runtime.metering.answered import Meter
from vastar_runtime.metering.asked import Asking, begin_reading
from vastar_runtime.metering.metering import Metering, Recorded
from vastar_runtime.policies.allowance import Amount


class HttpAccount:
    """See Passage.account. Nothing of an answer is read before it is on its way to the client.

    Args:
        request: as it goes out first.
    """

    __slots__ = (
        "_asking",
        "_assumed",
        "_is_running",
        "_meter",
        "_metering",
        "_recorded",
        "_request",
        "_tenant_id",
        "_whole",
    )

    def __init__(self, metering: Metering, tenant_id: str, request: OutboundRequest) -> None:
        self._metering = metering
        self._tenant_id = tenant_id
        self._request = request
        self._assumed = 0
        self._recorded: Recorded | None = None
        self._is_running = False
        self._begin(request)

    def _begin(self, request: OutboundRequest) -> None:
        self._asking: Asking | None = None
        if self._metering.is_needed:
            self._asking = begin_reading(request.method, request.url.path, request.body)
        self._meter = None if self._asking is None else Meter(self._asking)
        self._whole: bytes | None = None

    def sends(self, exchange: object) -> bool:
        """See Account."""
        assert isinstance(exchange, Exchange)
        if exchange.request is self._request:
            return False
        self._request = exchange.request
        self._begin(self._request)
        return True

    def head(self, head: ResponseHead) -> None:
        """The answer's head, as the client gets it."""
        if self._meter is not None:
            self._meter.head(head.status_code, head.headers)

    def feed(self, piece: bytes) -> None:
        """A piece of the answer's body, as the client gets it."""
        if self._meter is not None:
            self._meter.feed(piece)
            if not self._is_running:
                self._is_running = True
                self._metering.begins(self)

    def record_so_far(self) -> None:
        """See Running."""
        if self._meter is not None:
            self._recorded = self._metering.record(self._tenant_id, self._origin, self._meter.used(), self._recorded)

    def whole(self, body: bytes) -> None:
        """All of the body: to be read at the end."""
        if self._meter is not None:
            self._whole = body

    def demand(self, assumed_completion_tokens: int) -> Amount | None:
        """See Account."""
        if self._asking is None:
            return None
        asked = self._asking.asked
        self._assumed = assumed_completion_tokens * asked.completions
        completion_tokens = asked.max_completion_tokens
        if completion_tokens is None:
            completion_tokens = self._assumed
        return Amount(
            asked.prompt_tokens + completion_tokens,
            self._metering.estimated_cost_nano(asked, self._origin, completion_tokens),
        )

    def close(self, *, was_sent: bool) -> Amount:
        """See Account."""
        if self._is_running:
            self._metering.running.discard(self)
        if not was_sent:
            return Amount(0, 0)
        if self._meter is None:
            self._metering.count(self._tenant_id, self._origin)
            return Amount(0, 0)
        if self._whole is not None:
            self._meter.feed(self._whole)
        used = self._meter.used()
        if used.lacks_completion:  # nobody will ever know what was made of it; no more was reserved
            used = msgspec.structs.replace(used, completion_tokens=max(used.completion_tokens, self._assumed))
        recorded = self._metering.record(self._tenant_id, self._origin, used, self._recorded)
        return Amount(used.prompt_tokens + used.completion_tokens, recorded.cost_nano)

    @property
    def _origin(self) -> str:
        return self._request.url.origin.without_root
