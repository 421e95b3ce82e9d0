"""``/__sim/requests``: what the simulator shows of what it received."""

from __future__ import annotations

import gc
import json
import socket
import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from simulator_client import COMPLETIONS, Simulator, question, request_bytes, simulator

from vastar_runtime.simulator import journal
from vastar_runtime.simulator.journal_entry import MAX_BODY_BYTES, Entry

PATH = "/__sim/requests"


async def shown(ask: Simulator, query: str = "") -> list[dict[str, Any]]:
    answer = await ask(path=PATH + query, method="GET")
    assert answer.status == 200
    assert set(answer.json) == {"requests", "forgotten"}
    assert answer.json["forgotten"] == 0
    requests: list[dict[str, Any]] = answer.json["requests"]
    return requests


async def shown_when(ask: Simulator, ended: str) -> dict[str, Any]:
    """The last request, once it has ended so."""
    with trio.fail_after(10):
        while (last := (await shown(ask))[-1])["ended"] != ended:
            await trio.sleep(0.001)
    return last


async def test_a_request_is_shown_as_it_came_with_what_became_of_it() -> None:
    async with simulator() as ask, await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
        began = time.time() * 1000
        await client.send_all(
            b"POST /v1/models/caf%C3%A9?a=1&b=%20 HTTP/1.1\r\nHost: x\r\nX-One: 1\r\nauthorization: Bearer sk-1\r\n"
            b"X-One: 2\r\nX-SIMULATE: status=503\r\nContent-Length: 5\r\n\r\n" + "café".encode()
        )
        head = bytes(await client.receive_some())
        entry = await shown_when(ask, "complete")
    assert began - 1000 < entry.pop("time") < began + 60_000
    assert 0 <= entry.pop("duration_ms") < 10_000
    assert entry == {
        "number": 1,
        "method": "POST",
        "path": "/v1/models/café",
        "query": "a=1&b=%20",
        "headers": [
            ["Host", "x"],
            ["X-One", "1"],
            ["authorization", "Bearer sk-1"],
            ["X-One", "2"],
            ["X-SIMULATE", "status=503"],
            ["Content-Length", "5"],
        ],
        "body": "café",
        "body_base64": None,
        "body_bytes": 5,
        "body_is_cut": False,
        "status": 503,
        "fault": "status=503",
        "ended": "complete",
        "bytes_sent": int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]),
    }


async def test_how_a_request_ended() -> None:
    async with simulator(fault="cut-after=2;first=1") as ask:
        async with await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
            await client.send_all(request_bytes(question(stream=True)))
            with pytest.raises(trio.BrokenResourceError):
                while await client.receive_some():
                    pass
        cut = await shown_when(ask, "reset")
        assert (cut["status"], cut["fault"]) == (200, "cut-after=2;first=1")
        assert cut["bytes_sent"] > 100
        async with await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
            await client.send_all(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Simulate: hang\r\n\r\n")
            hanging = await shown_when(ask, "running")
            assert (hanging["status"], hanging["fault"], hanging["bytes_sent"]) == (None, "hang", 0)
        left = await shown_when(ask, "client left")
        assert left["number"] == hanging["number"] == 2
        async with await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
            await client.send_all(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Simulate: garbage\r\n\r\n")
            data = bytes(await client.receive_some())
        closed = await shown_when(ask, "closed")
        assert (closed["status"], closed["bytes_sent"]) == (None, len(data))


@pytest.mark.parametrize("fault", ["none", "latency=1ms"])
@pytest.mark.parametrize("stream", [True, False])
async def test_who_has_the_whole_answer_finds_it_complete(fault: str, stream: bool) -> None:
    async with simulator() as ask:
        for number in range(1, 6):
            await ask(question(stream=stream), **{"X-Simulate": fault})
            assert [entry["ended"] for entry in await shown(ask)] == ["complete"] * number


async def test_who_leaves_at_the_last_event_has_the_whole_answer_too() -> None:
    async with simulator(tokens_per_second=50) as ask:
        async with await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
            await client.send_all(request_bytes(question(stream=True, max_tokens=3)))
            data = b""
            while b"[DONE]" not in data:
                data += await client.receive_some()
        assert (await shown(ask))[0]["ended"] == "complete"


async def test_who_leaves_in_a_long_answer_has_not_got_it_all() -> None:
    connection = StillThere()
    sent: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(range(256)) * 4000 + b"end"})

    async def send(message: Any) -> None:
        if "body" in message:
            sent.append(message["body"])
            if scope_["path"] == "/left" and len(sent) == 3:
                connection.has_left = connection.is_lost = True

    kept = journal.Journal(app, lambda: None)
    for path in ("/stays", "/left"):
        scope_ = scope(path, connection=connection)
        sent.clear()
        await kept(scope_, None, send)  # type: ignore[arg-type]
        assert b"".join(sent) == bytes(range(256)) * 4000 + b"end"
    whole, half = kept._entries
    assert (whole.ended, whole.bytes_sent) == ("complete", 1_024_003)
    assert (half.ended, half.bytes_sent) == ("client left", sum(map(len, sent[:3])))
    assert half.bytes_sent < 200_000


