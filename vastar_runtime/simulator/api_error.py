"""The errors of the OpenAI API: a status and the envelope ``{"error": {"message", "type", "param", "code"}}``."""

import uuid
from collections.abc import Mapping

from starlette.responses import JSONResponse

# A message may quote what the client sent; one line of it is enough.
MAX_MESSAGE_CHARS = 300


class ApiError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: the HTTP status.
        message: for a person; cut after MAX_MESSAGE_CHARS.
        type: the API's class of error, such as "invalid_request_error".
        param: the field that is wrong, as in "messages[0].role".
        code: the API's name for this error, such as "model_not_found".
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 1] + "…"
        self.type = type
        self.param = param
        self.code = code

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The error in OpenAI's envelope, with an x-request-id."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return JSONResponse({"error": error}, self.status, {"x-request-id": new_request_id()} | dict(headers or {}))


def new_request_id() -> str:
    """Of the header x-request-id: "req_" and 32 hexadecimal digits."""
    return f"req_{uuid.uuid4().hex}"


def simulated_error(model: str) -> ApiError | None:
    """The error that a request with this model name asks for; None for every other name."""
    match model:
        case "simulate-quota":
            return ApiError(
                429,
                "This is the error for an account without credit; it goes away with another model name.",
                type="insufficient_quota",
                code="insufficient_quota",
            )
        case "simulate-unknown":
            return ApiError(404, f"The model {model!r} does not exist.", param="model", code="model_not_found")
        case _:
            return None
