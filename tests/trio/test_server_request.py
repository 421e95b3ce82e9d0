"""One request: its time limits, phase by phase, and its line in the log."""

import json
import re
import time

import pytest
import trio
from session_under_test import Calling, MemoryDialer, captured_log, connectors, session
from wire_client import Answer, WireClient

from connector_sdk.wire import ErrorClass
from vastar_runtime.connectors import Services
from vastar_runtime.http.pool import Pool

URL = "http://upstream.test:81/path"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


class NeverOpens:
    async def dial(self, origin, timeout_s, guard):
        await trio.sleep_forever()


def speaking(*pieces: bytes, every_s: float = 0, size: int | None = None):
    """Reads the request (its first ``size`` bytes), sends the pieces one by one, then nothing."""

    async def script(stream):
        await stream.receive_some(size)
        for piece in pieces:
            await trio.sleep(every_s)
            await stream.send_all(piece)
        await trio.sleep_forever()

    return script


async def timed_out(answer: Answer, *words: str) -> None:
    assert answer.error_class is ErrorClass.TIMEOUT, answer
    assert answer.message.startswith("HTTP request timed out: ")
    for word in words:
        assert word in answer.message
    assert "upstream.test:81" in answer.message


# --- whose limit has passed, and in which phase ---

LIMITS = [("timeout_ms", "30000 ms passed (timeout_ms)"), ("none", "nothing moved for 30 s (deadline.idle_timeout_ms)")]


def asked(limit: str, **parameters) -> dict:
    return {"url": URL, **parameters} | ({"timeout_ms": 30_000} if limit == "timeout_ms" else {})


@pytest.mark.parametrize(("limit", "words"), LIMITS)
async def test_while_waiting_for_a_free_connection(nursery, autojump_clock, limit, words):
    services = Services(Pool(limit_per_origin=1), MemoryDialer(nursery, speaking()))
    async with session(services, idle_timeout_s=30) as (client, _):
        await client.begin({"url": URL, "timeout_ms": 500_000})
        await trio.testing.wait_all_tasks_blocked()
        began_at = trio.current_time()
        await timed_out(await client.execute(asked(limit)), words, "waiting for a free connection to upstream.test:81")
        assert trio.current_time() - began_at == pytest.approx(30)


@pytest.mark.parametrize(("limit", "words"), LIMITS)
async def test_while_connecting(autojump_clock, limit, words):
    async with session(Services(Pool(), NeverOpens()), idle_timeout_s=30) as (client, _):
        await timed_out(await client.execute(asked(limit)), words, "while connecting to")


@pytest.mark.parametrize(("limit", "words"), LIMITS)
async def test_while_sending_a_long_body(nursery, autojump_clock, limit, words):
    dialer = MemoryDialer(nursery, speaking(size=1000))
    dialer.pair = trio.testing.lockstep_stream_pair
    async with session(Services(Pool(), dialer), idle_timeout_s=30) as (client, _):
        await timed_out(await client.execute(asked(limit, method="PUT", body="x" * 200_000)), words, "while sending")


@pytest.mark.parametrize(("limit", "words"), LIMITS)
@pytest.mark.parametrize("sent", [(), (b"HTTP/1.1 200",), (b"HTTP/1.1 100 Continue\r\n\r\n",)])
async def test_while_waiting_for_the_head(nursery, autojump_clock, limit, words, sent):
    services = Services(Pool(), MemoryDialer(nursery, speaking(*sent)))
    async with session(services, idle_timeout_s=30) as (client, _):
        await timed_out(await client.execute(asked(limit)), words, "waiting for the response head from")


@pytest.mark.parametrize(("limit", "words"), LIMITS)
async def test_while_reading_the_body(nursery, autojump_clock, limit, words):
    services = Services(Pool(), MemoryDialer(nursery, speaking(HEAD, b"half")))
    async with session(services, idle_timeout_s=30) as (client, _):
        await timed_out(await client.execute(asked(limit)), words, "reading the response body from")


async def test_a_request_without_a_limit_goes_on_as_long_as_something_moves(nursery, autojump_clock):
    pieces = [HEAD, *[b"x"] * 100]
    services = Services(Pool(), MemoryDialer(nursery, speaking(*pieces, every_s=29)))
    async with session(services, idle_timeout_s=30) as (client, _):
        began_at = trio.current_time()
        assert (await client.get(URL)).body == "x" * 100
        assert trio.current_time() - began_at == pytest.approx(101 * 29)


