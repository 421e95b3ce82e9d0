"""Both ends, connected by two queues of bytes that are cut anywhere, in any interleaving that hypothesis thinks of."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from connector_sdk.wire import (
    BodyChunk,
    Cancel,
    CreditUpdate,
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    GoAway,
    Hello,
    LocalProtocolError,
    Message,
    RemoteProtocolError,
    ResponseEnd,
    ResponseHead,
    ResponseMode,
    encode_message,
)
from connector_sdk.wire.client_connection import ClientConnection
from connector_sdk.wire.daemon_connection import Admitted, BadCredit, DaemonConnection, DaemonEvent, Refused

pytestmark = pytest.mark.unmeasured

STREAM = ResponseMode.STREAM
WINDOWS = st.sampled_from([1, 2, 7, 64, 1000])
SIZES = st.integers(min_value=1, max_value=300)
PIECES = st.lists(SIZES, min_size=1, max_size=6) | st.just([])
EVERYTHING = 1_000_000
CUTS = st.integers(min_value=0, max_value=60) | st.just(EVERYTHING)
MODES = st.sampled_from([STREAM, STREAM, ResponseMode.BUFFERED])
NAMES = st.sampled_from(["t"] * 7 + ["t" * 257])
ENDINGS = st.sampled_from([None, None, ErrorClass.SUCCESS, ErrorClass.TIMEOUT])  # None: it goes on


class TwoEnds(RuleBasedStateMachine):
    """``up`` and ``down`` are the bytes on their way to the daemon and to the client.

    The model keeps, by request_id: its mode (``asked``), the terminal messages that reached the client, the body
    bytes sent, received and consumed, and at the daemon which requests run and which of them have their head.
    """

    @initialize(window_bytes=WINDOWS, cut=CUTS)
    def connect(self, window_bytes: int, cut: int) -> None:
        self.window_bytes = window_bytes
        self.client = ClientConnection("test", window_bytes)
        self.daemon = DaemonConnection()
        self.up, self.down = bytearray(self.client.start()), bytearray()
        self.is_lost = False
        self.asked: dict[int, ResponseMode] = {}
        self.terminals: Counter[int] = Counter()
        self.running: dict[int, ResponseMode] = {}
        self.has_head: set[int] = set()
        self.is_granted_more: set[int] = set()  # streams to which somebody granted what nobody consumed
        self.sent: Counter[int] = Counter()
        self.received: Counter[int] = Counter()
        self.consumed: Counter[int] = Counter()
        self.carry(cut, 0)
        self.carry(EVERYTHING, cut)
        self.carry(0, EVERYTHING)

    # --- the client's application ---

    def can_ask(self) -> bool:
        # Few at a time: each of them gets further.
        return not self.is_lost and not self.client.is_going_away and self.client.in_flight < 4

    def can_choose_asked(self) -> bool:
        return not self.is_lost and bool(self.asked)

    def one_of(self, data: st.DataObject, ids: dict[int, ResponseMode] | set[int] | list[int]) -> int:
        return data.draw(st.sampled_from(sorted(ids)))

    @precondition(can_ask)
    @rule(modes=st.lists(MODES, min_size=1, max_size=4), tenant_id=NAMES, carried=CUTS)
    def ask(self, modes: list[ResponseMode], tenant_id: str, carried: int) -> None:
        for mode in modes:
            request = ExecuteRequest(
                request_id=len(self.asked) + 1,
                tenant_id=tenant_id,
                connector_name="http",
                operation="request",
                response_mode=mode,
            )
            self.up += self.client.send(request)
            self.asked[request.request_id] = mode
            with pytest.raises(LocalProtocolError):
                self.client.send(request)
        self.carry(carried, 0)

    @precondition(can_choose_asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request_id = self.one_of(data, self.asked)
        if self.terminals[request_id]:
            # As a client does that has not read its answer yet.
            self.up += encode_message(Cancel(request_id=request_id))
        else:
            self.up += self.client.send(Cancel(request_id=request_id))

    @precondition(can_choose_asked)
    @rule(data=st.data(), size=SIZES)
    def consume(self, data: st.DataObject, size: int) -> None:
        self.consume_of(self.one_of(data, self.asked), size)

    def consume_everything(self) -> None:
        for request_id in self.received:
            self.consume_of(request_id, EVERYTHING)

    def consume_of(self, request_id: int, size: int) -> None:
        size = min(size, self.received[request_id] - self.consumed[request_id])
        self.consumed[request_id] += size
        credit = self.client.consumed(request_id, size)
        if not self.is_lost:
            self.up += credit

    @precondition(can_choose_asked)
    @rule(data=st.data(), delta=st.sampled_from([-1, -(2**31), 2**31 - 1]))
    def grant_what_the_rules_forbid(self, data: st.DataObject, delta: int) -> None:
        request_id = data.draw(st.sampled_from([*self.asked, 0, 10_000]))
        if delta > 0:
            self.is_granted_more.add(request_id)
        self.up += encode_message(CreditUpdate(request_id=request_id, credit_delta=delta))

    # --- the daemon ---

    @precondition(lambda self: not self.is_lost and self.running)
    @rule(data=st.data(), pieces=PIECES, ending=ENDINGS, is_flowing=st.booleans())
    def answer(self, data: st.DataObject, pieces: list[int], ending: ErrorClass | None, is_flowing: bool) -> None:
        """The next part of it: a head that was awaited, pieces as far as there is credit, the end.

        ``is_flowing``: every piece is read, and its credit is back, before the next one.
        """
        request_id = self.one_of(data, self.running)
        if self.running[request_id] is STREAM and (pieces or ending is None):
            self.head(request_id)
            for size in pieces:
                self.chunk(request_id, size)
                if is_flowing:
                    self.carry(0, EVERYTHING)
                    self.consume_everything()
                    self.carry(EVERYTHING, 0)
                if request_id not in self.running:
                    return  # a Cancel was on its way
        if ending is not None:
            self.terminate(request_id, ending)

    def head(self, request_id: int) -> None:
        head = ResponseHead(request_id=request_id, status_code=200)
        if request_id in self.has_head:
            with pytest.raises(LocalProtocolError):
                self.daemon.send(head)
        else:
            self.down += self.daemon.send(head)
            self.has_head.add(request_id)

    def chunk(self, request_id: int, size: int) -> None:
        if size := self.daemon.window(request_id).take(size):
            piece = body(request_id, self.sent[request_id], size)
            self.down += self.daemon.send(BodyChunk(request_id=request_id, data=piece))
            self.sent[request_id] += size
            self.no_more_than_the_window_is_outstanding()

    @precondition(lambda self: not self.is_lost and not self.daemon.is_draining and len(self.asked) > 8)
    @rule()
    def drain(self) -> None:
        self.daemon.is_draining = True
        self.down += self.daemon.send(GoAway(reason="draining"))

    def terminate(self, request_id: int, error_class: ErrorClass) -> None:
        kind = ResponseEnd if self.running.pop(request_id) is STREAM else ExecuteResponse
        self.has_head.discard(request_id)
        terminal = kind(request_id=request_id, error_class=error_class)
        self.down += self.daemon.send(terminal)
        with pytest.raises(LocalProtocolError):
            self.daemon.send(terminal)

    # --- the way between them ---

    @rule(up=CUTS, down=CUTS, is_read=st.booleans())
    def carry_and_read(self, up: int, down: int, is_read: bool) -> None:
        self.carry(up, down)
        if is_read:
            self.consume_everything()

    def carry(self, up: int, down: int) -> None:
        self.daemon.receive_data(bytes(self.up[:up]))
        del self.up[:up]
        while (event := self.daemon.next_event()) is not None:
            self.daemon_hears(event)
        self.client.receive_data(bytes(self.down[:down]))
        del self.down[:down]
        try:
            while (message := self.client.next_event()) is not None:
                self.client_hears(message)
        except RemoteProtocolError as error:
            # Somebody spoke in the client's name and granted more than it did, when the credit was all spent and the
            # sum was not too much: the daemon may send it, and the client cannot go on with what it never asked for.
            if not self.is_granted_more or "beyond its credit" not in str(error):
                raise
            self.lose()

    @precondition(lambda self: not self.is_lost and len(self.asked) > 8)
    @rule()
    def lose(self) -> None:
        self.is_lost = True
        self.up.clear()
        self.down.clear()

    @precondition(lambda self: self.is_lost or self.daemon.is_draining)
    @rule(window_bytes=WINDOWS, cut=CUTS)
    def connect_again(self, window_bytes: int, cut: int) -> None:
        self.finish()
        self.connect(window_bytes, cut)

    def daemon_hears(self, event: DaemonEvent) -> None:
        match event:
            case Hello():
                self.down += self.daemon.send(Hello(protocol_version=1))
            case Admitted(request):
                self.running[request.request_id] = request.response_mode
            case Refused(answer):
                assert answer.error_class in (ErrorClass.INVALID_REQUEST, ErrorClass.TRANSIENT)
                self.down += encode_message(answer)
            case Cancel(request_id=request_id):
                self.terminate(request_id, ErrorClass.CANCELLED)
            case BadCredit(request_id):
                self.terminate(request_id, ErrorClass.INVALID_REQUEST)
            case _:
                assert isinstance(event, CreditUpdate)

    def client_hears(self, event: Message) -> None:
        match event:
            case BodyChunk(request_id=request_id, data=data):
                assert data == body(request_id, self.received[request_id], len(data or b""))
                self.received[request_id] += len(data)
            case ResponseEnd(request_id=request_id) | ExecuteResponse(request_id=request_id):
                assert isinstance(event, ResponseEnd) is (self.asked[request_id] is STREAM)
                self.terminals[request_id] += 1
                assert self.received[request_id] == self.sent[request_id], "the end comes after the whole body"
            case _:
                assert isinstance(event, Hello | ResponseHead | GoAway)

    # --- what must hold ---

    @invariant()
    def no_request_has_two_terminal_messages(self) -> None:
        assert set(self.terminals.values()) <= {0, 1}

    @invariant()
    def no_more_than_the_window_is_outstanding(self) -> None:
        for request_id in set(self.sent) - self.is_granted_more:
            assert self.sent[request_id] - self.consumed[request_id] <= self.window_bytes

    @invariant()
    def both_ends_agree_when_nothing_is_on_its_way(self) -> None:
        if self.is_lost or self.up or self.down:
            return
        unanswered = {request_id for request_id in self.asked if not self.terminals[request_id]}
        assert unanswered == set(self.running)
        assert self.client.in_flight == self.daemon.in_flight == len(self.running)
        for request_id in self.has_head:
            if self.consumed[request_id] == self.received[request_id]:
                assert self.daemon.window(request_id).credit_bytes > 0, "read all, and still nothing may be sent"

    def teardown(self) -> None:
        self.finish()

    def finish(self) -> None:
        """Unless the connection was lost: whatever happened before, all that was asked comes to its one end."""
        while not self.is_lost and (self.up or self.down or self.running):
            self.carry(EVERYTHING, 0)
            for request_id in list(self.running):
                self.terminate(request_id, ErrorClass.SUCCESS)
            self.carry(0, EVERYTHING)
        if not self.is_lost:
            assert [self.terminals[request_id] for request_id in self.asked] == [1] * len(self.asked)
            assert self.received == self.sent
            self.both_ends_agree_when_nothing_is_on_its_way()


def body(request_id: int, start: int, size: int) -> bytes:
    """Bytes of a stream that tell their stream and position."""
    return bytes((request_id * 31 + position) % 251 for position in range(start, start + size))


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=200, stateful_step_count=80, deadline=None)
