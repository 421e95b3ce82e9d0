"""retry_with_backoff: what it calls again, how often, and how long it waits in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connector_sdk import ConnectorException, ErrorClass, retry_with_backoff


class Flaky:
    """Fails with these classes in turn, then returns "done"; notes the waits between the calls, in seconds."""

    def __init__(self, *failures: ErrorClass) -> None:
        self.failures = list(failures)
        self.calls = 0
        self.waits: list[float] = []
        self.retry_after_ms = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            error_class = self.failures.pop(0)
            raise ConnectorException(f"failure {self.calls}", error_class, retry_after_ms=self.retry_after_ms)
        return "done"

    def run(self, random: Callable[[], float] = lambda: 1.0, **options: Any) -> str:
        return retry_with_backoff(self, sleep=self.waits.append, random=random, **options)


def test_a_success_is_not_repeated() -> None:
    flaky = Flaky()
    assert (flaky.run(), flaky.calls, flaky.waits) == ("done", 1, [])


def test_waits_double_up_to_the_limit() -> None:
    flaky = Flaky(*[ErrorClass.TRANSIENT] * 7)
    assert flaky.run(max_retries=7) == "done"
    assert flaky.waits == [1, 2, 4, 8, 16, 30, 30]


def test_the_jitter_takes_any_part_of_the_wait() -> None:
    parts = iter([0.0, 0.5, 0.25])
    flaky = Flaky(*[ErrorClass.TIMEOUT] * 3)
    flaky.run(random=lambda: next(parts))
    assert flaky.waits == [0, 1, 1]


def test_the_daemon_knows_better_how_long_to_wait() -> None:
    flaky = Flaky(*[ErrorClass.RATE_LIMITED] * 3)
    flaky.retry_after_ms = 1500
    flaky.run(initial_backoff_ms=1000)
    assert flaky.waits == [1.5, 2, 4]


def test_a_wait_longer_than_the_caller_allows_is_not_begun() -> None:
    flaky = Flaky(ErrorClass.RATE_LIMITED)
    flaky.retry_after_ms = 30_001
    with pytest.raises(ConnectorException, match="failure 1"):
        flaky.run()
    assert (flaky.calls, flaky.waits) == (1, [])


def test_the_last_failure_is_raised_when_the_retries_are_used_up() -> None:
    flaky = Flaky(*[ErrorClass.RATE_LIMITED] * 9)
    with pytest.raises(ConnectorException, match="failure 4"):
        flaky.run()
    assert (flaky.calls, len(flaky.waits)) == (4, 3)


@pytest.mark.parametrize("error_class", [ErrorClass.PERMANENT, ErrorClass.INVALID_REQUEST, ErrorClass.CANCELLED])
def test_what_will_not_pass_is_raised_at_once(error_class: ErrorClass) -> None:
    flaky = Flaky(error_class)
    with pytest.raises(ConnectorException):
        flaky.run()
    assert flaky.calls == 1


def test_named_classes_take_the_place_of_the_usual_ones() -> None:
    assert Flaky(ErrorClass.PERMANENT).run(retryable_errors=["permanent"]) == "done"
    assert Flaky(ErrorClass.RATE_LIMITED).run(retryable_errors=["RateLimited"]) == "done"
    flaky = Flaky(ErrorClass.TRANSIENT)
    with pytest.raises(ConnectorException):
        flaky.run(retryable_errors=["TIMEOUT"])
    assert flaky.calls == 1


def test_another_exception_is_nobodys_to_retry() -> None:
    def broken() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        retry_with_backoff(broken, sleep=pytest.fail)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retryable_errors": ["TRANSIENT", "SOMETIMES"]}, "'SOMETIMES' is no error class; the names are SUCCESS"),
        ({"retryable_errors": "TRANSIENT"}, "a list of names"),
        ({"max_retries": -1}, "must not be negative"),
        ({"initial_backoff_ms": -1}, "must not be negative"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_the_first_call(options: dict[str, Any], message: str) -> None:
    flaky = Flaky()
    with pytest.raises(ValueError, match=message):
        flaky.run(**options)
    assert flaky.calls == 0
