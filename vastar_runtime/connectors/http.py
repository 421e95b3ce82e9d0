"""The http connector: JSON parameters in, one HTTP exchange, JSON out (protocol.md part 1)."""

from __future__ import annotations

import re
from collections.abc import Callable

from connector_sdk.wire import MAX_FRAME_BYTES, ExecuteRequest, MalformedMessage, PayloadFormat
from connector_sdk.wire.messages import HTTP_REQUEST_CODEC
from vastar_runtime.credentials import RequestSecrets
from vastar_runtime.errors import EgressDenied, InvalidRequest
from vastar_runtime.http.prompt_exchange import PromptExchange
from vastar_runtime.http.request import OutboundRequest, build_request, complete_request
from vastar_runtime.http.response import END, NEED_DATA, ResponseHead, Signal
from vastar_runtime.http.url import Url, parse_url
from vastar_runtime.policies.passage import Passage
from vastar_runtime.telemetry.log import MAX_VALUE_CHARACTERS

from .account import HttpAccount
from .base import Outcome, Passed, Services, Sink
from .http_answer import encode_answer, encode_table, too_long
from .http_parameters import read_parameters

# An OpenAI stream ends with this event, whether or not the server then closes.
_DONE = re.compile(rb"(\A|\r\n|[\r\n])data: ?\[DONE\](?=[\r\n])")
_DONE_BYTES = len(b"\r\ndata: [DONE]")
# A body of which a read brings so much has more where that came from: a task reads it with fewer steps.
BULK_BYTES = 32_768

_PASSED: dict[bytes | Signal, Passed] = {NEED_DATA: Passed.SO_FAR, END: Passed.WHOLE}


class HttpConnector:
    """connector_name "http"; any operation means "request"."""

    name = "http"

    def prepare(self, request: ExecuteRequest, outcome: Outcome) -> HttpCall:
        """Check the JSON parameters.

        Raises:
            InvalidRequest: with the existing runtime's words where it has any.
        """
        if request.payload_format is PayloadFormat.HTTP_REQUEST:
            return _prepare_table(request.payload or b"", outcome)
        parameters = read_parameters(request.payload or b"")
        url = _parse_url(parameters.url, outcome)
        outbound = complete_request(parameters.method, url, parameters.headers, parameters.body)
        return HttpCall(outbound, parameters.timeout_ms, outcome, encode_answer)


def _prepare_table(payload: bytes, outcome: Outcome) -> HttpCall:
    """A request in a FlatBuffers table: any bytes as body, repeated headers in order (protocol.md part 2, rule 2)."""
    try:
        request = HTTP_REQUEST_CODEC.decode(payload)
    except MalformedMessage as error:
        raise InvalidRequest(f"Invalid HTTP params: {error}") from error
    url = _parse_url(request.url, outcome)
    outbound = build_request(request.method or "GET", url, request.headers or (), request.body or b"")
    return HttpCall(outbound, request.timeout_ms or None, outcome, encode_table)


def _parse_url(text: str, outcome: Outcome) -> Url:
    url = parse_url(text)
    outcome.origin, outcome.path = str(url.origin), url.path[:MAX_VALUE_CHARACTERS]
    return url


