"""One connection: many requests at once, each answered once, whatever the others do."""

import pytest
import trio
from raw_frame import encode_frame
from session_under_test import Calling, Gate, captured_log, connectors, session
from wire_client import WireClient, execute_request

from connector_sdk.wire import (
    CreditUpdate,
    ErrorClass,
    HealthCheck,
    HealthCheckResponse,
    encode_message,
)
from connector_sdk.wire.daemon_connection import MAX_REQUESTS_IN_FLIGHT
from vastar_runtime.errors import UpstreamError


@pytest.fixture
def gate():
    gate = Gate()
    with connectors(gate):
        yield gate


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


def at_gate(request_id: int, name: str | None = None) -> bytes:
    payload = (name or str(request_id)).encode()
    return encode_message(execute_request(request_id, payload, connector_name="gate"))


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def answered(client: WireClient, *request_ids: int) -> None:
    assert [(await client.answer()).request_id for _ in request_ids] == list(request_ids)


async def test_pipelined_requests_answer_in_order_of_completion(gate):
    async with session() as (client, _):
        await client.send(*(at_gate(number) for number in range(5)))
        await settled()
        for number in (3, 0, 4, 2, 1):
            gate.open(str(number))
            await answered(client, number)


async def test_an_answer_carries_what_the_connector_returned(gate):
    async with session() as (client, _):
        gate.open("hello")
        answer = await client.execute(b"hello", connector_name="gate")
        assert (answer.error_class, answer.payload, answer.message) == (ErrorClass.SUCCESS, "hello", "")


async def test_1024_are_in_flight_and_one_more_is_refused_until_one_is_answered(gate):
    async with session() as (client, served):
        await client.send(*(at_gate(number) for number in range(MAX_REQUESTS_IN_FLIGHT)))
        await settled()
        assert served.active_requests == len(gate.running) == 1024
        await client.send(at_gate(5000))
        answer = await client.answer()
        assert (answer.request_id, answer.error_class) == (5000, ErrorClass.RATE_LIMITED)
        assert "1024 requests are in flight" in answer.message
        assert (await client.health()).available_credits == 0

        gate.open("17")
        await answered(client, 17)
        await client.send(at_gate(5000))
        await settled()
        assert "5000" in gate.running
        gate.open("5000", *map(str, range(MAX_REQUESTS_IN_FLIGHT)))
        rest = {(await client.answer()).request_id for _ in range(MAX_REQUESTS_IN_FLIGHT)}
        assert rest == {5000, *range(MAX_REQUESTS_IN_FLIGHT)} - {17}


async def test_an_id_in_flight_is_refused_and_the_running_request_is_untouched(gate):
    async with session() as (client, _):
        await client.send(at_gate(1, "first"), at_gate(1, "second"))
        answer = await client.answer()
        assert (answer.request_id, answer.error_class) == (1, ErrorClass.INVALID_REQUEST)
        assert "request_id 1 is in flight" in answer.message
        assert gate.running == ["first"]
        gate.open("first")
        assert (await client.answer()).payload == "first"
        # Answered, the id is free again.
        gate.open("third")
        await client.send(at_gate(1, "third"))
        assert (await client.answer()).payload == "third"


async def test_a_health_check_is_answered_while_requests_run(gate):
    async with session() as (client, _):
        await client.send(at_gate(1), at_gate(2))
        assert await client.health() == HealthCheckResponse(
            healthy=True,
            message="ok",
            active_requests=7,
            available_credits=MAX_REQUESTS_IN_FLIGHT - 2,
            version="1.2.3",
            uptime_ms=5,
        )


async def test_what_is_not_for_the_daemon_is_ignored_or_refused_and_requests_go_on(gate):
    async with session() as (client, _):
        await client.send(
            at_gate(1),
            CreditUpdate(request_id=1, credit_delta=-1),
            encode_frame(99, b""),
            encode_frame(3, b""),
            encode_frame(0, b"nonsense"),
            HealthCheck(),
        )
        for words in ("unknown message type 99", "Invalid FlatBuffers message", "Invalid FlatBuffers message"):
            answer = await client.answer()
            assert (answer.request_id, answer.error_class) == (0, ErrorClass.INVALID_REQUEST)
            assert words in answer.message
        assert isinstance(await client.receive(), HealthCheckResponse)
        gate.open("1")
        await answered(client, 1)


@pytest.mark.parametrize(
    "fault",
    [
        ZeroDivisionError("a mistake of ours"),
        ExceptionGroup("two", [OSError("a mistake of ours"), KeyError("x")]),
        trio.BrokenResourceError("a mistake of ours"),
        TimeoutError("a mistake of ours"),
        RecursionError("a mistake of ours"),
    ],
    ids=repr,
)
async def test_a_mistake_of_ours_is_permanent_and_logged_and_the_other_requests_go_on(gate, log, fault):
    def fail(_):
        raise fault

    with connectors(Calling("faulty", fail)):
        async with session() as (client, _):
            await client.send(at_gate(1), execute_request(2, b"", connector_name="faulty"))
            answer = await client.answer()
            assert (answer.request_id, answer.error_class) == (2, ErrorClass.PERMANENT)
            assert answer.message == "internal error of the runtime; its log has the details"
            gate.open("1")
            await answered(client, 1)
    assert "level=error" in log.getvalue()
    assert "a mistake of ours" in log.getvalue()


async def test_a_mistake_of_ours_while_the_request_is_checked_is_answered_too(gate):
    class Faulty:
        name = "faulty"

        def prepare(self, request, outcome):
            raise ZeroDivisionError

    with connectors(Faulty()):
        async with session() as (client, _):
            assert (await client.execute(b"", connector_name="faulty")).error_class is ErrorClass.PERMANENT
            assert (await client.health()).healthy


@pytest.mark.parametrize("result", ["x" * (11 * 1024 * 1024), "\ud800"], ids=["too long", "no text"])
async def test_an_answer_that_cannot_be_sent_is_answered_as_our_mistake_and_the_others_go_on(gate, log, result):
    """A connector should see to it that its answer fits; when it does not, only that request may suffer."""

    def fail(_):
        if len(result) > 1:
            return result
        raise UpstreamError(result)

    with connectors(Calling("faulty", fail)):
        async with session() as (client, _):
            await client.send(at_gate(1), execute_request(2, b"", connector_name="faulty"))
            answer = await client.answer()
            assert (answer.request_id, answer.error_class) == (2, ErrorClass.PERMANENT)
            gate.open("1")
            await answered(client, 1)
    assert "level=error" in log.getvalue()


async def test_two_connections_share_nothing(gate):
    async with session() as (one, _), session() as (other, _):
        await one.send(at_gate(1, "one"))
        await other.send(at_gate(1, "other"))
        await settled()
        await one.send(b"\0\0\0\0")
        await one.answer()
        await one.end()
        gate.open("other")
        assert (await other.answer()).payload == "other"
