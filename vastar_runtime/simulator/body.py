"""The body of a request."""

from starlette.requests import Request

from .api_error import ApiError

# A conversation of a million tokens of English has about this size.
MAX_BODY_BYTES = 4 * 1024 * 1024


async def read_body(request: Request) -> bytes:
    """The whole body; one over the limit is read on to its end and dropped.

    An answer before the end of the body would close the connection under a client that is still sending, and such a
    client often sees the reset and not the answer.

    Raises:
        ApiError: status 413.
        starlette.requests.ClientDisconnect: the client left before its end.
    """
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            body += chunk
    if size > MAX_BODY_BYTES:
        raise ApiError(413, f"The body has {size} bytes; the simulator takes {MAX_BODY_BYTES} at most.")
    return bytes(body)
