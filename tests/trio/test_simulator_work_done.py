"""Whether a request that a fault happens to takes effect, as docs/faults.md has it."""

from __future__ import annotations

import contextlib
from http.client import HTTPException

import pytest
import trio
from simulator_client import Simulator, simulator

CUSTOMERS = "/v1/customers"
KEY = {"Authorization": "Bearer any"}


async def newest(ask: Simulator) -> str | None:
    email: str | None = (await ask(path=f"{CUSTOMERS}?limit=1", method="GET", **KEY)).json["data"][0]["email"]
    return email


@pytest.mark.parametrize(
    ("fault", "is_done"),
    [
        ("status=503", False),
        ("latency=1ms;status=503", False),
        ("garbage", False),
        ("latency=1ms", True),
        ("cut-after=0", True),
        ("truncate-event=1", True),
        ("slow=100kB/s", True),
    ],
)
async def test_what_is_created_in_spite_of_a_fault(fault: str, is_done: bool) -> None:
    headers = {**KEY, "X-Simulate": fault, "Content-Type": "application/json"}
    async with simulator() as ask:
        with contextlib.suppress(OSError, HTTPException):  # which the client gets of a reset, and of what is no HTTP
            await ask({"email": "new@example.com"}, path=CUSTOMERS, **headers)
        assert (await newest(ask) == "new@example.com") is is_done


@pytest.mark.parametrize("fault", ["hang", "latency=3600s"])
async def test_what_is_not_as_its_client_leaves_before(fault: str) -> None:
    async with simulator() as ask:
        async with await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
            head = f"POST {CUSTOMERS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer any\r\nX-Simulate: {fault}\r\n"
            form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 21\r\n\r\n"
            await client.send_all(f"{head}{form}email=new@example.com".encode())
            with trio.fail_after(10):
                while not await received(ask):
                    await trio.sleep(0.001)
        with trio.fail_after(10):
            while (await received(ask))[0]["ended"] != "client left":
                await trio.sleep(0.001)
        assert await newest(ask) != "new@example.com"


async def received(ask: Simulator) -> list[dict[str, str]]:
    found: list[dict[str, str]] = (await ask(path=f"/__sim/requests?path={CUSTOMERS}", method="GET")).json["requests"]
    return found
