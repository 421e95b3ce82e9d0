"""The scenarios: which points a run measures, and how long each takes.

a: buffered, over connections. b: buffered, over requests in flight on one connection. c: streams with a pause between
events. d: streams as fast as they go. e: large bodies. f: memory. g: start. h: TLS upstreams. i: the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.load import Load, Upstream
from bench.points import IdlePoint, LoadPoint, Point, SdkPoint, StartPoint, StreamMemoryPoint
from bench.stage import TargetName

ALL: tuple[TargetName, ...] = ("direct", "nginx", "httpx2", "daemon", "daemon-2")
NATIVE: tuple[TargetName, ...] = ("direct", "nginx", "daemon", "daemon-2")
MIB = 1 << 20
EVENTS = 50
# One tenant has at most 256 connections to one origin.
STREAMS_PER_TENANT = 200


@dataclass(frozen=True)
class Scale:
    """How much a run measures.

    Attributes:
        duration_s: of one load, where its length is free.
        max_rounds: rounds at most.
        memory_rounds: how many of them take the points of scenario f, which are slow and differ little.
        budget_s: no round is begun that would probably end later than this; None: all rounds, however long.
        concurrency: of scenario a: connections.
        in_flight: of scenario b.
        streams: of scenario c: how many, and the gap in ms; and of which targets.
        events: of each stream.
        body_mib, body_bytes_in_all: of scenario e: their sizes, and how much is sent of each.
        idle_connections, memory_streams: of scenario f.
        sdk_count: of scenario i: requests, and events.
    """

    name: str
    duration_s: float
    max_rounds: int
    memory_rounds: int
    budget_s: float | None
    concurrency: tuple[int, ...]
    in_flight: tuple[int, ...]
    streams: Mapping[tuple[int, int], tuple[TargetName, ...]]
    events: int
    body_mib: tuple[int, ...]
    body_bytes_in_all: int
    idle_connections: int
    memory_streams: int
    sdk_count: int


FULL = Scale(
    name="full",
    duration_s=2.0,
    max_rounds=5,
    memory_rounds=5,
    budget_s=None,
    concurrency=(1, 8, 32, 128),
    in_flight=(1, 8, 32, 128, 256),
    streams={(count, gap_ms): ALL for gap_ms in (5, 50) for count in (1, 50, 200, 1000)},
    events=EVENTS,
    body_mib=(1, 8, 64),
    body_bytes_in_all=256 * MIB,
    idle_connections=5000,
    memory_streams=200,
    sdk_count=2000,
)
QUICK = Scale(
    name="quick",
    duration_s=0.4,
    max_rounds=3,
    memory_rounds=1,
    budget_s=168.0,
    concurrency=(1, 8, 32, 128),
    in_flight=(32,),
    streams={
        (50, 5): ALL,
        (200, 5): NATIVE,
        (200, 50): ("direct", "daemon", "daemon-2"),
        (1000, 50): ("direct", "daemon-2"),
    },
    events=EVENTS,
    body_mib=(1, 64),
    body_bytes_in_all=64 * MIB,
    idle_connections=5000,
    memory_streams=200,
    sdk_count=2000,
)
SMOKE = Scale(
    name="smoke",
    duration_s=0.05,
    max_rounds=1,
    memory_rounds=1,
    budget_s=None,
    concurrency=(2,),
    in_flight=(4,),
    streams={(4, 5): ALL},
    events=5,
    body_mib=(1,),
    body_bytes_in_all=2 * MIB,
    idle_connections=50,
    memory_streams=5,
    sdk_count=10,
)


def points(scale: Scale) -> list[Point]:
    """All points of a run, in the order in which a round takes them."""
    memory_events = 2 * scale.events // 5  # a second of streams in all but the smallest runs
    return [
        *_buffered(scale),
        *_in_flight(scale),
        *_streams(scale),
        *_bodies(scale),
        IdlePoint(scale.idle_connections),
        StreamMemoryPoint(
            Load(
                f"/sse?n={memory_events}&gap=50000",
                connections=scale.memory_streams,
                streams=True,
                events=memory_events,
                max_requests=scale.memory_streams,
            )
        ),
        StartPoint(),
        *_tls(scale),
        *_sdk(scale),
    ]


def _buffered(scale: Scale) -> list[Point]:
    return [
        LoadPoint(
            f"a/{count}",
            f"buffered 400 B, {count} connection{'s' if count > 1 else ''}",
            Load("/json?bytes=400", connections=count, duration_s=scale.duration_s),
            ALL,
        )
        for count in scale.concurrency
    ]


def _in_flight(scale: Scale) -> list[Point]:
    return [
        LoadPoint(
            f"b/{count}",
            f"one connection, {count} in flight, upstream 20 ms",
            Load("/delay?ms=20&bytes=400", in_flight=count, duration_s=scale.duration_s),
            NATIVE,  # those without the wire: so many connections
        )
        for count in scale.in_flight
    ]


def _streams(scale: Scale) -> list[Point]:
    found: list[Point] = [
        LoadPoint(
            "c/first",
            "first chunk, one stream after the other",
            Load("/sse?n=2&gap=1000&first=1000", streams=True, events=2, duration_s=scale.duration_s),
            ALL,
        )
    ]
    found += [
        LoadPoint(
            f"c/{count}x{gap_ms}ms",
            f"{count:,} stream{'s' if count > 1 else ''} of {scale.events} chunks, {gap_ms} ms gap",
            Load(
                f"/sse?n={scale.events}&gap={1000 * gap_ms}",
                connections=count,
                streams=True,
                events=scale.events,
                # Once is enough where it takes longer than a load usually does.
                max_requests=count if scale.events * gap_ms > 500 * scale.duration_s else None,
                duration_s=scale.duration_s,
                tenants=-(-count // STREAMS_PER_TENANT),
            ),
            targets,
        )
        for (count, gap_ms), targets in scale.streams.items()
    ]
    events = 100 * scale.events
    found.append(
        LoadPoint(
            "d/16",
            "16 streams as fast as they go",
            Load(
                f"/sse?n={events}&gap=0",
                connections=16,
                streams=True,
                events=events,
                duration_s=scale.duration_s,
            ),
            ALL,
        )
    )
    return found


def _bodies(scale: Scale) -> list[Point]:
    found: list[Point] = []
    for mib in scale.body_mib:
        count = max(1, scale.body_bytes_in_all // (mib * MIB))
        down = Load(f"/bytes?n={mib * MIB}", streams=True, max_requests=count, duration_s=60)
        up = Load("/json?bytes=400", body_bytes=mib * MIB, max_requests=count, duration_s=60)
        found.append(LoadPoint(f"e/down-{mib}", f"{mib} MiB down", down, ALL))
        found.append(LoadPoint(f"e/up-{mib}", f"{mib} MiB up", up, ALL))
    return found


def _tls(scale: Scale) -> list[Point]:
    kinds: tuple[tuple[Upstream, str, str], ...] = (
        ("tls_kept", "h/kept", "TLS upstream, connections kept, 8 connections"),
        ("tls_new", "h/new", "TLS upstream, a new connection for each request, 8 connections"),
    )
    return [
        LoadPoint(
            name,
            title,
            Load("/", connections=8, duration_s=scale.duration_s, upstream=upstream),
            ("nginx", "httpx2", "daemon", "daemon-2"),
        )
        for upstream, name, title in kinds
    ]


def _sdk(scale: Scale) -> list[Point]:
    found: list[Point] = []
    for client in ("blocking", "async"):
        found.append(SdkPoint(client, "request", "/json?bytes=400", scale.sdk_count))
        # Apart from each other, so that each chunk is read by itself.
        found.append(SdkPoint(client, "chunk", f"/sse?n={scale.sdk_count}&gap=500", scale.sdk_count))
    return found
