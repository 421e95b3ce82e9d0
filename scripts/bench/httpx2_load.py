"""What a user would pick instead of the daemon: httpx2's async client on asyncio, in one process.

Takes a Load as JSON (argument 1), the URL (2) and the file of a certificate authority (3, may be empty). Prints one
line of JSON like wireload's, with ``cpu_s``: the CPU time of this process from the first request to the last answer.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time

import httpx2
import msgspec

from bench.load import Load

EVENT = re.compile(rb'"t":(\d+)')
SMALL_BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'


class Counts:
    """What has been answered so far; durations in nanoseconds."""

    def __init__(self) -> None:
        self.latency: list[int] = []
        self.first: list[int] = []
        self.delay: list[int] = []
        self.begun = self.errors = self.lost_events = self.body_bytes = 0
        self.last_error = ""


async def one(client: httpx2.AsyncClient, load: Load, url: str, body: bytes, counts: Counts) -> None:
    """One exchange, counted when it has ended well."""
    began = time.monotonic_ns()
    events = 0
    carry = b""
    async with client.stream("POST", url, content=body, headers={"Content-Type": "application/json"}) as response:
        response.raise_for_status()
        async for piece in response.aiter_raw():
            counts.body_bytes += len(piece)
            if not load.events:
                continue
            now = time.monotonic_ns()
            text = carry + piece
            end = text.rfind(b"\n\n") + 2 if b"\n\n" in text else 0
            carry = text[end:]
            for written in EVENT.findall(text, 0, end):
                counts.delay.append(now - int(written))
                events += 1
                if events == 1:
                    counts.first.append(now - began)
    counts.latency.append(time.monotonic_ns() - began)
    counts.lost_events += max(0, load.events - events)
    counts.body_bytes += load.body_bytes


async def worker(client: httpx2.AsyncClient, load: Load, url: str, body: bytes, counts: Counts) -> None:
    """One request after the other, until the load's time is over."""
    stop_at = time.monotonic() + load.duration_s
    while time.monotonic() < stop_at and (load.max_requests is None or counts.begun < load.max_requests):
        counts.begun += 1
        try:
            await one(client, load, url, body, counts)
        except (httpx2.HTTPError, OSError) as error:
            counts.errors += 1
            counts.last_error = f"{type(error).__name__}: {error}"


async def run(load: Load, url: str, trusted: str) -> dict[str, float | str]:
    counts = Counts()
    body = b"x" * load.body_bytes or SMALL_BODY
    verify = ssl.create_default_context(cafile=trusted) if trusted else False
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(verify=verify, limits=limits, timeout=load.patience_s) as client:
        workers = [
            asyncio.create_task(worker(client, load, url, body, counts))
            for _ in range(load.connections * load.in_flight)
        ]
        began, cpu_began = time.monotonic(), time.process_time()
        _, late = await asyncio.wait(workers, timeout=load.duration_s + load.patience_s)
        took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_began
        for each in late:
            each.cancel()
    values: dict[str, float | str] = {
        "requests": len(counts.latency),
        "errors": counts.errors,
        "lost_connections": 0,
        "unanswered": len(late),
        "lost_events": counts.lost_events,
        "took_s": took_s,
        "cpu_s": cpu_s,
        "per_s": len(counts.latency) / took_s,
        "mb_per_s": counts.body_bytes / 1e6 / took_s,
        **percentiles("", counts.latency),
    }
    if load.events:
        values |= {"events": len(counts.delay), "events_per_s": len(counts.delay) / took_s}
        values |= percentiles("first_", counts.first) | percentiles("delay_", counts.delay)
    return values | ({"last_error": counts.last_error} if counts.last_error else {})


def percentiles(name: str, samples_ns: list[int]) -> dict[str, float | str]:
    """As wireload's."""
    samples_ns.sort()
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        f"{name}{key}_us": samples_ns[int(share * (len(samples_ns) - 1))] / 1e3 if samples_ns else 0.0
        for key, share in shares.items()
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(msgspec.json.decode(sys.argv[1], type=Load), sys.argv[2], sys.argv[3]))))