async def test_a_request_with_a_limit_ends_though_something_moves(nursery, autojump_clock):
    pieces = [HEAD, *[b"x"] * 100]
    services = Services(Pool(), MemoryDialer(nursery, speaking(*pieces, every_s=29)))
    async with session(services, idle_timeout_s=30) as (client, _):
        await timed_out(await client.get(URL, timeout_ms=60_000), "60000 ms passed (timeout_ms)")


async def test_a_request_with_a_long_limit_waits_longer_than_the_idle_time(nursery, autojump_clock):
    services = Services(Pool(), MemoryDialer(nursery, speaking(HEAD + b"x" * 100, every_s=299)))
    async with session(services, idle_timeout_s=30) as (client, _):
        assert (await client.get(URL, timeout_ms=300_000)).body == "x" * 100


async def test_a_deadline_that_has_passed_starts_nothing(autojump_clock):
    called = []
    with connectors(Calling("count", called.append)):
        async with session() as (client, _):
            answer = await client.execute(b"", connector_name="count", deadline_at_ms=1)
            assert answer.error_class is ErrorClass.TIMEOUT
            assert "deadline_at_ms had passed" in answer.message
            later = int(time.time() * 1000) + 60_000
            assert (await client.execute(b"", connector_name="count", deadline_at_ms=later)).payload is None
    assert len(called) == 1


async def test_a_wrong_request_is_invalid_also_when_its_deadline_has_passed():
    async with session() as (client, _):
        answer = await client.execute({"url": "file:///"}, deadline_at_ms=1)
        assert answer.error_class is ErrorClass.INVALID_REQUEST


@pytest.mark.parametrize("timeout_ms", [1e-300, 1e300, 10**400, 2**64])
async def test_a_time_limit_of_any_size_is_one(nursery, autojump_clock, timeout_ms):
    services = Services(Pool(), MemoryDialer(nursery, speaking(HEAD + b"x" * 100, every_s=1)))
    async with session(services) as (client, _):
        answer = await client.execute(f'{{"url":"{URL}","timeout_ms":{timeout_ms}}}'.encode())
        assert answer.error_class is (ErrorClass.TIMEOUT if timeout_ms < 1 else ErrorClass.SUCCESS)


# --- the log ---

FIELD = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))')


def only_line(log) -> dict[str, str]:
    """The one line, parsed as logfmt readers do."""
    (line,) = log.getvalue().splitlines()
    names = [match[1] for match in FIELD.finditer(line)]
    assert len(names) == len(set(names)), line
    return {match[1]: match[2] if match[2] is not None else match[3] for match in FIELD.finditer(line)}


async def served(log, client: WireClient, payload, **fields) -> dict[str, str]:
    log.seek(0)
    log.truncate()
    await client.execute(payload, **fields)
    return only_line(log)


@pytest.fixture
async def client(nursery):
    body = b'HTTP/1.1 418 X\r\nContent-Length: 4\r\nSet-Cookie: s="SECRET"\r\n\r\nSECR'
    async with session(Services(Pool(), MemoryDialer(nursery, speaking(body)))) as (client, _):
        yield client


async def test_a_request_s_line_says_what_was_asked_and_what_came_of_it(client, log):
    line = await served(log, client, {"url": URL + "?q=SECRET", "method": "put"}, tenant_id="acme", trace_id="t-1")
    assert float(line.pop("duration_ms")) >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "event": "request",
        "method": "PUT",
        "origin": "http://upstream.test:81",
        "path": "/path",
        "status": "418",
        "bytes": "4",
        "tenant": "acme",
        "trace": "t-1",
    }


async def test_the_line_of_a_failure_says_why(client, log):
    line = await served(log, client, {"url": "ftp://h/"})
    assert (line["error_class"], line["error"]) == (
        "invalid_request",
        "unsupported URL scheme: ftp; http and https are supported",
    )


FORGERIES = [
    "x\ntimestamp=2026-01-01T00:00:00Z level=error event=forged",
    "x\r\nforged",
    'x" status=200 event="forged',
    "x status=999 forged=1",
    "x\x1b[2J\x1b]0;owned\x07",
    "x\x9b31m",
    "x\u2028forged",
    "x\x85forged",
    "x\\",
    'x\\" status=999',
    "x" * 256,
    "",
]


