"""Makes an application fail on demand: with the header X-Simulate one request, with ``--fault`` all.

Pure ASGI. The middleware of Starlette puts a stream of its own between the application and the server, through which no
reset reaches the client at a given event.
"""

from collections.abc import Awaitable, Callable

import trio
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import faults
from .api_error import ApiError
from .connection import Connection, connection_of
from .envelope import error_response
from .fault_answers import GARBAGE, status_answer
from .fault_body import Cut, Slow, Truncated
from .fault_occurrence import Occurrence
from .faults import Fault, FaultError
from .upload import Upload

HEADER = "x-simulate"

# Where the text of a fault that happens to a request is put.
STATE_KEY = "fault"

# ``--fault`` leaves it alone, so that one can see that the simulator is up; a header of its own does not.
HEALTH = "/health"


class FaultInjection:
    """The middleware."""

    def __init__(self, app: ASGIApp, fault: Fault | None, seed: int | None) -> None:
        """The middleware of one simulator.

        Args:
            fault: what happens to requests without the header; None: nothing.
            seed: of ``rate``; None: another one in each run.
        """
        self._app = app
        self._for_all = fault
        self._occurrence = Occurrence(seed)

    def forget(self) -> None:
        """Let ``first`` count from the start again."""
        self._occurrence.forget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            fault = self._asked(scope)
        except FaultError as error:
            await Upload(receive).read_to_end()
            refusal = ApiError(400, f"Invalid header X-Simulate: {error}", param="X-Simulate", code="invalid_fault")
            await error_response(HTTPConnection(scope), refusal)(scope, receive, send)
            return
        if fault is None:
            await self._app(scope, receive, send)
            return
        watch = trio.CancelScope()

        async def send_unwatched(message: Message) -> None:
            # Who has all of the answer may leave while Hypercorn is still about to note that it was the end.
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                watch.cancel()
            await send(message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_close_when_left, connection_of(scope), watch)
            await self._apply(fault, scope, Upload(receive), send_unwatched)
            nursery.cancel_scope.cancel()

    def _asked(self, scope: Scope) -> Fault | None:
        """What the request asks for, or ``--fault`` for it.

        Raises:
            FaultError: its header is no fault.
        """
        said = HTTPConnection(scope).headers.getlist(HEADER)
        if said:
            return faults.parse(";".join(said))
        return None if scope["path"] == HEALTH else self._for_all

    async def _apply(self, fault: Fault, scope: Scope, upload: Upload, send: Send) -> None:
        # A client that is still sending when it is answered often sees a reset instead.
        await upload.read()
        target = scope["raw_path"] + b"?" + scope["query_string"]
        if not self._occurrence.happens(fault, scope["method"], target, upload.data):
            await self._app(scope, upload, send)
            return
        scope["state"][STATE_KEY] = fault.text
        connection = connection_of(scope)
        if fault.hang:
            await upload.trickle()
            await trio.sleep_forever()
        await trio.sleep(fault.latency_s)
        if fault.garbage:
            await upload.read_to_end()
            await connection.send_garbage(GARBAGE)
        elif fault.status is not None:
            await upload.read_to_end()
            answer = status_answer(HTTPConnection(scope), fault, fault.status)
            await _spoiled(fault, connection, send, lambda send: answer(scope, upload, send))
        else:
            await _spoiled(fault, connection, send, lambda send: self._app(scope, upload, send))


async def _close_when_left(connection: Connection, watch: trio.CancelScope) -> None:
    """Leaves all that is done for a client, in whatever pause it is, when that has left."""
    with watch:
        await connection.left()
        connection.close()


async def _spoiled(fault: Fault, connection: Connection, send: Send, answer: Callable[[Send], Awaitable[None]]) -> None:
    """Answers, slowly or not to the end."""
    with trio.CancelScope() as rest:

        async def end() -> None:
            rest.cancel()
            await trio.lowlevel.checkpoint()

        async def reset() -> None:
            await connection.reset()
            await end()

        if fault.bytes_per_s is not None:
            send = Slow(send, fault.bytes_per_s)
        if fault.cut_after is not None:
            send = Cut(send, fault.cut_after, reset)
        elif fault.truncate_event is not None:
            send = Truncated(send, fault.truncate_event, end)
        await answer(send)
