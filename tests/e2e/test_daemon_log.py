"""The daemon's log as its operator finds it, and as it may fail."""

import os
import re

import pytest
from daemon_process import daemon
from upstream import always, upstream

pytestmark = pytest.mark.unmeasured

SECRET = "s3cr3t"


async def test_a_request_leaves_one_line_without_secrets():
    headers = [("Set-Cookie", SECRET), ("Content-Type", "text/plain")]
    async with upstream(always(SECRET.encode() * 3, status=503, headers=headers)) as up:
        with daemon() as running:
            async with running.connect() as client:
                url = f"http://{SECRET}:{SECRET}@{up.address}/a/b?{SECRET}={SECRET}#{SECRET}"
                answer = await client.execute(
                    {"url": url, "method": "PATCH", "headers": {"Authorization": SECRET}, "body": SECRET},
                    tenant_id="acme",
                    workspace_id=SECRET,
                    trace_id="trace-7",
                    headers=((SECRET, SECRET),),
                )
                assert answer.body == SECRET * 3
                await client.execute({"url": f"http://h/?{SECRET}", "method": "BREW"}, tenant_id="evil\na=b\x1b[2J")
            assert running.stop() == 0
            log = running.log
    assert SECRET not in log
    assert "\x1b" not in log
    lines = [line for line in log.splitlines() if "event=request" in line]
    assert len(lines) == 2
    assert re.fullmatch(
        r"timestamp=\S+Z level=info event=request method=PATCH "
        rf"origin={re.escape(up.origin)} path=/a/b status=503 bytes=18 duration_ms=\d+\.\d tenant=acme "
        rf"uid={os.geteuid()} pid={os.getpid()} trace=trace-7",
        lines[0],
    )
    assert "error_class=invalid_request" in lines[1]
    assert all(re.match(r"timestamp=\S+Z level=(info|warning) event=", line) for line in log.splitlines())


@pytest.fixture
def full_disk():
    with open("/dev/full", "wb") as full:
        yield full


async def test_a_full_disk_loses_lines_of_the_log_and_nothing_else(full_disk):
    async with upstream(always(b"fine")) as up:
        with daemon(stderr=full_disk) as running:
            async with running.connect() as client:
                for _ in range(3):
                    assert (await client.get(up.origin)).body == "fine"
                assert (await client.get("ftp://x")).message.startswith("unsupported URL scheme")
            assert running.stop() == 0


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    with open(reader, "rb") as reading, open(writer, "wb") as writing:
        yield reading, writing


async def test_a_reader_of_the_log_that_is_gone_takes_nothing_with_it(pipe):
    reader, writer = pipe
    async with upstream(always(b"fine")) as up:
        with daemon(stderr=writer) as running:
            reader.close()
            async with running.connect() as client:
                assert (await client.get(up.origin)).body == "fine"
            assert running.stop() == 0
