"""What streams cost the daemon: nothing that grows with their length."""

import re
from pathlib import Path

import pytest
from daemon_process import DaemonProcess, daemon
from stream_client import OK, greet, head, stream_request
from trio.testing import wait_all_tasks_blocked
from upstream import Peer, upstream

from connector_sdk.wire import BodyChunk, CreditUpdate, ErrorClass, ResponseEnd

pytestmark = pytest.mark.unmeasured

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE


def resident_bytes(process: DaemonProcess) -> int:
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * KIBIBYTE


async def flood(peer: Peer) -> None:
    """As many bytes as the request's path says."""
    request = await peer.request()
    assert request is not None
    size = int(request.target[1:])
    await peer.send(OK + b"Content-Length: %d\r\n\r\n" % size)
    for _ in range(size // MEBIBYTE):
        await peer.send(bytes(MEBIBYTE))


async def streamed(client, request_id: int, url: str) -> int:
    """How many bytes came, credit given back in quarters of the window."""
    await client.send(stream_request(request_id, url))
    await head(client, request_id)
    size = unreturned = 0
    while isinstance(message := await client.receive(), BodyChunk):
        assert message.data is not None
        size += len(message.data)
        unreturned += len(message.data)
        if unreturned >= 64 * KIBIBYTE:
            await client.send(CreditUpdate(request_id=request_id, credit_delta=unreturned))
            unreturned = 0
    assert isinstance(message, ResponseEnd)
    assert message.error_class is ErrorClass.SUCCESS, message
    return size


async def test_256_mebibytes_in_one_stream_leave_the_daemon_as_large_as_it_was():
    async with upstream(flood) as up:
        with daemon() as process:
            async with process.connect() as client:
                await greet(client)
                assert await streamed(client, 1, f"{up.origin}/{4 * MEBIBYTE}") == 4 * MEBIBYTE
                before = resident_bytes(process)
                assert await streamed(client, 2, f"{up.origin}/{256 * MEBIBYTE}") == 256 * MEBIBYTE
                assert resident_bytes(process) - before < 10 * MEBIBYTE


async def test_a_client_that_asks_for_large_windows_and_never_reads_costs_little_of_them():
    """50 windows of 4 MiB would be 200 MiB."""
    async with upstream(flood) as up:
        with daemon() as process:
            async with process.connect() as client:
                await greet(client, window_bytes=4 * MEBIBYTE)
                before = resident_bytes(process)
                await client.send(*(stream_request(n, f"{up.origin}/{64 * MEBIBYTE}") for n in range(50)))
                await wait_all_tasks_blocked(0.5)
                assert resident_bytes(process) - before < 60 * MEBIBYTE
                async with process.connect() as other:
                    assert (await other.health()).active_requests == 50
