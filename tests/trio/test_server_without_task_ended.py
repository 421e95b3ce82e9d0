"""A request without a task that is ended while it is under way: by its time, by its client, or by a mistake of ours."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from http_upstream import Peer
from policed_session import OK, URL, Upstream, policed, silent
from session_under_test import HEALTH, sockets
from wire_client import WireClient, execute_request
from without_task import Tasks, kept, log, over_sockets, tasks

from connector_sdk.wire import Cancel, ErrorClass, ExecuteResponse, HealthCheck, HealthCheckResponse
from vastar_runtime.config.policy import DeadlinePolicy
from vastar_runtime.connectors import Services
from vastar_runtime.daemon.serving import Serving
from vastar_runtime.server import session
from vastar_runtime.server.memory import MemoryBudget
from vastar_runtime.server.reply import Reply

__all__ = ["log", "over_sockets", "tasks"]  # the fixtures

# --- ended while it is under way ---


async def test_its_deadline(autojump_clock, tasks: Tasks) -> None:
    async with policed(Upstream(OK, silent)) as world:
        await kept(world, tasks)
        result = await world.send(timeout_ms=1500)
        assert result.error_class is ErrorClass.TIMEOUT
        assert "1500 ms passed (timeout_ms) while waiting for the response head from upstream.test:80" in result.message
        assert (world.pool.statistics().idle, tasks.count) == (0, 1)  # it was ended by one, and its connection closed


async def test_nothing_moves(autojump_clock) -> None:
    async with policed(Upstream(OK, silent), deadline=DeadlinePolicy(idle_timeout_ms=2000)) as world:
        await kept(world)
        result = await world.send()
        assert result.error_class is ErrorClass.TIMEOUT
        assert "nothing moved for 2 s" in result.message


async def test_a_cancel() -> None:
    async with policed(Upstream(OK, silent), greets=True) as world:
        await kept(world)
        request_id = await world.begin()
        await trio.testing.wait_all_tasks_blocked()
        assert world.pool.statistics().active == 1
        await world.client.send(Cancel(request_id=request_id))
        assert (await world.result()).error_class is ErrorClass.CANCELLED
        assert (world.pool.statistics().active, world.pool.statistics().idle) == (0, 0)


async def test_the_loss_of_its_client(log) -> None:
    upstream = Upstream(OK, silent)
    async with policed(upstream) as world:
        await kept(world)
        await world.begin()
        await trio.testing.wait_all_tasks_blocked()
        assert world.pool.statistics().active == 1
        await world.client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (world.pool.statistics().active, world.pool.statistics().idle) == (0, 0)
    assert "the client left" in log.getvalue()


async def test_the_loss_of_framing_lets_nothing_hang() -> None:
    async with policed(Upstream(OK, silent)) as world:
        await kept(world)
        await world.client.send(execute_request(7, {"url": URL}), b"\0\0\0\0")
        message = await world.client.receive()
        assert isinstance(message, ExecuteResponse)
        assert (message.request_id, message.error_class) == (0, ErrorClass.INVALID_REQUEST)
        await world.client.stream.send_eof()
        assert await world.client.receive() is None


@pytest.mark.parametrize("count", [session.EVENTS_PER_TURN - 1, session.EVENTS_PER_TURN, session.EVENTS_PER_TURN + 1])
async def test_the_loss_of_framing_after_as_many_frames_as_a_turn_has(count: int, log) -> None:
    async with policed() as world:
        await world.client.send(*(HealthCheck() for _ in range(count)), b"\0\0\0\0")
        for _ in range(count):
            assert isinstance(await world.client.receive(), HealthCheckResponse)
        refusal = await world.client.receive()
        assert isinstance(refusal, ExecuteResponse)
        assert "frame length 0" in (refusal.error_message or "")
        await world.client.stream.send_eof()
        assert await world.client.receive() is None
    assert log.getvalue().count('event="invalid frame; the connection is closed" reason="frame length 0') == 1


async def test_a_cancel_in_the_same_read_as_its_request_leaves_nothing_for_the_upstream() -> None:
    async with policed(greets=True) as world:
        await kept(world)
        request = execute_request(9, {"url": URL, "method": "POST", "body": "x"})
        await world.client.send(request, Cancel(request_id=9))
        result = await world.result()
        assert (result.error_class, result.attempts) == (ErrorClass.CANCELLED, 0)
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.upstream.requests) == 1
        assert world.pool.statistics().idle == 1
        assert (await world.send()).body == "fine"


async def test_a_client_that_the_kernel_watches_no_socket_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session, "watch", full)
    async with policed() as world:
        await kept(world)
        assert (await world.send()).body == "fine"


async def test_a_client_that_has_ended_its_sending_gets_its_answer() -> None:
    gate = trio.Event()

    async def later(peer: Peer) -> None:
        await gate.wait()
        await OK(peer)

    async with policed(Upstream(OK, later)) as world:
        await kept(world)
        await world.begin()
        await world.client.stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
        assert (await world.result()).body == "fine"
        assert await world.client.receive() is None


# --- mistakes of ours ---


@pytest.mark.parametrize("where", ["try_begin", "try_finish"])
async def test_an_internal_error_is_answered_and_holds_nothing(
    where: str, monkeypatch: pytest.MonkeyPatch, log
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with policed() as world:
        await kept(world)
        with monkeypatch.context() as patched:
            patched.setattr(f"vastar_runtime.connectors.http.HttpCall.{where}", fail)
            result = await world.send()
        assert (result.error_class, result.message) == (
            ErrorClass.PERMANENT,
            "internal error of the runtime; its log has the details",
        )
        world.nothing_is_held()
        assert (await world.send()).body == "fine"
    assert "ZeroDivisionError" in log.getvalue()


async def test_a_mistake_while_it_is_answered_ends_its_connection_only(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, log
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with policed() as world:
        await kept(world)
        services = Services(world.pool, world.dialer)
        serving = Serving(services, world.pipeline, health=lambda: HEALTH, memory=MemoryBudget())
        far, near = sockets()
        nursery.start_soon(serving.serve, near)
        async with far:
            other = WireClient(far)
            with monkeypatch.context() as patched:
                patched.setattr(Reply, "send_success", fail)
                await other.begin({"url": URL})
                assert await other.receive() is None
        assert serving.sessions == 0
        assert (await world.send()).body == "fine"
    assert "internal error; the connection is closed" in log.getvalue()
