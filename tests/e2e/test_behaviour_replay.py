"""What the existing SDKs in four languages really sent, replayed: the answers are those that were captured, except
where the behaviour table says otherwise.

The frames go out byte for byte as captured; only the upstream's port and the deadline (long past) are overwritten
in place, so that each SDK's own FlatBuffers layout and JSON escaping is what the daemon reads.
"""

import json
import struct
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from captured import CAPTURED, CLIENTS, Captured
from upstream import Peer, Upstream, upstream
from wire_client import Answer

from connector_sdk.wire import ErrorClass, MessageType

CAPTURED_PORT = b":18080"
# Chosen by whoever served the captured requests, and by the clock.
OF_THE_UPSTREAM = {"date", "server"}
TIMED_OUT = ("timed out", ErrorClass.TIMEOUT)


def takes_too_long(delay_s: float) -> bool:
    """The captures' requests for /slow with more than this have a time limit that passes first."""
    return delay_s >= 1


async def captured_upstream(peer: Peer) -> None:
    """Answers as the upstream of the captures did."""
    while (request := await peer.request()) is not None:
        url = urlsplit(request.target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        plain = [("content-type", "text/plain; charset=utf-8")]
        kind, *rest = url.path.strip("/").split("/")
        if kind == "echo":
            echoed = {
                "method": request.method,
                "path": request.target,
                "headers": request.headers,
                "body": request.body.decode("latin-1"),
            }
            headers = [("Content-Type", "application/json; charset=utf-8")]
            await peer.respond(json.dumps(echoed).encode(), headers=headers)
        elif kind == "status":
            headers = [*plain, ("Retry-After", "1"), ("X-A", "1")]
            await peer.respond(b"status body", status=int(rest[0]), headers=headers)
        elif kind == "slow":
            if takes_too_long(float(query["d"])):
                await peer.gone()
                return
            await peer.respond(b"slow", headers=plain)
        elif kind == "big":
            await peer.respond(b"x" * int(query["n"]), headers=plain)
        elif kind == "sse":
            await stream_events(peer, int(query["n"]))


async def stream_events(peer: Peer, count: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    await peer.send(head)
    events = [
        json.dumps({"choices": [{"index": 0, "delta": {"content": f"tok{number} "}, "finish_reason": None}]})
        for number in range(count)
    ]
    for event in [*events, "[DONE]"]:
        chunk = f"data: {event}\n\n".encode()
        await peer.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    await peer.send(b"0\r\n\r\n")


def replayed(captured: Captured, up: Upstream) -> bytes:
    """The captured frame, on the wire today."""
    port = f":{up.port:05d}".encode()
    frame = captured.frame.replace(CAPTURED_PORT, port)
    then, now = captured.fields["deadline_at_ms"], int(time.time() * 1000)
    # Long enough for a busy machine to read the request before it passes.
    allowed_ms = 500 if passes_its_deadline(captured) else 30_000
    before = struct.pack("<Q", then)
    assert frame.count(before) == 1
    return frame.replace(before, struct.pack("<Q", now + allowed_ms))


def passes_its_deadline(captured: Captured) -> bool:
    """The existing runtime let the deadline pass; ours answers Timeout."""
    return any(response.fields["duration_us"] > 900_000 for response in answers_to(captured))


def answers_to(request: Captured) -> list[Captured]:
    return [
        captured
        for captured in CAPTURED
        if captured.message_type == MessageType.EXECUTE_RESPONSE
        and captured.client == request.client
        and captured.fields["request_id"] == request.fields["request_id"]
    ]


def requests_of(client: str) -> list[Captured]:
    return [
        captured
        for captured in CAPTURED
        if captured.client == client and captured.message_type == MessageType.EXECUTE_REQUEST
    ]


def shape(payload: dict | None) -> dict | None:
    """A payload without what the upstream chose and what depends on its port's digits."""
    if payload is None:
        return None
    headers = {name: value for name, value in payload["headers"].items() if name not in OF_THE_UPSTREAM}
    body = payload["body"]
    if headers.get("content-type", "").startswith("application/json"):
        body = json.loads(body)
        body["headers"] = sorted([name.lower(), value] for name, value in body["headers"])
        for header in body["headers"]:
            if header[0] == "host":
                header[1] = header[1].partition(":")[0]
    return payload | {"headers": headers, "body": body}


def assert_as_captured(answer: Answer, request: Captured) -> None:
    url = json.loads(request.fields["payload"])["url"]
    (captured,) = answers_to(request) or [None]
    if captured is None:  # only /big: the captures leave its answer of 3 MB out
        assert "/big" in url
        assert (answer.status, len(answer.body)) == (200, 3_000_000)
        return
    words, error_class = {
        "notaurl": ("no scheme", ErrorClass.INVALID_REQUEST),
        "http://127.0.0.1:1/": ("HTTP request failed: cannot connect to 127.0.0.1:1", ErrorClass.TRANSIENT),
    }.get(url, ("", ErrorClass(captured.fields["error_class"])))
    if passes_its_deadline(request) or "timeout_ms" in request.fields["payload"]:
        words, error_class = TIMED_OUT
    assert answer.error_class is error_class, answer
    assert words in answer.message
    if error_class is ErrorClass.SUCCESS:
        assert shape(answer.payload) == shape(json.loads(captured.fields["payload"]))
        assert list(answer.payload) == list(json.loads(captured.fields["payload"]))


@pytest.mark.parametrize("sdk", CLIENTS)
async def test_each_captured_request_is_answered_as_captured(client, sdk):
    requests = requests_of(sdk)
    assert len(requests) >= 8
    async with upstream(captured_upstream) as up:
        for request in requests:
            await client.send(replayed(request, up))
            answer = await client.answer()
            assert answer.request_id == request.fields["request_id"]
            assert_as_captured(answer, request)


@pytest.mark.parametrize("sdk", CLIENTS)
async def test_all_of_an_sdk_s_requests_pipelined_byte_by_byte_at_first(client, sdk):
    requests = {request.fields["request_id"]: request for request in requests_of(sdk)}
    async with upstream(captured_upstream) as up:
        sent = b"".join(replayed(request, up) for request in requests.values())
        for index in range(300):
            await client.send(sent[index : index + 1])
        await client.send(sent[300:])
        for _ in list(requests):
            answer = await client.answer()
            assert_as_captured(answer, requests.pop(answer.request_id))


async def test_a_captured_answer_frame_sent_by_a_client_is_refused_and_nothing_else_happens(client):
    for captured in CAPTURED:
        if captured.message_type == MessageType.EXECUTE_RESPONSE:
            await client.send(captured.frame)
            assert (await client.answer()).error_class is ErrorClass.INVALID_REQUEST
    assert (await client.health()).healthy
