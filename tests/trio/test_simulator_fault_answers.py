"""Faults on demand: what a client of the simulator sees of each."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from simulator_client import COMPLETIONS, Simulator, question, request_bytes, simulator

from vastar_runtime.simulator.body import MAX_BODY_BYTES
from vastar_runtime.simulator.fault_injection import FaultInjection

MESSAGE = question(max_tokens=100)


async def simulated(ask: Simulator, fault: str, body: object = None, **how: Any) -> Any:
    return await ask(question() if body is None else body, **{"X-Simulate": fault}, **how)


@asynccontextmanager
async def sent(ask: Simulator, fault: str, body: dict[str, Any]) -> AsyncIterator[trio.SocketStream]:
    """The connection on which a completion was asked for."""
    async with await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
        head, _, data = request_bytes(body).partition(b"\r\n\r\n")
        await client.send_all(b"%b\r\nX-Simulate: %b\r\n\r\n%b" % (head, fault.encode(), data))
        yield client


async def received(client: trio.SocketStream) -> tuple[bytes, bool]:
    """All that comes, and whether the connection ends with a reset."""
    data = b""
    with trio.fail_after(10):
        try:
            async for piece in client:
                data += piece
        except trio.BrokenResourceError:
            return data, True
    return data, False


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        (COMPLETIONS, question(), 429, {"type": "requests", "param": None, "code": "rate_limit_exceeded"}),
        (COMPLETIONS, question(stream=True), 401, {"code": "invalid_api_key"}),
        ("/v1/embeddings", {"model": "any", "input": "a"}, 503, {"type": "server_error"}),
        ("/v1/messages", MESSAGE, 429, {"type": "rate_limit_error"}),
        ("/v1/messages", MESSAGE, 529, {"type": "overloaded_error"}),
        ("/v1/customers", None, 500, {"type": "api_error", "param": None}),
        ("/v1/customers", None, 429, {"type": "rate_limit_error", "param": None}),
    ],
)
async def test_a_status_is_answered_in_the_envelope_of_the_api(
    path: str, body: object, status: int, error: dict[str, object]
) -> None:
    async with simulator() as ask:
        answer = await simulated(ask, f"status={status};retry-after=7", body, path=path)
    assert (answer.status, answer.headers["retry-after"]) == (status, "7")
    assert answer.json["error"].items() >= error.items()
    assert f"'status={status};retry-after=7'" in answer.json["error"]["message"]
    assert (answer.json.get("type") == "error") == (path == "/v1/messages")


async def test_a_status_of_a_forge_and_statuses_that_are_no_errors() -> None:
    async with simulator() as ask:
        forge = await simulated(ask, "status=502", path="/repos/a/b/issues", method="GET")
        bodiless = [await simulated(ask, f"status={status}") for status in (200, 204, 302, 304)]
    assert set(forge.json) == {"message"}
    assert [(answer.status, answer.body) for answer in bodiless] == [(200, b""), (204, b""), (302, b""), (304, b"")]


@pytest.mark.parametrize("fault", ["status=503", "garbage", "explode"])
async def test_a_client_is_not_answered_before_all_that_it_sends_is_read(fault: str) -> None:
    """Else it would see a reset now and then."""
    size = MAX_BODY_BYTES + 3_000_000
    async with simulator() as ask, upload(ask, fault, size) as client:
        with trio.fail_after(10):
            await client.send_all(bytes(size - 1))
            with trio.move_on_after(0.05) as patience:
                await client.receive_some()
            assert patience.cancelled_caught
            await client.send_all(b"1")
            assert await client.receive_some()


async def test_a_client_that_leaves_in_the_middle_of_an_endless_upload_hangs_no_longer() -> None:
    async with simulator() as ask:
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with upload(ask, "hang", 10**12) as client:
            with trio.fail_after(10):
                await client.send_all(bytes(MAX_BODY_BYTES + 3_000_000))
        await until_tasks(tasks)


@asynccontextmanager
async def upload(ask: Simulator, fault: str, size: int) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        await client.send_all(
            b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nX-Simulate: %b\r\n\r\n"
            % (size, fault.encode())
        )
        yield client


async def until_tasks(number: int) -> None:
    with trio.fail_after(10):
        while trio.lowlevel.current_statistics().tasks_living > number:
            await trio.sleep(0.001)


@pytest.mark.parametrize(
    "fault", ["hang", "latency=3600s", "slow=1B/s", "slow=1B/s;status=500", "slow=1B/s;cut-after=9"]
)
@pytest.mark.parametrize("more", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["alone", "with another behind it"])
@pytest.mark.parametrize("stream", [False, True])
async def test_every_pause_ends_when_the_client_leaves(fault: str, more: bytes, stream: bool, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "vastar_runtime.simulator.request_log")
    async with simulator() as ask:
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with sent(ask, fault, question(stream=stream)) as client:
            await client.send_all(more)
            with trio.fail_after(10):
                while trio.lowlevel.current_statistics().tasks_living < tasks + 4:
                    await trio.sleep(0.001)
        await until_tasks(tasks)
        assert (await ask(question())).status == 200
    assert caplog.records == []


async def test_a_stream_is_reset_after_so_many_events(caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "vastar_runtime.simulator.request_log")
    async with simulator() as ask:
        for events in (0, 1, 5):
            async with sent(ask, f"cut-after={events}", question(stream=True)) as client:
                data, was_reset = await received(client)
            assert was_reset
            assert data.startswith(b"HTTP/1.1 200 ")
            assert data.count(b"data: ") == data.count(b"\n\n") == events
        whole = await simulated(ask, "cut-after=1000", question(stream=True))
    assert whole.events[-1] == "[DONE]"
    assert caplog.records == []


async def test_a_whole_answer_is_reset_in_its_middle() -> None:
    async with simulator() as ask:
        whole = await ask(question())
        async with sent(ask, "cut-after=5", question()) as client:
            data, was_reset = await received(client)
        async with sent(ask, "status=503;cut-after=5", question()) as client:
            failure, was_reset_too = await received(client)
    assert was_reset
    assert was_reset_too
    assert f"content-length: {len(whole.body)}".encode() in data
    assert len(data.partition(b"\r\n\r\n")[2]) == len(whole.body) // 2
    assert failure.startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("event", [1, 5])
async def test_an_event_breaks_off_and_the_response_ends_regularly(event: int) -> None:
    async with simulator() as ask:
        whole = await ask(question(stream=True))
        answer = await simulated(ask, f"truncate-event={event}", question(stream=True))
        await simulated(ask, "truncate-event=1000", question(stream=True))
    *events, rest = answer.body.decode().split("\n\n")
    assert len(events) == event - 1
    assert 10 < len(rest) < len(whole.events[event - 1])
    assert rest.startswith('data: {"id"')


async def test_a_whole_answer_is_half_of_the_json_and_ends_regularly() -> None:
    async with simulator() as ask:
        answer = await simulated(ask, "truncate-event=5")
        nothing = await simulated(ask, "truncate-event=1", path="/__sim/requests", method="DELETE")
    assert int(answer.headers["content-length"]) == len(answer.body) > 100
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)
    assert nothing.status == 204


async def test_garbage_is_no_http() -> None:
    async with simulator() as ask, sent(ask, "garbage", question()) as client:
        data, was_reset = await received(client)
    assert b"HTTP/" not in data
    assert data
    assert not was_reset


async def test_a_fault_of_one_connection_leaves_the_others_alone() -> None:
    async with simulator(tokens_per_second=1000) as ask:
        answers: list[Any] = []

        async def stream() -> None:
            answers.append(await ask(question(stream=True)))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(stream)
            for fault in ("cut-after=3", "garbage", "cut-after=0"):
                async with sent(ask, fault, question(stream=True)) as client:
                    await received(client)
    assert [answer.events[-1] for answer in answers] == ["[DONE]"] * 4


async def test_a_header_that_is_no_fault_is_refused_in_the_envelope_of_the_api() -> None:
    async with simulator() as ask:
        chat = await simulated(ask, "staus=503")
        message = await simulated(ask, "status=503;hang", MESSAGE, path="/v1/messages")
        long = await simulated(ask, "x" * 10_000)
    assert (chat.status, chat.error["param"], chat.error["code"]) == (400, "X-Simulate", "invalid_fault")
    assert chat.error["message"] == "Invalid header X-Simulate: unknown part 'staus'; did you mean status?"
    assert message.json["error"] == {
        "type": "invalid_request_error",
        "message": "Invalid header X-Simulate: status and hang exclude each other",
    }
    assert "10000 characters" in long.error["message"]


async def test_a_fault_for_all_gives_way_to_a_header_and_leaves_health_alone() -> None:
    async with simulator(fault="status=503;first=1") as ask:
        asked = [
            (await ask(question())).status,
            (await ask(question())).status,
            (await ask(question("another"))).status,
            (await simulated(ask, "status=418")).status,
            (await simulated(ask, "none", question("a third"))).status,
            (await ask(path="/health", method="GET")).status,
            (await simulated(ask, "status=500", path="/health", method="GET")).status,
            (await ask(path="/__sim/requests", method="GET")).status,
        ]
    assert asked == [503, 200, 503, 418, 200, 200, 500, 200]


async def test_a_share_of_the_requests_is_the_same_with_the_same_seed() -> None:
    runs = []
    for _ in range(2):
        async with simulator(fault="status=429;retry-after=1;rate=0.5", seed=3) as ask:
            runs.append([(await ask(path="/v1/models", method="GET")).status for _ in range(12)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 429}


# --- in virtual time, without sockets ---


class StillThere:
    """A connection whose client does not leave."""

    has_left = was_reset = False
    garbage_bytes = 0

    async def left(self) -> None:
        await trio.sleep_forever()


async def answer_at_once(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "http.request"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
    await send({"type": "http.response.body", "body": b"x" * 60, "more_body": True})
    await send({"type": "http.response.body", "body": b"x" * 40})


async def run(fault: str) -> list[tuple[float, int]]:
    """When the messages of the answer came, in seconds, and how long their bodies are."""
    began, came = trio.current_time(), []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        came.append((round(trio.current_time() - began, 6), len(message.get("body", b""))))

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(b"x-simulate", fault.encode())],
        "state": {"connection": StillThere()},
    }
    await FaultInjection(answer_at_once, None, None)(scope, receive, send)
    return came


async def test_latency_passes_before_the_head(autojump_clock: trio.abc.Clock) -> None:
    assert await run("latency=500ms") == [(0.5, 0), (0.5, 60), (0.5, 40)]
    assert (await run("latency=3600s;status=503"))[0] == (3600, 0)


async def test_a_slow_body_takes_its_time_byte_by_byte(autojump_clock: trio.abc.Clock) -> None:
    head, *body = await run("slow=1B/s")
    assert head == (0, 0)
    assert body == [(second, 1) for second in range(1, 101)]
    _, *body = await run("slow=400B/s")
    assert body == [(0.05, 20), (0.1, 20), (0.15, 20), (0.2, 20), (0.25, 20)]


async def test_a_slow_body_that_breaks_off(autojump_clock: trio.abc.Clock) -> None:
    _, *body = await run("slow=10B/s;truncate-event=1")
    assert (body[-1], sum(length for _, length in body)) == ((5.0, 1), 50)
