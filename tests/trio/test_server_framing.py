"""What a session makes of bytes that are no frames, and of frames that are no messages."""

import random
import struct
from contextlib import suppress

import pytest
import trio
from session_under_test import Calling, Gate, captured_log, connectors, session
from wire_client import WireClient, execute_request

from connector_sdk.wire import ErrorClass, ExecuteResponse, HealthCheck, HealthCheckResponse, encode_message
from vastar_runtime.server.session import LINGER_S

GOOD = encode_message(execute_request(7, {"url": "http://h/", "body": "b" * 50}))


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log
    assert "level=error" not in log.getvalue()


async def refused_length(client: WireClient, length: int) -> None:
    answer = await client.answer()
    assert (answer.request_id, answer.error_class) == (0, ErrorClass.INVALID_REQUEST)
    assert str(length) in answer.message
    assert "the connection is closed" in answer.message


@pytest.mark.parametrize("length", [0, 10 * 1024 * 1024 + 1, 20 * 1024 * 1024, 2**32 - 1])
async def test_a_frame_of_an_impossible_length_is_said_then_the_connection_ends(length):
    async with session() as (client, _):
        await client.send(struct.pack(">I", length))
        await refused_length(client, length)
        await client.end()


async def test_what_came_before_a_bad_frame_is_answered_first():
    with connectors(Calling("http", lambda _: "done")):
        async with session() as (client, _):
            await client.send(GOOD)
            assert (await client.answer()).payload == "done"
            await client.send(encode_message(HealthCheck()), b"\0\0\0\0more that is not read")
            assert isinstance(await client.receive(), HealthCheckResponse)
            await refused_length(client, 0)
            await client.end()


async def test_a_client_that_goes_on_sending_reads_why_and_is_cut_off_in_the_end(autojump_clock):
    async with session(pair=trio.testing.lockstep_stream_pair) as (client, _):
        began_at, cut_off = trio.current_time(), trio.Event()

        async def send_without_end():
            with suppress(trio.BrokenResourceError):
                while True:
                    await client.send(b"\xff" * 1024)
                    await trio.sleep(0.1)
            cut_off.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_without_end)
            await refused_length(client, 2**32 - 1)
            await client.end()
        assert cut_off.is_set()
        assert trio.current_time() - began_at == pytest.approx(LINGER_S, abs=0.2)


async def test_a_request_in_flight_ends_with_the_framing_and_does_not_cut_the_client_off(autojump_clock):
    """A client still sends its frame of 20 MiB when another of its requests would end: it must get to read why."""
    gate = Gate()
    with connectors(gate):
        async with session() as (client, _):
            await client.send(execute_request(1, b"slow", connector_name="gate"))
            await client.send(struct.pack(">IB", 20 * 1024 * 1024, 0))
            await trio.sleep(1)
            assert gate.cancelled == ["slow"]
            gate.open("slow")
            await trio.sleep(1)
            await client.send(bytes(1024))
            await refused_length(client, 20 * 1024 * 1024)
            await client.end()


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 20, len(GOOD) - 1])
async def test_a_frame_cut_by_a_disconnect_is_forgotten(cut):
    async with session() as (client, _):
        await client.send(GOOD[:cut])
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("size", [1, 2, 7, len(GOOD)])
async def test_frames_split_anywhere(size):
    with connectors(Calling("http", lambda request: request.payload.decode())):
        async with session() as (client, _):
            sent = GOOD + GOOD.replace(b"\x07", b"\x08", 1)
            for start in range(0, len(sent), size):
                await client.send(sent[start : start + size])
                await trio.testing.wait_all_tasks_blocked()
            assert (await client.answer()).request_id == 7
            assert (await client.answer()).error_class in set(ErrorClass)


def noise(chance: random.Random) -> bytes:
    """Bytes; frames of bytes; frames of requests with some bytes changed, left out or put in."""
    kind = chance.randrange(3)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    if kind == 1:
        payload = chance.randbytes(chance.randrange(100))
        return struct.pack(">IB", len(payload) + 1, chance.choice((0, 0, 0, chance.randrange(256)))) + payload
    payload = bytearray(GOOD[4:])
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(1, len(payload))
        match chance.randrange(3):
            case 0:
                payload[at] = chance.choice((0, 1, 4, 127, 128, 255, chance.randrange(256)))
            case 1:
                del payload[at : at + chance.randrange(8)]
            case 2:
                payload[at:at] = chance.randbytes(chance.randrange(8))
    return struct.pack(">I", len(payload)) + payload


@pytest.mark.parametrize("seed", range(8))
async def test_random_bytes_get_refusals_or_an_end_and_nothing_worse(seed):
    chance = random.Random(seed)
    with connectors(Calling("http", lambda _: "done")):
        for _ in range(60):
            async with session() as (client, _):
                await client.send(*(noise(chance) for _ in range(chance.randrange(1, 20))))
                await client.stream.send_eof()
                while (message := await client.receive()) is not None:
                    assert isinstance(message, ExecuteResponse | HealthCheckResponse)
                    if isinstance(message, ExecuteResponse) and message.error_class is not ErrorClass.SUCCESS:
                        assert message.error_class is ErrorClass.INVALID_REQUEST
                        assert message.error_message