async def test_who_reads_only_the_beginning_of_a_long_answer_is_shown_to_have_left() -> None:
    with trio.socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with simulator(echo=True) as ask:
            await raw.connect(("127.0.0.1", ask.port))
            async with trio.SocketStream(raw) as client:
                await client.send_all(request_bytes(question("word " * 800_000)))
                data = b""
                while b"word word" not in data:
                    data += await client.receive_some()
            left = await shown_when(ask, "client left")
    assert left["status"] == 200
    assert 0 < left["bytes_sent"] < 4_000_000


@pytest.mark.parametrize(
    ("sent", "status", "ended"),
    [
        (request_bytes(question()), 200, "complete"),
        (request_bytes(question())[:-1], 400, "client left"),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Simulate: hang\r\n\r\n", None, "client left"),
    ],
    ids=["whole", "half", "hanging"],
)
async def test_who_closes_its_side_behind_a_request_has_left_unless_the_answer_is_whole(
    sent: bytes, status: int | None, ended: str
) -> None:
    async with simulator() as ask, await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
        await client.send_all(sent)
        await client.send_eof()
        assert (await shown_when(ask, ended))["status"] == status


async def test_bodies_are_cut_and_what_is_no_text_is_base64() -> None:
    async with simulator() as ask:
        await ask("é".encode() * MAX_BODY_BYTES)
        await ask(b"\xff\x00")
        await ask(b"\xc3")
        await ask(b"a" + "é".encode() * MAX_BODY_BYTES)
        long, binary, half, odd = await shown(ask)
    assert (long["body"], long["body_is_cut"], long["body_bytes"]) == ("é" * (MAX_BODY_BYTES // 2), True, 32768)
    assert (binary["body"], binary["body_base64"], binary["body_is_cut"]) == (None, "/wA=", False)
    assert half["body_base64"] == "ww=="
    assert odd["body"] == "a" + "é" * (MAX_BODY_BYTES // 2 - 1)


async def test_the_latest_of_a_path_and_forgetting() -> None:
    async with simulator() as ask:
        for path in ("/v1/models", COMPLETIONS, "/v1/models", "/v1/models/a"):
            await ask(path=path, method="GET")
        assert [entry["number"] for entry in await shown(ask)] == [1, 2, 3, 4]
        assert [entry["number"] for entry in await shown(ask, "?path=/v1/models")] == [1, 3]
        assert [entry["number"] for entry in await shown(ask, "?path=/v1/models&limit=1")] == [3]
        forgotten = await ask(path=PATH, method="DELETE")
        assert (forgotten.status, forgotten.body) == (204, b"")
        assert await shown(ask) == []
        await ask(path="/health", method="GET")
        assert [entry["number"] for entry in await shown(ask)] == [5]


async def test_forgetting_begins_the_counts_of_faults_anew() -> None:
    first = {"X-Simulate": "status=503;first=2"}
    async with simulator(fault="status=500;first=1") as ask:

        async def statuses() -> list[int]:
            asked = [await ask(path="/v1/models", method="GET", **headers) for headers in (first, first, first, {}, {})]
            return [answer.status for answer in asked]

        assert await statuses() == [503, 503, 200, 500, 200]
        await ask(path=PATH, method="GET")
        await ask(path=PATH, method="POST")
        assert await statuses() == [200, 200, 200, 200, 200]
        await ask(path=PATH, method="DELETE")
        assert await statuses() == [503, 503, 200, 500, 200]


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/__sim", 404, "Invalid URL (GET /__sim); there is /__sim/requests."),
        ("GET", "/__sim/other", 404, "Invalid URL (GET /__sim/other); there is /__sim/requests."),
        ("POST", PATH, 405, "POST is not allowed on /__sim/requests."),
        ("GET", PATH + "?limit=0", 400, "limit is '0'; it takes 1 to 1000."),
        ("GET", PATH + "?limit=x", 400, "limit is 'x'; it takes 1 to 1000."),
        ("GET", PATH + "?method=GET", 400, "Unknown parameter 'method'; there are path and limit."),
    ],
)
async def test_what_cannot_be_asked_for(method: str, path: str, status: int, says: str) -> None:
    async with simulator() as ask:
        answer = await ask(path=path, method=method)
        assert await shown(ask) == []
    assert (answer.status, answer.error["message"]) == (status, says)
    assert answer.headers.get("allow") == ("GET, DELETE" if status == 405 else None)


async def test_the_journal_is_bounded_by_count_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 100, "more_body": False}

    kept = journal.Journal(nothing, lambda: None)
    for number in range(journal.MAX_ENTRIES + 5):
        await kept(scope(f"/{number}"), receive, None)  # type: ignore[arg-type]
    assert [entry.path for entry in kept._entries][::999] == ["/5", "/1004"]
    monkeypatch.setattr(journal, "MAX_BYTES", 9 * max(entry.size for entry in kept._entries))
    await kept(scope("/last"), receive, None)  # type: ignore[arg-type]
    assert len(kept._entries) == 9
    assert kept._bytes == sum(entry.size for entry in kept._entries) <= journal.MAX_BYTES


