"""What is refused because the simulator reads only some of the kinds that an API knows: images, the API's own tools."""

import re
from collections.abc import Iterable

from .api_error import ApiError


def explained(error: ApiError, kinds: Iterable[tuple[str, str]]) -> ApiError:
    """The error, with what would be accepted when it is about a ``type``.

    Args:
        kinds: a pattern of the whole of ``param`` and what is said of it; the first that fits is taken.
    """
    for pattern, words in kinds:
        if error.param is not None and re.fullmatch(pattern, error.param):
            return ApiError(error.status, f"{error.message[:-1]}; {words}.", param=error.param, code=error.code)
    return error


def refuse_unread(param: str, value: object, instead: str = "leave it out") -> None:
    """Refuse a field that would change the answer in a way that the simulator does not know; false or null does not.

    Raises:
        ApiError: status 400.
    """
    if value:
        raise ApiError(400, f"{param!r} is not simulated; {instead}.", param=param, code="unsupported_parameter")
