"""Clients that vanish, that do not read, that ask for too much; and connections that are drained."""

import socket
from functools import partial

import msgspec
import pytest
import trio
from session_under_test import HEALTH, Calling, Gate, MemoryDialer, captured_log, connectors, session
from wire_client import WireClient, execute_request

from connector_sdk.wire import ErrorClass, HealthCheck
from vastar_runtime.connectors import Services
from vastar_runtime.errors import RequestError
from vastar_runtime.http.pool import Pool
from vastar_runtime.policies.pipeline import Pipeline
from vastar_runtime.server import memory
from vastar_runtime.server import session as session_module
from vastar_runtime.server.outbox import MAX_PENDING_FRAMES
from vastar_runtime.server.session import Session

URL = {"url": "http://upstream.test/"}


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log
    assert "level=error" not in log.getvalue()


@pytest.fixture
def gate():
    gate = Gate()
    with connectors(gate):
        yield gate


class Upstream:
    """Reads and never answers; tells which of its connections have been closed."""

    def __init__(self) -> None:
        self.connected = 0
        self.closed = 0
        self.answer = b""

    async def __call__(self, stream):
        self.connected += 1
        await stream.receive_some()
        if self.answer:
            await stream.send_all(self.answer)
        while await stream.receive_some():
            pass
        self.closed += 1


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


# --- a client that vanishes ---


@pytest.mark.parametrize(
    "state",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"],
    ids=["before the head", "in the head", "in the body"],
)
async def test_its_upstream_connections_are_closed_at_once_and_no_slot_is_lost(nursery, autojump_clock, state):
    upstream, pool = Upstream(), Pool(limit_per_origin=3)
    upstream.answer = state
    services = Services(pool, MemoryDialer(nursery, upstream))
    async with session(services) as (client, _):
        for _ in range(5):
            await client.begin(URL)
        await settled()
        assert (pool.statistics().active, pool.statistics().waiting) == (3, 2)
        assert upstream.connected == 3
    await settled()
    assert upstream.closed == 3
    assert (pool.statistics().active, pool.statistics().waiting, pool.statistics().idle) == (0, 0, 0)
    # All of the slots can be had again.
    async with session(services) as (client, _):
        for _ in range(3):
            await client.begin(URL)
        await settled()
        assert upstream.connected == 6


async def test_its_neighbours_are_not_affected(nursery, gate):
    services = Services(Pool(limit_per_origin=1), MemoryDialer(nursery, Upstream()))
    async with session(services) as (neighbour, _):
        await neighbour.begin(b"mine", connector_name="gate")
        async with session(services) as (client, _):
            await client.begin(URL)
            await client.begin(b"theirs", connector_name="gate")
            await settled()
        assert gate.cancelled == ["theirs"]
        gate.open("mine")
        assert (await neighbour.answer()).payload == "mine"


async def test_a_client_that_vanishes_while_a_connection_is_opened(nursery):
    class NeverOpens:
        async def dial(self, origin, timeout_s, guard):
            await trio.sleep_forever()

    pool = Pool()
    async with session(Services(pool, NeverOpens())) as (client, _):
        await client.begin(URL)
        await settled()
        assert pool.statistics().active == 1
    assert pool.statistics().active == 0


