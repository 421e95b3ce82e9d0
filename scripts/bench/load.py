"""One load: what is asked of a target, and how its generator is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# The daemon takes no longer frame, and a buffered request is one frame (protocol.md part 1).
MAX_WIRE_BODY_BYTES = 10 * 1024 * 1024 - 64 * 1024

Values = dict[str, float]
Upstream = Literal["plain", "tls_kept", "tls_new"]


@dataclass(frozen=True)
class Load:
    """See wireload.c, whose options these are.

    Attributes:
        path: path and query of the upstream, which choose its answer.
        streams: the answer is read while it comes.
        events: how many each stream has; 0: it is bytes.
        body_bytes: of each request; 0: a small JSON object.
        duration_s: requests are begun for so long, ...
        max_requests: ... and at most so many; None: any number.
        patience_s: how long those that were begun may take after that.
        tenants: over how many the connections are spread: the daemon has 256 connections for each to one origin.
    """

    path: str
    connections: int = 1
    in_flight: int = 1
    streams: bool = False
    events: int = 0
    body_bytes: int = 0
    duration_s: float = 1.0
    max_requests: int | None = None
    patience_s: float = 60.0
    tenants: int = 1
    upstream: Upstream = "plain"

    @property
    def timeout_s(self) -> float:
        """When its generator must have ended."""
        return self.duration_s + self.patience_s + 30

    def wireload(self, url: str, *, is_http: bool) -> list[str]:
        """Arguments of wireload; over HTTP each request in flight has a connection of its own."""
        arguments = {
            "-u": url,
            "-m": "stream" if self.streams else "buffered",
            "-c": self.connections * (self.in_flight if is_http else 1),
            "-p": 1 if is_http else self.in_flight,
            "-d": self.duration_s,
            "-x": self.patience_s,
            "-e": self.events,
            "-b": self.body_bytes,
            "-t": self.tenants,
        }
        if self.max_requests is not None:
            arguments["-n"] = self.max_requests
        return [str(each) for pair in arguments.items() for each in pair]


def failures(values: Values) -> list[str]:
    """What went wrong in a load, in words; empty when every request and every event was answered."""
    counts = {
        "errors": "errors",
        "lost_connections": "connections lost",
        "unanswered": "requests unanswered",
        "lost_events": "events lost",
    }
    found = [f"{values[name]:.0f} {words}" for name, words in counts.items() if values.get(name)]
    return found if found or values.get("requests", 1) else ["nothing was answered"]
