"""The runtime connector: the daemon tells about itself, and reloads its configuration, for its own user only.

Its requests pass through no limit: an operator must reach a daemon that refuses everybody else.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from connector_sdk.wire import ErrorClass, ExecuteRequest
from vastar_runtime import exact_json
from vastar_runtime.errors import InvalidRequest, RequestError
from vastar_runtime.policies.passage import Passage
from vastar_runtime.policies.peer import Peer

from .base import Outcome, Services, Sink

OPERATIONS = ("reload", "statistics")


class RuntimeConnector:
    """connector_name "runtime"; the operation is one of OPERATIONS, the answer JSON; the payload is not looked at."""

    name = "runtime"

    def prepare(self, request: ExecuteRequest, outcome: Outcome) -> RuntimeCall:
        """Check the operation.

        Raises:
            InvalidRequest: there is no such operation.
        """
        if request.operation not in OPERATIONS:
            raise InvalidRequest(f"Unknown operation: {request.operation[:64]!r} (known: {', '.join(OPERATIONS)})")
        outcome.method = request.operation
        return RuntimeCall(request.operation)


class RuntimeCall:
    """One question to the daemon."""

    origin = ""
    timeout_ms = None

    def __init__(self, operation: str) -> None:
        self._operation = operation

    def try_begin(self, services: Services, passage: Passage, on_answer: Callable[[], None]) -> None:
        """Nothing is sent."""

    async def execute(self, services: Services, passage: Passage, hold: Callable[[int], None]) -> bytes:
        """The answer, as JSON.

        Raises:
            RequestError: Permanent, for whoever is neither the daemon's own user nor root.
        """
        _check_owner(passage.peer)
        assert services.control is not None
        if self._operation == "reload":
            return exact_json.encode(await services.control.reload())
        return exact_json.encode(await services.control.statistics())

    async def stream(self, services: Services, passage: Passage, sink: Sink) -> None:
        """Not for streams.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest(f"runtime {self._operation} is no stream; ask with response_mode Buffered")


def _check_owner(peer: Peer | None) -> None:
    if peer is None:
        raise RequestError(ErrorClass.PERMANENT, "the runtime tells about itself on its Unix socket only")
    if peer.uid not in (os.geteuid(), 0):
        raise RequestError(
            ErrorClass.PERMANENT,
            f"uid {peer.uid} may not ask the runtime about itself: that is for its own user (uid {os.geteuid()}) "
            "and for root",
        )