async def test_a_client_that_resets_its_connection_ends_its_session_and_its_request_has_a_line(gate, log):
    """On real sockets: a TCP reset with answers unread."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        stream = await trio.open_tcp_stream(*listener.socket.getsockname())
        served = Session(await listener.accept(), Services(Pool(), None), Pipeline(), health=lambda: HEALTH)
        client = WireClient(stream)
        await client.send(execute_request(1, b"x", connector_name="gate"), HealthCheck())
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.run)
            while not gate.running:
                await trio.lowlevel.checkpoint()
            await client.close()
    assert gate.cancelled == ["x"]
    (line,) = log.getvalue().splitlines()
    assert "event=request" in line
    assert "error_class=cancelled" in line


# --- a client that sends and does not read ---


async def test_it_is_dropped_when_too_many_frames_wait_and_others_go_on(gate, log):
    async with session() as (neighbour, _):
        await neighbour.begin(b"mine", connector_name="gate")
        # Writes block until they are read, as with a full socket.
        async with session(pair=trio.testing.lockstep_stream_pair) as (client, _):
            for _ in range(MAX_PENDING_FRAMES // 100):
                await client.send(*[HealthCheck()] * 100)
            assert log.getvalue() == ""
            await client.send(*[HealthCheck()] * 400)
            with pytest.raises(trio.BrokenResourceError):
                await client.send(HealthCheck())
        assert "the client does not read its answers" in log.getvalue()
        gate.open("mine")
        assert (await neighbour.answer()).payload == "mine"


async def test_a_client_that_reads_may_have_as_many_answers_as_it_likes():
    async with session() as (client, _):
        for _ in range(3):
            await client.send(*[HealthCheck()] * 5000)
            for _ in range(5000):
                await client.receive()


# --- the memory of one connection ---


@pytest.fixture
def budget(monkeypatch):
    """Connections that may hold 10,000 bytes."""
    budgets = []

    class Budget(memory.MemoryBudget):
        def __init__(self):
            super().__init__(limit_bytes=10_000)
            budgets.append(self)

    monkeypatch.setattr(session_module, "MemoryBudget", Budget)
    return budgets


async def test_requests_beyond_the_memory_of_a_connection_are_refused_until_others_are_answered(gate, budget):
    async with session() as (client, _), session() as (neighbour, _):
        big = b"1" * 6000
        await client.begin(big, connector_name="gate")
        await settled()
        answer_id = await client.begin(b"2" * 6000, connector_name="gate")
        answer = await client.answer()
        assert (answer.request_id, answer.error_class) == (answer_id, ErrorClass.RATE_LIMITED)
        assert "10000 bytes" in answer.message
        # The budget is the connection's own.
        gate.open("3" * 6000)
        assert (await neighbour.execute(b"3" * 6000, connector_name="gate")).error_class is ErrorClass.SUCCESS
        gate.open(big.decode())
        assert (await client.answer()).error_class is ErrorClass.SUCCESS
        await settled()
        assert budget[0].held_bytes == 0
        gate.open("4" * 6000)
        assert (await client.execute(b"4" * 6000, connector_name="gate")).error_class is ErrorClass.SUCCESS


async def test_all_connections_together_hold_no_more_than_the_runtime_may(gate):
    everything = memory.MemoryBudget(limit_bytes=10_000)
    one, other = (memory.MemoryBudget(parent=everything) for _ in range(2))
    one.hold(6000)
    with pytest.raises(RequestError, match="all connections") as caught:
        other.hold(6000)
    assert caught.value.error_class is ErrorClass.RATE_LIMITED
    one.close()  # its connection has ended, whatever it held
    other.hold(6000)
    other.add(3000)
    assert everything.held_bytes == 9000
    other.release(9000)
    assert everything.held_bytes == 0


async def test_a_frame_that_is_not_complete_counts(gate):
    everything = memory.MemoryBudget()
    client_end, daemon_end = trio.testing.memory_stream_pair()
    served = Session(
        daemon_end,
        Services(Pool(), None),
        Pipeline(),
        health=lambda: HEALTH,
        memory=memory.MemoryBudget(parent=everything),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.run)
        await client_end.send_all(b"\0\x01\0\0\0" + bytes(1000))
        await settled()
        assert everything.held_bytes == 1005
        await client_end.aclose()
    assert everything.held_bytes == 0


async def test_a_body_that_is_collected_counts(nursery, budget):
    upstream = Upstream()
    upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 9000
    pool = Pool()
    async with session(Services(pool, MemoryDialer(nursery, upstream))) as (client, _):
        await client.begin(URL)
        await settled()
        assert budget[0].held_bytes > 9000
        answer = await client.execute(URL)
        assert answer.error_class is ErrorClass.RATE_LIMITED
        assert pool.statistics().active == 1
    assert budget[0].held_bytes == 0
    assert pool.statistics().active == 0


async def test_unread_answers_count(budget):
    """A client that does not read its answers gets no further ones to be kept for it."""
    with connectors(Calling("long", lambda _: "x" * 4000)):
        async with session(pair=trio.testing.lockstep_stream_pair) as (client, _):
            for _ in range(5):
                await client.begin(b"", connector_name="long")
            await settled()
            assert budget[0].held_bytes < 14_000
            classes = [(await client.answer()).error_class for _ in range(5)]
            assert classes[:2] == [ErrorClass.SUCCESS] * 2
            assert ErrorClass.RATE_LIMITED in classes
            await settled()
            assert budget[0].held_bytes == 0


# --- draining ---


async def test_an_idle_connection_is_closed_at_once_when_drained():
    async with session() as (client, served):
        await client.health()
        served.drain()
        await client.end()


async def test_what_is_in_flight_finishes_and_new_requests_are_transient(gate):
    async with session(health=msgspec.structs.replace(HEALTH, is_draining=True)) as (client, served):
        await client.send(*(execute_request(n, b"%d" % n, connector_name="gate") for n in (1, 2)))
        await settled()
        served.drain()
        await client.send(execute_request(3, b"3", connector_name="gate"))
        answer = await client.answer()
        assert (answer.request_id, answer.error_class) == (3, ErrorClass.TRANSIENT)
        assert "draining" in answer.message
        told = await client.health()
        assert (told.healthy, told.draining, told.message) == (False, True, "draining")
        gate.open("2")
        assert (await client.answer()).payload == "2"
        await settled()
        assert gate.running == ["1"]
        gate.open("1")
        assert (await client.answer()).payload == "1"
        await client.end()


async def test_a_last_answer_that_takes_long_to_read_arrives_whole(gate, autojump_clock):
    async with session(pair=trio.testing.lockstep_stream_pair) as (client, served):
        gate.open("x" * 100_000)
        await client.begin(b"x" * 100_000, connector_name="gate")
        await settled()
        served.drain()
        await trio.sleep(20)
        assert (await client.answer()).payload == "x" * 100_000
        await client.end()


@pytest.mark.parametrize("ticks", range(12))
async def test_a_session_that_is_drained_in_the_moment_its_client_goes_ends(ticks):
    async with session() as (client, served):
        await client.health()
        await client.close()
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        served.drain()


async def test_a_session_that_is_drained_before_it_runs_ends():
    client_end, daemon_end = trio.testing.memory_stream_pair()
    served = Session(daemon_end, Services(Pool(), None), Pipeline(), health=lambda: HEALTH)
    served.drain()
    with trio.fail_after(5):
        await served.run()
    await WireClient(client_end).end()


@pytest.mark.parametrize("data", [b"\0", partial(execute_request, 1, b"", connector_name="gate")], ids=["part", "all"])
async def test_a_session_that_is_drained_twice_with_a_frame_half_received_ends(gate, data):
    async with session() as (client, served):
        await client.send(data if isinstance(data, bytes) else data())
        await settled()
        served.drain()
        served.drain()
        gate.open("")
        if not isinstance(data, bytes):
            await client.answer()
        await client.end()
