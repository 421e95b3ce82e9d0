"""What the SDK itself costs its application: CPU time of this process per request, or per streamed chunk.

Arguments: ``blocking`` or ``async``, ``request`` or ``chunk``, the daemon's socket, the URL, how many requests (or
events). Prints one line of JSON. Requests come one after the other; so do the chunks of one stream.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable

from connector_sdk import POST, AsyncRuntimeClient, HTTPRequest, RuntimeClient, RuntimeConfig

WARM_UP = 20
EVENT = b'"t":'
BODY = '{"model":"m","messages":[{"role":"user","content":"hello"}]}'


class Cost:
    """CPU time from here on."""

    def __init__(self) -> None:
        self._began_s = time.process_time()
        self._began_at = time.monotonic()
        self.errors = 0
        self.done = 0

    def values(self, expected: int) -> dict[str, float]:
        """One of ``done`` cost so much; whatever is missing of ``expected`` is lost."""
        cpu_s, took_s = time.process_time() - self._began_s, time.monotonic() - self._began_at
        return {
            "requests": self.done,
            "errors": self.errors,
            "lost_events": max(0, expected - self.done - self.errors),
            "took_s": took_s,
            "per_s": self.done / took_s,
            "sdk_cpu_us": 1e6 * cpu_s / max(1, self.done),
        }


def blocking_requests(config: RuntimeConfig, request: HTTPRequest, count: int) -> dict[str, float]:
    with RuntimeClient(config) as client:
        for _ in range(WARM_UP):
            client.execute_http(request)
        cost = Cost()
        for _ in range(count):
            if client.execute_http(request).status_code == 200:
                cost.done += 1
            else:
                cost.errors += 1
        return cost.values(count)


def blocking_chunks(config: RuntimeConfig, request: HTTPRequest, count: int) -> dict[str, float]:
    with RuntimeClient(config) as client, client.stream_http(request) as response:
        cost = Cost()
        for piece in response.iter_bytes():
            cost.done += piece.count(EVENT)
        return cost.values(count)


def async_requests(config: RuntimeConfig, request: HTTPRequest, count: int) -> dict[str, float]:
    async def run() -> dict[str, float]:
        async with AsyncRuntimeClient(config) as client:
            for _ in range(WARM_UP):
                await client.execute_http(request)
            cost = Cost()
            for _ in range(count):
                if (await client.execute_http(request)).status_code == 200:
                    cost.done += 1
                else:
                    cost.errors += 1
            return cost.values(count)

    return asyncio.run(run())


def async_chunks(config: RuntimeConfig, request: HTTPRequest, count: int) -> dict[str, float]:
    async def run() -> dict[str, float]:
        async with AsyncRuntimeClient(config) as client, client.stream_http(request) as response:
            cost = Cost()
            async for piece in response.aiter_bytes():
                cost.done += piece.count(EVENT)
            return cost.values(count)

    return asyncio.run(run())


WAYS: dict[tuple[str, str], Callable[[RuntimeConfig, HTTPRequest, int], dict[str, float]]] = {
    ("blocking", "request"): blocking_requests,
    ("blocking", "chunk"): blocking_chunks,
    ("async", "request"): async_requests,
    ("async", "chunk"): async_chunks,
}

if __name__ == "__main__":
    _, client, unit, socket_path, url, count = sys.argv
    request = POST(url).with_header("Content-Type", "application/json").with_body(BODY)
    print(json.dumps(WAYS[client, unit](RuntimeConfig(socket_path=socket_path), request, int(count))))
