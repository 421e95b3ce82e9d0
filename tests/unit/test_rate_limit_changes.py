"""Token buckets when the setting changes, when the clock jumps, and to the millisecond."""

from typing import TypeVar

import pytest
from clocks import Clock, result_of
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.config.policy import Rate
from vastar_runtime.policies.token_bucket import Bucket, LimitKey, LocalBackend, Refused, Taken

T = TypeVar("T")
KEY = LimitKey("per_tenant", "t", None)
PERIODS = (1, 60, 3600)

rates = st.builds(Rate, st.integers(1, 10**12) | st.integers(1, 100), st.sampled_from(PERIODS))


def take(backend: LocalBackend, rate: Rate, burst: int, key: LimitKey = KEY) -> Taken | Refused:
    return result_of(backend.take([Bucket(key, rate, burst)]))


def take_all(backend: LocalBackend, rate: Rate, burst: int) -> int:
    """Take what is there now; how many tokens that was."""
    for count in range(100_000):
        if isinstance(take(backend, rate, burst), Refused):
            return count
    raise AssertionError("no end")


def wait_ms(backend: LocalBackend, rate: Rate, burst: int) -> int:
    refused = take(backend, rate, burst)
    assert isinstance(refused, Refused)
    return refused.retry_after_ms


@given(
    rate=rates,
    burst=st.integers(1, 50),
    began_ms=st.integers(0, 10**10),
    pauses_ms=st.lists(st.integers(0, 10_000), max_size=20),
)
def test_waiting_for_the_time_given_admits_and_a_millisecond_less_does_not(
    rate: Rate, burst: int, began_ms: int, pauses_ms: list[int]
) -> None:
    clock = Clock()
    backend, at_ms = LocalBackend(clock), began_ms
    clock.now = at_ms / 1000
    for pause_ms in pauses_ms:
        take(backend, rate, burst)
        at_ms += pause_ms
        clock.now = at_ms / 1000
    assert take_all(backend, rate, burst) <= burst
    wait = wait_ms(backend, rate, burst)
    assert wait >= 1
    assert backend.next_in_ms(Bucket(KEY, rate, burst)) == wait
    clock.now = (at_ms + wait - 1) / 1000
    assert isinstance(take(backend, rate, burst), Refused)
    clock.now = (at_ms + wait) / 1000
    assert backend.next_in_ms(Bucket(KEY, rate, burst)) == 0
    assert isinstance(take(backend, rate, burst), Taken)


@given(before=rates, burst_before=st.integers(1, 20), after=rates, burst_after=st.integers(1, 20), data=st.data())
def test_at_a_new_rate_as_many_tokens_are_missing_and_nobody_is_locked_out_for_longer_than_one_takes(
    before: Rate, burst_before: int, after: Rate, burst_after: int, data: st.DataObject
) -> None:
    clock = Clock()
    backend = LocalBackend(clock)
    taken = data.draw(st.integers(1, burst_before))
    for _ in range(taken):
        assert isinstance(take(backend, before, burst_before), Taken)
    assert take_all(backend, after, burst_after) == max(burst_after - taken, 0)
    assert wait_ms(backend, after, burst_after) <= max(1, -(-after.period_s * 1000 // after.count))


def test_a_limit_made_tighter_still_knows_what_was_taken() -> None:
    clock = Clock()
    backend = LocalBackend(clock)
    assert take_all(backend, Rate(60, 60), 60) == 60
    assert wait_ms(backend, Rate(6, 60), 6) == 10_000
    clock.now += 10
    assert take_all(backend, Rate(6, 60), 6) == 1


def test_a_limit_made_wider_lets_in_at_once_who_owed_an_hour() -> None:
    clock = Clock()
    backend = LocalBackend(clock)
    assert take_all(backend, Rate(1, 3600), 1) == 1
    assert take_all(backend, Rate(60, 60), 60) == 59
    clock.now += 60
    assert take_all(backend, Rate(60, 60), 60) == 60


def test_part_of_a_token_stays_that_part_at_another_rate() -> None:
    clock = Clock()
    backend = LocalBackend(clock)
    assert take_all(backend, Rate(1, 60), 1) == 1
    clock.now += 45
    assert wait_ms(backend, Rate(1, 3600), 1) == 900_000  # a quarter of a token is missing


def test_a_token_taken_before_a_reload_goes_back_and_the_rest_of_the_debt_stays() -> None:
    backend = LocalBackend(Clock())
    before = take(backend, Rate(60, 60), 60)
    assert isinstance(before, Taken)
    assert take_all(backend, Rate(6, 60), 6) == 5
    result_of(backend.give_back(before.buckets))
    assert take_all(backend, Rate(6, 60), 6) == 1, "the five are still missing"


def test_a_token_given_back_after_a_reload_does_not_forgive_what_the_new_rate_has_taken() -> None:
    clock = Clock()
    backend = LocalBackend(clock)
    before = take(backend, Rate(60, 60), 60)
    assert isinstance(before, Taken)
    assert take_all(backend, Rate(1, 3600), 2) == 1
    result_of(backend.give_back(before.buckets))
    assert take_all(backend, Rate(1, 3600), 2) == 1


@pytest.mark.parametrize("back_s", [0.5, 4_000.0, 5_000.0, 1e9])
def test_a_clock_that_goes_back_neither_forgives_nor_locks_out(back_s: float) -> None:
    clock = Clock()
    backend = LocalBackend(clock)
    assert take_all(backend, Rate(60, 60), 10) == 10
    clock.now -= back_s
    assert take_all(backend, Rate(60, 60), 10) == 0
    assert wait_ms(backend, Rate(60, 60), 10) == 1000
    clock.now += 1
    assert take_all(backend, Rate(60, 60), 10) == 1
    clock.now += 10
    assert take_all(backend, Rate(60, 60), 10) == 10


def test_a_clock_that_goes_back_and_forth_admits_no_more_than_a_burst_for_the_way_forth() -> None:
    clock = Clock()
    backend = LocalBackend(clock)
    count = 0
    for _ in range(1000):
        clock.now += 100
        count += take_all(backend, Rate(60, 60), 10)
        clock.now -= 100
        count += take_all(backend, Rate(60, 60), 10)
    assert count <= 1000 * 10
    clock.now += 10
    assert take_all(backend, Rate(60, 60), 10) == 10


def test_a_clock_that_jumps_ahead_fills_the_bucket_and_no_more() -> None:
    clock = Clock()
    backend = LocalBackend(clock)
    assert take_all(backend, Rate(60, 60), 10) == 10
    clock.now += 1e12
    assert take_all(backend, Rate(60, 60), 10) == 10
