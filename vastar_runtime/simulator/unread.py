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
            return ApiError(error.status, f"{error.message[:-1]}; {words}.", param=error.param)
    return error
