"""What one measurement is: a point of a scenario, taken of one target after the other."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from bench.daemon import Daemon, check_health, connect
from bench.load import Load, Values, failures
from bench.stage import Skipped, Stage, TargetName, python
from bench.usage import pss_bytes, rss_bytes

SAMPLE_INTERVAL_S = 0.05
SDK_PATIENCE_S = 120.0
SPARE_DESCRIPTORS = 200


class Point(Protocol):
    """One row of raw figures.

    Attributes:
        name: begins with the scenario's letter.
        targets: those that it is taken of, in this order, in each round.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def targets(self) -> tuple[TargetName, ...]: ...

    def measure(self, stage: Stage, target: TargetName) -> Values:
        """One measurement.

        Raises:
            Skipped: the target cannot do this.
            BenchError: the run cannot go on.
        """


@dataclass(frozen=True)
class LoadPoint:
    """A load on the targets that run all the time."""

    name: str
    title: str
    load: Load
    targets: tuple[TargetName, ...]

    def measure(self, stage: Stage, target: TargetName) -> Values:
        """See Point."""
        return stage.load(target, self.load)


@dataclass(frozen=True)
class StartPoint:
    """From the start of the daemon's process to the answer to its first HealthCheck; and what it holds then."""

    name: str = "g/start"
    title: str = "start to first answer"
    targets: tuple[TargetName, ...] = ("daemon", "daemon-2")

    def measure(self, stage: Stage, target: TargetName) -> Values:
        """See Point."""
        with _fresh(stage, target) as daemon:
            return {"start_ms": 1000 * daemon.start_s, **_memory(daemon)}


@dataclass(frozen=True)
class IdlePoint:
    """Memory for each connection that has asked for health once and then stays idle."""

    connections: int
    name: str = "f/idle"
    targets: tuple[TargetName, ...] = ("daemon", "daemon-2")

    @property
    def title(self) -> str:
        """See Point."""
        return f"{self.connections:,} idle connections"

    def measure(self, stage: Stage, target: TargetName) -> Values:
        """See Point."""
        _need_descriptors(self.connections + SPARE_DESCRIPTORS)
        with _fresh(stage, target) as daemon, contextlib.ExitStack() as connections:
            before = _memory(daemon)
            for _ in range(self.connections):
                check_health(connections.enter_context(connect(daemon.socket_path)))
            return {"requests": self.connections, **_growth(before, _memory(daemon), self.connections)}


@dataclass(frozen=True)
class StreamMemoryPoint:
    """Memory for each stream that is under way: the most that was seen while they ran."""

    load: Load
    name: str = "f/streams"
    targets: tuple[TargetName, ...] = ("daemon", "daemon-2")

    @property
    def title(self) -> str:
        """See Point."""
        return f"{self.load.connections} active streams"

    def measure(self, stage: Stage, target: TargetName) -> Values:
        """See Point."""
        with _fresh(stage, target) as daemon:
            # What the first request makes it load belongs to the process, not to a stream.
            first = Load("/sse?n=2&gap=1000&first=1000", streams=True, events=2, max_requests=4)
            stage.processes.run("load-warm-up", stage.wire_command(daemon, first), first.timeout_s)
            before = most = _memory(daemon)
            command = stage.wire_command(daemon, self.load)
            output = stage.processes.directory / "streams.json"
            with open(output, "wb") as stdout:
                load = stage.processes.start("load-streams", command, stdout=stdout)
                give_up_at = time.monotonic() + self.load.timeout_s
                while load.poll() is None and time.monotonic() < give_up_at:
                    now = _memory(daemon)
                    most = {key: max(most[key], now[key]) for key in most}
                    time.sleep(SAMPLE_INTERVAL_S)
                stage.processes.stop(load)
            stage.processes.check()
            values: Values = json.loads(output.read_text())
            return values | _growth(before, most, self.load.connections)


@dataclass(frozen=True)
class SdkPoint:
    """CPU time of an application's process: the SDK's own cost. The target is the daemon that it talks to."""

    client: str
    unit: str
    path: str
    count: int
    targets: tuple[TargetName, ...] = ("daemon",)

    @property
    def name(self) -> str:
        """See Point."""
        return f"i/{self.client}-{self.unit}"

    @property
    def title(self) -> str:
        """See Point."""
        return f"SDK, {self.client}, per {'buffered request' if self.unit == 'request' else 'streamed chunk'}"

    def measure(self, stage: Stage, target: TargetName) -> Values:
        """See Point."""
        daemon = stage.daemons[target]
        url = stage.origins["plain"] + self.path
        command = python("sdk_load", self.client, self.unit, str(daemon.socket_path), url, str(self.count))
        values: Values = json.loads(stage.processes.run("load-sdk", command, SDK_PATIENCE_S))
        return values


def problems(point: Point, target: TargetName, values: Values) -> str | None:
    """What went wrong in a measurement: one line, or None."""
    found = failures(values)
    if not found:
        return None
    why = f" ({values['last_error']})" if "last_error" in values else ""
    return f"{point.name} on {target}: {', '.join(found)}{why}"


@contextlib.contextmanager
def _fresh(stage: Stage, target: TargetName) -> Iterator[Daemon]:
    stage.require(target)
    daemon = stage.fresh_daemon(f"fresh-{target}", workers=2 if target == "daemon-2" else 1)
    try:
        yield daemon
        stage.processes.check()
    finally:
        stage.processes.stop(daemon.process)


def _memory(daemon: Daemon) -> Values:
    """RSS of its first process, which is all there is with one worker; PSS of all of them."""
    return {"rss_bytes": rss_bytes(daemon.process.pid), "pss_bytes": pss_bytes(daemon.process.pid)}


def _growth(before: Values, after: Values, count: int) -> Values:
    return {f"{key}_each": (after[key] - before[key]) / count for key in before} | after


def _need_descriptors(count: int) -> None:
    """See that there are so many.

    Raises:
        Skipped: the hard limit is lower.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise Skipped(f"the limit of open files is {hard}; {count} are needed")