@pytest.mark.parametrize("text", FORGERIES, ids=ascii)
@pytest.mark.parametrize("field", ["tenant_id", "trace_id", "connector_name"])
async def test_no_name_that_a_client_chooses_forges_a_line_or_a_field_or_drives_a_terminal(client, log, field, text):
    line = await served(log, client, {"url": URL}, **{field: text})
    assert line.keys() <= {
        *("timestamp", "level", "event", "method", "origin", "path", "status", "bytes", "duration_ms"),
        *("tenant", "trace", "error", "error_class"),
    }
    assert line["event"] == "request"
    assert line.get("status", "418") == "418"
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", log.getvalue())
    assert len(log.getvalue()) < 2000


SECRET = "s3cr3t"
INVALID = {
    "query": {"url": f"http://h/p?key={SECRET}", "method": "BREW"},
    "userinfo": {"url": f"http://user:{SECRET}@h:99999/"},
    "userinfo with a slash": {"url": f"http://user:{SECRET}/x@h/"},
    "userinfo with a slash, a number": {"url": f"http://user:{SECRET}/x@h:1/"},
    "userinfo in the host's place": {"url": f"http://user {SECRET}/"},
    "fragment": {"url": f"ftp://h/#{SECRET}"},
    "header value": {"headers": {"X-A": f"{SECRET}\n"}},
    "header value, no string": {"headers": {"X-A": [SECRET]}},
    "header name": {"headers": {f"Authorization: Bearer {SECRET}": "x"}},
    "content-length": {"headers": {"Content-Length": SECRET}},
    "transfer-encoding": {"headers": {"Transfer-Encoding": SECRET}},
    "body": {"body": SECRET, "body_base64": SECRET},
    "body_base64": {"body_base64": f"{SECRET}%"},
    "headers": {"headers": SECRET},
    "method": {"method": f"GET {SECRET}"},
    "timeout": {"timeout_ms": SECRET},
    "no JSON": f'{{"url": {SECRET}'.encode(),
    "array": json.dumps([SECRET]).encode(),
}


@pytest.mark.parametrize("payload", INVALID.values(), ids=INVALID.keys())
async def test_no_secret_of_an_invalid_request_is_in_the_log(client, log, payload):
    if isinstance(payload, dict):
        payload = {"url": URL} | payload
    line = await served(log, client, payload)
    assert line["error_class"] == "invalid_request"
    assert SECRET not in log.getvalue()


RESPONSES = {
    "status line": f"{SECRET} 200 OK\r\n\r\n",
    "header without a colon": f"HTTP/1.1 200 OK\r\nSet-Cookie {SECRET}\r\n\r\n",
    "space before the colon": f"HTTP/1.1 200 OK\r\nSet-Cookie : {SECRET}\r\n\r\n",
    "length": f"HTTP/1.1 200 OK\r\nContent-Length: {SECRET}\r\n\r\n",
    "encoding": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {SECRET}\r\n\r\n",
    "chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{SECRET}\r\n",
    "redirect": f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ftp://{SECRET}:{SECRET}@h/?{SECRET}\r\n\r\n",
    "redirect to a port": f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://h:{SECRET}/\r\n\r\n",
    "gzip": f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\n{SECRET}",
}


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES.keys())
async def test_no_secret_of_a_broken_response_is_in_the_log(nursery, log, response):
    services = Services(Pool(), MemoryDialer(nursery, speaking(response.encode())))
    async with session(services) as (client, _):
        line = await served(log, client, {"url": URL})
        assert "error" in line
        assert SECRET not in log.getvalue()
        assert "upstream.test:81" in log.getvalue()


async def test_no_secret_of_a_served_request_is_in_the_log(client, log):
    headers = {"Authorization": f"Bearer {SECRET}", "X-Key": SECRET, "Cookie": SECRET}
    url = f"http://{SECRET}:{SECRET}@upstream.test:81/path?{SECRET}={SECRET}#{SECRET}"
    line = await served(log, client, {"url": url, "method": "POST", "headers": headers, "body": SECRET})
    assert line["status"] == "418"
    assert SECRET not in log.getvalue()
    assert "SECR" not in log.getvalue()
