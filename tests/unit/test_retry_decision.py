"""Whether a failed attempt is made again, and after how long."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import RetryPolicy
from vastar_runtime.errors import Failure, UpstreamError
from vastar_runtime.policies.retry import Answer, retry_delay_s

# 2026-06-15 12:00:00 UTC
NOW_S = 1_781_524_800.0
POLICY = RetryPolicy()
NOON = b"Mon, 15 Jun 2026 12:00:"


def failed(failure: Failure, error_class: ErrorClass = ErrorClass.TRANSIENT) -> UpstreamError:
    return UpstreamError("it did not work", error_class, failure=failure)


def delay_s(
    outcome: UpstreamError | Answer,
    policy: RetryPolicy = POLICY,
    *,
    retries_done: int = 0,
    may_repeat: bool = True,
    remaining_s: float = math.inf,
    share: float = 0.5,
) -> float | None:
    return retry_delay_s(
        policy,
        retries_done=retries_done,
        outcome=outcome,
        may_repeat=may_repeat,
        remaining_s=remaining_s,
        random=lambda: share,
        unix_now_s=NOW_S,
    )


UNAVAILABLE = Answer(503, None)


# What came; whether it is tried again when that does no harm, and when it might.
TABLE: list[tuple[UpstreamError | Answer, bool, bool]] = [
    (failed(Failure.UNSENT), True, True),
    (failed(Failure.UNSENT, ErrorClass.TIMEOUT), True, True),  # connect_timeout_ms passed
    (failed(Failure.UNSENT, ErrorClass.PERMANENT), False, False),  # a rejected certificate
    (failed(Failure.LOST), True, False),
    (failed(Failure.NO_HEAD_IN_TIME, ErrorClass.TIMEOUT), True, False),
    (failed(Failure.OTHER), False, False),
    (failed(Failure.OTHER, ErrorClass.PERMANENT), False, False),
    *((Answer(code, None), True, False) for code in (429, 502, 503, 504)),
    *((Answer(code, None), False, False) for code in (100, 200, 204, 301, 304, 400, 401, 403, 404, 408, 409)),
    *((Answer(code, None), False, False) for code in (418, 425, 428, 431, 451, 500, 501, 505, 507, 529, 599)),
]


@pytest.mark.parametrize(("outcome", "if_repeatable", "if_not"), TABLE, ids=repr)
def test_what_is_tried_again(outcome: UpstreamError | Answer, if_repeatable: bool, if_not: bool) -> None:
    assert (delay_s(outcome, may_repeat=True) is not None) is if_repeatable
    assert (delay_s(outcome, may_repeat=False) is not None) is if_not


def test_every_kind_of_failure_is_in_the_table_above() -> None:
    assert {outcome.failure for outcome, *_ in TABLE if isinstance(outcome, UpstreamError)} == set(Failure)


def test_there_are_two_retries_and_no_third() -> None:
    assert [delay_s(UNAVAILABLE, retries_done=done) is not None for done in range(4)] == [True, True, False, False]


def test_with_no_retries_allowed_not_even_what_was_never_sent_is_tried_again() -> None:
    assert delay_s(failed(Failure.UNSENT), RetryPolicy(max_retries=0)) is None


def test_the_pause_doubles_from_100_ms_to_10_s_and_stays_there() -> None:
    policy = RetryPolicy(max_retries=10)
    pauses = [delay_s(UNAVAILABLE, policy, retries_done=done, share=1.0) for done in range(10)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_the_pause_is_anywhere_between_nothing_and_the_whole(share: float) -> None:
    assert delay_s(UNAVAILABLE, share=share) == pytest.approx(0.1 * share)
    assert delay_s(UNAVAILABLE, retries_done=1, share=share) == pytest.approx(0.2 * share)


def test_the_millionth_retry_is_not_later_than_the_longest_pause() -> None:
    policy = RetryPolicy(max_retries=10**12, max_backoff_ms=10**12)
    assert delay_s(UNAVAILABLE, policy, retries_done=10**12 - 1, share=1.0) == 10**9


@given(
    st.integers(0, 60),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.one_of(st.none(), st.integers(0, 20)),
)
def test_no_pause_is_longer_than_it_may_be_or_shorter_than_the_upstream_asked_for(
    retries_done: int, share: float, first_ms: int, longest_ms: int, asked_s: int | None
) -> None:
    policy = RetryPolicy(max_retries=61, first_backoff_ms=first_ms, max_backoff_ms=longest_ms)
    answer = Answer(503, None if asked_s is None else str(asked_s).encode())
    pause_s = delay_s(answer, policy, retries_done=retries_done, share=share)
    if asked_s is not None and asked_s > 10:
        assert pause_s is None
        return
    assert pause_s is not None
    asked = asked_s or 0
    backoff_s = min(longest_ms, first_ms * 2**retries_done) / 1000
    assert asked <= pause_s <= max(backoff_s, asked + min(first_ms, longest_ms) / 1000)


# --- deadlines ---


@pytest.mark.parametrize(
    ("remaining_s", "is_retried"),
    [(math.inf, True), (1.0, True), (0.051, True), (0.05, False), (0.049, False), (0.0, False), (-1.0, False)],
)
def test_no_pause_ends_at_the_deadline_or_after_it(remaining_s: float, is_retried: bool) -> None:
    assert (delay_s(UNAVAILABLE, share=0.5, remaining_s=remaining_s) is not None) is is_retried


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    assert delay_s(Answer(503, b"5"), remaining_s=5.0) is None
    assert delay_s(Answer(503, b"5"), remaining_s=5.06) == pytest.approx(5.05)


# --- Retry-After ---


@pytest.mark.parametrize("status_code", [429, 502, 503, 504])
@pytest.mark.parametrize("value", [b"7", NOON + b"07 GMT"])
def test_the_upstreams_word_is_kept_with_some_jitter_on_top(status_code: int, value: bytes) -> None:
    assert delay_s(Answer(status_code, value), share=0.0) == 7.0
    assert delay_s(Answer(status_code, value), share=0.999) == pytest.approx(7.0999)


def test_a_longer_backoff_of_our_own_is_not_shortened_by_it() -> None:
    policy = RetryPolicy(max_retries=10)
    assert delay_s(Answer(503, b"0"), policy, retries_done=5, share=0.5) == pytest.approx(1.6)
    assert delay_s(Answer(503, b"1"), policy, retries_done=5, share=0.5) == pytest.approx(1.6)
    assert delay_s(Answer(503, b"2"), policy, retries_done=5, share=0.5) == pytest.approx(2.05)


@pytest.mark.parametrize(
    "value",
    [b"11", b"1000000000", b"9" * 4096, b"9" * 5000, NOON + b"11 GMT", b"Fri, 31 Dec 9999 23:59:59 GMT"],
    ids=lambda value: repr(value[:30]),
)
def test_one_that_is_longer_than_the_limit_is_left_to_the_client(value: bytes) -> None:
    assert delay_s(Answer(429, value)) is None


def test_one_of_exactly_the_limit_is_waited_for() -> None:
    assert delay_s(Answer(429, b"10"), share=0.0) == 10.0
    assert delay_s(Answer(429, b"1"), RetryPolicy(max_retry_after_ms=999)) is None


@pytest.mark.parametrize("value", [b"-1", b"1e9", b"soon", b"", b"\xff\xfe", b"1, 2"])
def test_one_that_says_nothing_is_as_if_it_were_not_there(value: bytes) -> None:
    assert delay_s(Answer(503, value)) == delay_s(UNAVAILABLE)


def test_a_date_that_has_passed_means_now_and_the_backoff_remains() -> None:
    assert delay_s(Answer(503, b"Thu, 01 Jan 1970 00:00:00 GMT")) == delay_s(UNAVAILABLE)
