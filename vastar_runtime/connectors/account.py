"""What one request uses: told before it is sent, read beside its answer, recorded when all is said."""

from __future__ import annotations

from vastar_runtime.http.request import OutboundRequest
from vastar_runtime.http.response import ResponseHead
from vastar_runtime.metering.answered import Meter
from vastar_runtime.metering.asked import Asked, read_asked
from vastar_runtime.metering.metering import Metering
from vastar_runtime.policies.allowance import Amount


class HttpAccount:
    """See Passage.account. Nothing of an answer is read before it is on its way to the client.

    Args:
        origin: where the request goes first.
    """

    __slots__ = ("_asked", "_meter", "_metering", "_origin", "_tenant_id", "_whole")

    def __init__(self, metering: Metering, tenant_id: str, origin: str, request: OutboundRequest) -> None:
        self._metering = metering
        self._tenant_id = tenant_id
        self._origin = origin
        self._asked: Asked | None = read_asked(request.method, request.url.path, request.body)
        self._meter = None if self._asked is None else Meter(self._asked)
        self._whole: bytes | None = None

    def head(self, head: ResponseHead) -> None:
        """The answer's head, as the client gets it."""
        if self._meter is not None:
            self._meter.head(head.status_code, head.headers)

    def feed(self, piece: bytes) -> None:
        """A piece of the answer's body, as the client gets it."""
        if self._meter is not None:
            self._meter.feed(piece)

    def whole(self, body: bytes) -> None:
        """All of the body: to be read at the end."""
        if self._meter is not None:
            self._whole = body

    def demand(self, assumed_completion_tokens: int) -> Amount | None:
        """See Account."""
        asked = self._asked
        if asked is None:
            return None
        completion_tokens = asked.max_completion_tokens
        if completion_tokens is None:
            completion_tokens = assumed_completion_tokens
        return Amount(
            asked.prompt_tokens + completion_tokens,
            self._metering.estimated_cost_nano(asked, self._origin, completion_tokens),
        )

    def close(self, *, was_sent: bool) -> Amount:
        """See Account."""
        if not was_sent:
            return Amount(0, 0)
        if self._meter is None:
            self._metering.record(self._tenant_id, self._origin, None)
            return Amount(0, 0)
        if self._whole is not None:
            self._meter.feed(self._whole)
        used = self._meter.used()
        cost_nano = self._metering.record(self._tenant_id, self._origin, used)
        return Amount(used.prompt_tokens + used.completion_tokens, cost_nano)