class HttpCall:
    """One HTTP request, checked.

    Args:
        encode: makes the payload of a buffered answer.
    """

    def __init__(
        self,
        outbound: OutboundRequest,
        timeout_ms: float | None,
        outcome: Outcome,
        encode: Callable[[ResponseHead, bytes, bool], bytes],
    ) -> None:
        outcome.method = outbound.method
        self.origin = outbound.url.origin.without_root
        self.timeout_ms = timeout_ms
        self._outbound = outbound
        self._outcome = outcome
        self._encode = encode
        self._account: HttpAccount | None = None
        self._begun: PromptExchange | None = None
        self._head_is_out = False  # of a stream that goes on in no task
        self._kept_back = b""  # a piece that the client had no room for

    def try_begin(self, services: Services, passage: Passage, on_answer: Callable[[], None]) -> HttpCall | None:
        """See Call."""
        exchange = self._exchange(services, passage)
        now = passage.deadline.began_at
        if not passage.try_send(self.origin, lambda guard: exchange.try_send(on_answer, now, guard)):
            return None
        self._begun = exchange
        return self

    def try_finish(self, passage: Passage) -> bytes | None:
        """See Begun."""
        exchange = self._begun
        assert exchange is not None
        body = exchange.try_receive_whole()
        if body is None:
            return None
        passage.succeeded()
        assert self._account is not None
        self._account.head(exchange.head)
        self._account.whole(body)
        outcome = self._outcome
        outcome.attempts = exchange.attempts
        outcome.status_code = exchange.head.status_code
        outcome.body_bytes = len(body)
        return self._encode(exchange.head, body, False)

    def try_pass_on(self, passage: Passage, sink: Sink) -> Passed:
        """See Begun."""
        exchange, account = self._begun, self._account
        assert exchange is not None
        assert account is not None
        reads = self._head_is_out
        if not reads:
            if not exchange.try_receive_head():
                return Passed.FOR_TASK
            passage.succeeded()
            self._head_arrived(exchange, passage)
            sink.head(exchange.head.status_code, exchange.head.text, exchange.attempts)
            self._head_is_out = True
        event = exchange.try_receive(reads=reads)
        if isinstance(event, bytes):
            self._outcome.body_bytes += len(event)
            was_taken = sink.try_piece(event)
            account.feed(event)
            if not was_taken:
                self._kept_back = event
                return Passed.FOR_TASK
            if exchange.has_more:  # others would wait for all of what one read may bring
                return Passed.FOR_TASK
            is_bulk = len(event) >= BULK_BYTES
            event = exchange.try_receive(reads=False)
            if is_bulk and event is NEED_DATA:
                return Passed.FOR_TASK
        return _PASSED.get(event, Passed.FOR_TASK)

    def try_take_back(self) -> bool:
        """See Begun."""
        if self._begun is None or not self._begun.try_take_back():
            return False
        self._begun = None
        return True

    def unwatch(self) -> None:
        """See Begun."""
        if self._begun is not None:
            self._begun.unwatch()

    async def close(self) -> None:
        """See Begun."""
        if self._begun is not None:
            await self._begun.close()

    async def execute(self, services: Services, passage: Passage, hold: Callable[[int], None]) -> bytes:
        """The buffered answer's payload."""
        exchange = self._begun or self._exchange(services, passage)
        try:
            await self._open(exchange, passage)
            is_streaming = exchange.head.is_event_stream
            assert self._account is not None
            body = await _collect(exchange, is_streaming, hold, self._account)
        finally:
            await exchange.close()
        self._outcome.body_bytes = len(body)
        return self._encode(exchange.head, body, is_streaming)

    async def stream(self, services: Services, passage: Passage, sink: Sink) -> None:
        """Head and pieces as they arrive."""
        exchange = self._begun or self._exchange(services, passage)
        try:
            if not self._head_is_out:
                await self._open(exchange, passage)
                sink.head(exchange.head.status_code, exchange.head.text, exchange.attempts)
            elif self._kept_back:
                kept_back, self._kept_back = self._kept_back, b""
                await sink.piece(kept_back)
            assert self._account is not None
            while (piece := await exchange.receive()) is not None:
                self._outcome.body_bytes += len(piece)
                try:
                    await sink.piece(piece)
                finally:
                    self._account.feed(piece)
        finally:
            await exchange.close()

    def _exchange(self, services: Services, passage: Passage) -> PromptExchange:
        if self._account is None:
            self._account = HttpAccount(services.metering, passage.tenant_id, self._outbound)
            if services.metering.is_needed:
                passage.account = self._account
        if passage.judges_origins(self.origin) and self._outbound.names_other_host:
            raise EgressDenied(f"egress denies {self.origin}: the request's Host is another, and rules go by that")
        injections = services.credentials.for_request(passage.tenant_id, self.origin)
        return PromptExchange(
            services.pool,
            services.dialer,
            passage.tenant_id,
            self._outbound,
            passage.deadline.progress,
            passage.send,
            RequestSecrets(injections, self._outbound) if injections else None,
        )

    async def _open(self, exchange: PromptExchange, passage: Passage) -> None:
        try:
            await exchange.open()
        finally:
            self._outcome.attempts = exchange.attempts
        self._head_arrived(exchange, passage)

    def _head_arrived(self, exchange: PromptExchange, passage: Passage) -> None:
        passage.deadline.head_received()
        assert self._account is not None
        self._account.head(exchange.head)
        self._outcome.attempts = exchange.attempts
        self._outcome.status_code = exchange.head.status_code


async def _collect(
    exchange: PromptExchange, is_event_stream: bool, hold: Callable[[int], None], account: HttpAccount
) -> bytes:
    declared = int(exchange.head.value(b"content-length") or 0)
    if declared > MAX_FRAME_BYTES and exchange.has_body:
        raise too_long(declared)  # no need to fetch it first
    if is_event_stream:
        return await _collect_events(exchange, hold, account)
    if (whole := exchange.receive_whole()) is not None:
        hold(len(whole))
        account.whole(whole)
        return whole
    pieces: list[bytes] = []
    body_bytes = 0
    while (piece := await exchange.receive()) is not None:
        body_bytes += len(piece)
        if body_bytes > MAX_FRAME_BYTES:
            raise too_long(body_bytes, at_least="at least ")
        hold(len(piece))
        pieces.append(piece)
        account.feed(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _collect_events(exchange: PromptExchange, hold: Callable[[int], None], account: HttpAccount) -> bytes:
    body = bytearray()
    while (piece := await exchange.receive()) is not None:
        if len(body) + len(piece) > MAX_FRAME_BYTES:
            raise too_long(len(body) + len(piece), at_least="at least ")
        hold(len(piece))
        account.feed(piece)
        search_from = max(0, len(body) - _DONE_BYTES)
        body += piece
        if done := _DONE.search(body, search_from):
            exchange.end_early()
            # The event's empty line may be on its way still; it is written in the stream's own line ends.
            return bytes(body[: done.end()]) + 2 * (done[1] or b"\n")
    return bytes(body)