async def test_an_entry_takes_no_more_memory_than_is_counted() -> None:
    def entry(number: int) -> Entry:
        kept = Entry(scope(f"/🌊{number}" * 500, [(b"x-%d" % at, b"%d" % at) for at in range(5000)]), number)
        kept.add_body(bytes(MAX_BODY_BYTES))
        kept.end("complete")
        return kept

    gc.collect()
    gc.disable()  # it empties what the interpreter keeps, when it likes
    tracemalloc.start()
    try:
        entries = [entry(1)]  # with what the interpreter keeps for its next tuples
        before, _ = tracemalloc.get_traced_memory()
        entries += [entry(number) for number in range(2, 7)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before <= sum(entry.size for entry in entries[1:]) < 5 * 100_000


async def test_the_list_is_sent_in_pieces_and_says_how_many_entries_were_forgotten_meanwhile() -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bytes(MAX_BODY_BYTES), "more_body": False}

    kept = journal.Journal(nothing, lambda: None)
    for number in range(1, 51):
        await kept(scope(f"/{number}"), receive, None)  # type: ignore[arg-type]
    pieces: list[bytes] = []

    async def send(message: Any) -> None:
        pieces.append(message.get("body", b""))
        if len(pieces) == 10:
            for number in range(51, 51 + journal.MAX_ENTRIES - 10):
                await kept(scope(f"/{number}"), receive, None)  # type: ignore[arg-type]
        if len(pieces) == 15:
            await ask_for("DELETE")

    async def ask_for(method: str) -> None:
        answer_to = send if method == "GET" else _ignored
        await kept(scope(PATH, method=method), receive, answer_to)

    await ask_for("GET")
    answer = json.loads(b"".join(pieces))
    numbers = [entry["number"] for entry in answer["requests"]]
    # Control characters take six bytes each.
    assert max(map(len, pieces)) < 2 * 6 * MAX_BODY_BYTES
    assert numbers == [*range(1, 10), *range(41, 46)]
    assert answer["forgotten"] == 50 - len(numbers)


async def _ignored(message: Any) -> None:
    pass


def scope(
    path: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
    method: str = "GET",
    connection: StillThere | None = None,
) -> dict[str, Any]:
    state = {"connection": connection or StillThere()}
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers, "state": state}


class StillThere:
    has_left = is_lost = was_reset = False
    garbage_bytes = 0
