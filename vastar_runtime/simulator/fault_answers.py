"""What is answered instead of an API's answer."""

from http import HTTPStatus

from starlette.requests import HTTPConnection
from starlette.responses import Response

from .api_error import ApiError
from .envelope import error_response
from .faults import Fault

# No status line, and no text either.
GARBAGE = b"\x00\x01\x02 this is no HTTP \xfe\xff\r\n\r\n"


def status_answer(request: HTTPConnection, fault: Fault, status: int) -> Response:
    """The answer with ``status``: an error in the API's form, or one without a body where it is no error."""
    headers = {} if fault.retry_after_s is None else {"retry-after": str(fault.retry_after_s)}
    if status < 400:
        return Response(status_code=status, headers=headers)
    return error_response(request, _error(fault, status), headers)


def _error(fault: Fault, status: int) -> ApiError:
    words = {known.value: f" {known.phrase}" for known in HTTPStatus}.get(status, "")
    message = f"Simulated status {status}{words}, as {fault.text!r} asks for."
    if status >= 500:
        return ApiError(status, message, type="server_error")
    match status:
        case 401:
            return ApiError(status, message, code="invalid_api_key")
        case 429:
            return ApiError(status, message, type="requests", code="rate_limit_exceeded")
        case _:
            return ApiError(status, message)
