"""protocol.md part 1, the behaviour table: rows about frames and messages, against the real daemon.

A test stands for a row and has its name.
"""

import struct

import pytest
from raw_frame import encode_frame
from upstream import always, upstream
from wire_client import Answer, connected, execute_request

from connector_sdk.wire import (
    Cancel,
    CreditUpdate,
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    HealthCheckResponse,
    ResponseMode,
    encode_message,
)
from vastar_runtime import __version__


def refused(answer: Answer, words: str = "Invalid FlatBuffers message") -> bool:
    return (
        answer.request_id == 0
        and answer.error_class is ErrorClass.INVALID_REQUEST
        and words in answer.message
        and answer.payload is None
    )


def malformed() -> dict[str, bytes]:
    good = encode_message(execute_request(7, {"url": "http://h/"}))[5:]
    # The tenant's slot in the vtable, which is the second one, set to "absent".
    (table,) = struct.unpack_from("<I", good)
    vtable = table - struct.unpack_from("<i", good, table)[0]
    without_tenant = bytearray(good)
    struct.pack_into("<H", without_tenant, vtable + 6, 0)
    return {
        "empty": b"",
        "zeros": bytes(64),
        "ones": b"\xff" * 64,
        "text": b"GET / HTTP/1.1\r\n\r\n",
        "cut": good[: len(good) // 2],
        "without tenant_id": bytes(without_tenant),
        "not utf-8": good.replace(b"tenant", b"t\xff\xfeant"),
    }


@pytest.mark.parametrize("payload", malformed().values(), ids=malformed().keys())
async def test_payload_is_no_valid_execute_request_and_the_connection_stays_usable(client, payload):
    await client.send(encode_frame(0, payload))
    assert refused(await client.answer())
    async with upstream(always(b"still here")) as up:
        assert (await client.get(up.origin)).body == "still here"


@pytest.mark.parametrize("split", [1, 3, 5, 40, 10_000])
async def test_a_frame_may_arrive_split_at_any_byte_and_many_in_one_read(client, split):
    async with upstream(always(b"ok")) as up:
        sent = b"".join(encode_message(execute_request(number, {"url": up.origin})) for number in (1, 2, 3))
        for start in range(0, len(sent), split):
            await client.send(sent[start : start + split])
        answers = [await client.answer() for _ in range(3)]
    assert {answer.request_id for answer in answers} == {1, 2, 3}
    assert all(answer.body == "ok" for answer in answers)


@pytest.mark.parametrize("length", [0, 10 * 1024 * 1024 + 1, 2**32 - 1])
@pytest.mark.parametrize("transport", ["unix", "tcp"])
async def test_frame_length_0_or_over_the_limit_is_said_then_the_connection_is_closed(running, length, transport):
    async with connected(running.socket_path if transport == "unix" else running.tcp_port) as client:
        await client.send(struct.pack(">I", length))
        assert refused(await client.answer(), f"frame length {length}")
        await client.end()
    async with running.connect() as client:
        assert (await client.health()).healthy


@pytest.mark.parametrize("transport", ["unix", "tcp"])
async def test_a_client_that_is_still_sending_a_frame_of_20_mib_reads_why_and_then_the_end(running, transport):
    async with connected(running.socket_path if transport == "unix" else running.tcp_port) as client:
        await client.send(struct.pack(">IB", 20 * 1024 * 1024, 0) + bytes(20 * 1024 * 1024 - 1))
        answer = await client.answer()
        assert refused(answer, "20971520")
        assert refused(answer, "10485760")
        await client.end()


async def test_the_longest_request_is_taken(client):
    """The upstream gets a body of nearly 10 MiB."""
    async with upstream(always(b"taken")) as up:
        answer = await client.get(up.origin, method="PUT", body="x" * (10 * 1024 * 1024 - 1024))
        assert answer.body == "taken"
        assert len(up.last.body) == 10 * 1024 * 1024 - 1024


async def test_health_check_is_answered(client):
    health = await client.health()
    assert (health.healthy, health.message, health.draining) == (True, "ok", False)
    assert health.version == __version__
    assert health.available_credits == 1024
    await client.send(encode_frame(2, b"anything"))  # what it carries is not looked at
    assert isinstance(await client.receive(), HealthCheckResponse)


@pytest.mark.parametrize("message_type", [11, 77, 255])
async def test_unknown_message_type_is_invalid_request_and_the_message_names_the_type(client, message_type):
    await client.send(encode_frame(message_type, b"whatever"))
    assert refused(await client.answer(), f"Invalid FlatBuffers message: unknown message type {message_type}")
    assert (await client.health()).healthy


@pytest.mark.parametrize("message", [ExecuteResponse(request_id=3), HealthCheckResponse(), Cancel(request_id=1)])
async def test_a_message_that_is_not_for_a_client_to_send_is_refused_by_name(client, message):
    await client.send(message)
    answer = await client.answer()
    assert refused(answer)
    assert "not for a client to send" in answer.message
    assert (await client.health()).healthy


async def test_a_credit_update_is_taken_without_an_answer(client):
    await client.send(CreditUpdate(credit_delta=5), CreditUpdate(credit_delta=-5))
    assert (await client.health()).healthy


async def test_the_longest_names_and_the_last_ids_come_back(client):
    async with upstream(always(b"ok")) as up:
        request = ExecuteRequest(
            request_id=2**64 - 1,
            tenant_id="t" * 256,
            workspace_id="w" * 256,
            trace_id="",
            connector_name="http",
            operation="o" * 10_000,
            deadline_at_ms=2**64 - 1,
            payload=b'{"url":"%s"}' % up.origin.encode(),
            headers=(("ignored", "by the connector"),) * 100,
        )
        await client.send(request)
        answer = await client.answer()
    assert (answer.request_id, answer.body) == (2**64 - 1, "ok")


@pytest.mark.parametrize("name", ["tenant_id", "workspace_id", "trace_id"])
async def test_a_name_that_is_too_long_is_refused_since_tables_keep_it(client, name):
    await client.send(execute_request(7, b"{}", **{name: "n" * 257}))
    answer = await client.answer()
    assert (answer.request_id, answer.error_class) == (7, ErrorClass.INVALID_REQUEST)
    assert answer.message == f"{name} has 257 characters; at most 256 are allowed"


async def test_a_stream_without_a_hello_is_refused_by_a_frame_that_every_client_knows(client):
    await client.send(execute_request(8, b"{}", response_mode=ResponseMode.STREAM))
    answer = await client.answer()
    assert (answer.request_id, answer.error_class) == (8, ErrorClass.INVALID_REQUEST)
    assert answer.message == "response_mode Stream needs a Hello first"
