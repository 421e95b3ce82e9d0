"""Whether an attempt that failed is made again, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import RetryPolicy
from vastar_runtime.errors import Failure, UpstreamError

from .retry_after import parse_retry_after

RETRIED_STATUS_CODES = frozenset({429, 502, 503, 504})

# Doubling ends here in any case: by then a backoff of a millisecond has grown to longer than anyone waits.
_MAX_DOUBLINGS = 64


class Answer(NamedTuple):
    """The response head of an attempt.

    Attributes:
        retry_after: the value of its Retry-After header; None when it has none.
    """

    status_code: int
    retry_after: bytes | None


def retry_delay_s(
    policy: RetryPolicy,
    *,
    retries_done: int,
    outcome: UpstreamError | Answer,
    may_repeat: bool,
    remaining_s: float,
    random: Callable[[], float],
    unix_now_s: float,
) -> float | None:
    """How long to wait before the next attempt, in seconds; None: deliver this outcome.

    Args:
        retries_done: attempts so far, without the first one.
        may_repeat: sending the request twice does no more than sending it once: its method is idempotent, or it has
            an Idempotency-Key. Without it only what was not sent at all is sent again.
        remaining_s: until the request's deadline; may be infinite.
        random: from 0 up to 1.
        unix_now_s: the wall clock, for a Retry-After that is a date.
    """
    if retries_done >= policy.max_retries or not _is_retried(outcome, may_repeat):
        return None
    asked_s = 0.0
    if isinstance(outcome, Answer) and outcome.retry_after is not None:
        asked_s = parse_retry_after(outcome.retry_after, unix_now_s) or 0.0
        if asked_s > policy.max_retry_after_ms / 1000:
            return None
    longest_ms = min(policy.max_backoff_ms, policy.first_backoff_ms << min(retries_done, _MAX_DOUBLINGS))
    shortest_ms = min(policy.max_backoff_ms, policy.first_backoff_ms)
    share = random()
    # All who were told the same Retry-After would come back in the same moment; and one of 0 seconds is no reason to
    # give up doubling.
    delay_s = max(share * longest_ms / 1000, asked_s + share * shortest_ms / 1000)
    return delay_s if delay_s < remaining_s else None


def _is_retried(outcome: UpstreamError | Answer, may_repeat: bool) -> bool:
    if isinstance(outcome, Answer):
        return may_repeat and outcome.status_code in RETRIED_STATUS_CODES
    if outcome.error_class is ErrorClass.PERMANENT:
        return False
    if outcome.failure is Failure.UNSENT:
        return True
    return may_repeat and outcome.failure in (Failure.LOST, Failure.NO_HEAD_IN_TIME)
