"""What the SDK itself costs its application: CPU time of this process per request, or per streamed chunk.

Arguments: ``blocking`` or ``async``, ``request`` or ``chunk``, the daemon's socket, the URL, how many requests (or
events). Prints one line of JSON. Requests come one after the other; so do the chunks of one stream.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from connector_sdk import POST, AsyncRuntimeClient, ConnectorException, HTTPRequest, RuntimeClient, RuntimeConfig

WARM_UP = 200
EVENT = b'"t":'
Values = dict[str, float | str]
BODY = '{"model":"m","messages":[{"role":"user","content":"hello"}]}'


class Cost:
    """CPU time from here on, and what it was spent for."""

    def __init__(self) -> None:
        self._began_s = time.process_time()
        self._began_at = time.monotonic()
        self.done = 0
        self.errors = 0
        self.last_error = ""

    def failed(self, error: ConnectorException) -> None:
        self.errors += 1
        self.last_error = str(error)

    def values(self, expected: int) -> Values:
        """One of ``done`` cost so much; what is missing of ``expected`` without an error is lost."""
        cpu_s, took_s = time.process_time() - self._began_s, time.monotonic() - self._began_at
        values: Values = {
            "requests": self.done,
            "errors": self.errors,
            "lost_events": 0 if self.errors else expected - self.done,
            "took_s": took_s,
            "per_s": self.done / took_s,
            "sdk_cpu_us": 1e6 * cpu_s / max(1, self.done),
        }
        return values | ({"last_error": self.last_error} if self.last_error else {})


def blocking_requests(config: RuntimeConfig, request: HTTPRequest, count: int) -> Values:
    with RuntimeClient(config) as client:
        cost = Cost()
        for number in range(WARM_UP + count):
            if number == WARM_UP:
                cost = Cost()
            try:
                client.execute_http(request)
                cost.done += 1
            except ConnectorException as error:
                cost.failed(error)
        return cost.values(count)


def blocking_chunks(config: RuntimeConfig, request: HTTPRequest, count: int) -> Values:
    cost = Cost()
    with RuntimeClient(config) as client:
        try:
            with client.stream_http(request) as response:
                cost = Cost()
                for piece in response.iter_bytes():
                    cost.done += piece.count(EVENT)
        except ConnectorException as error:
            cost.failed(error)
        return cost.values(count)


async def async_requests(config: RuntimeConfig, request: HTTPRequest, count: int) -> Values:
    async with AsyncRuntimeClient(config) as client:
        cost = Cost()
        for number in range(WARM_UP + count):
            if number == WARM_UP:
                cost = Cost()
            try:
                await client.execute_http(request)
                cost.done += 1
            except ConnectorException as error:
                cost.failed(error)
        return cost.values(count)


async def async_chunks(config: RuntimeConfig, request: HTTPRequest, count: int) -> Values:
    cost = Cost()
    async with AsyncRuntimeClient(config) as client:
        try:
            async with client.stream_http(request) as response:
                cost = Cost()
                async for piece in response.aiter_bytes():
                    cost.done += piece.count(EVENT)
        except ConnectorException as error:
            cost.failed(error)
        return cost.values(count)


def main(client: str, unit: str, socket_path: str, url: str, count: str) -> Values:
    request = POST(url).with_header("Content-Type", "application/json").with_body(BODY)
    config = RuntimeConfig(socket_path=socket_path)
    if client == "blocking":
        return (blocking_requests if unit == "request" else blocking_chunks)(config, request, int(count))
    return asyncio.run((async_requests if unit == "request" else async_chunks)(config, request, int(count)))


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
