"""What a channel carries, and how an error gets to the other end."""

from __future__ import annotations

import structlog

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import InvalidRequest, RateLimited, RequestError

from .messages import Answer, Message, News, Question

log = structlog.get_logger()


class Asked(Message, frozen=True):
    number: int
    question: Question


class Answered(Message, frozen=True):
    number: int
    answer: Answer


class Refused(Message, frozen=True):
    number: int
    error_class: ErrorClass
    message: str
    retry_after_ms: int


class Cancel(Message, frozen=True):
    """Whoever asked has gone. Answered like any other question, or with Cancelled."""

    number: int


class Cancelled(Message, frozen=True):
    number: int


class Told(Message, frozen=True):
    news: News


Frame = Asked | Answered | Refused | Cancel | Cancelled | Told


def refusal(number: int, error: Exception) -> Refused:
    """The answer to a question that raised this."""
    if isinstance(error, RequestError):
        return Refused(number, error.error_class, error.message, error.retry_after_ms)
    log.error("internal error; a question of another process is refused", exc_info=error)
    message = "internal error of the runtime; its log has the details"
    return Refused(number, ErrorClass.PERMANENT, message, 0)


def error_of(refused: Refused) -> RequestError:
    """What is raised for it where it was asked."""
    if refused.error_class is ErrorClass.RATE_LIMITED:
        return RateLimited(refused.message, retry_after_ms=refused.retry_after_ms)
    if refused.error_class is ErrorClass.INVALID_REQUEST:
        return InvalidRequest(refused.message)
    return RequestError(refused.error_class, refused.message, retry_after_ms=refused.retry_after_ms)
