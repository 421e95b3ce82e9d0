"""The body of a request."""

import anyio
from starlette.requests import Request

from .api_error import ApiError

# A conversation of a million tokens of English has about this size.
MAX_BODY_BYTES = 4 * 1024 * 1024

# A client that says nothing for so long in the middle of one holds a connection for nothing.
MAX_SILENCE_S = 60


async def read_body(request: Request) -> bytes:
    """The whole body; one over the limit is read on to its end and dropped.

    An answer before the end of the body would close the connection under a client that is still sending, and such a
    client often sees the reset and not the answer.

    Raises:
        ApiError: status 413, or 408: nothing came for MAX_SILENCE_S.
        starlette.requests.ClientDisconnect: the client left before its end.
    """
    body = bytearray()
    size = 0
    with anyio.move_on_after(MAX_SILENCE_S) as silence:
        async for chunk in request.stream():
            silence.deadline = anyio.current_time() + MAX_SILENCE_S
            size += len(chunk)
            if size <= MAX_BODY_BYTES:
                body += chunk
    if silence.cancelled_caught:
        raise ApiError(408, f"The rest of the body did not come within {MAX_SILENCE_S} seconds.")
    if size > MAX_BODY_BYTES:
        raise ApiError(413, f"The body has {size} bytes; the simulator takes {MAX_BODY_BYTES} at most.")
    return bytes(body)
