"""The exceptions: what they carry, and which are worth another try."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from connector_sdk import APIError, ConnectorException, ErrorClass, StreamError


def test_what_an_exception_carries() -> None:
    error = ConnectorException("what happened", ErrorClass.RATE_LIMITED, 7)
    assert (str(error), error.message, error.error_class, error.request_id) == (
        "what happened",
        "what happened",
        ErrorClass.RATE_LIMITED,
        7,
    )
    assert error.get_error_class_name() == "RATE_LIMITED"


def test_which_classes_are_worth_another_try() -> None:
    retryable = {c.name for c in ErrorClass if ConnectorException("m", c).is_retryable()}
    assert retryable == {"TRANSIENT", "RATE_LIMITED", "TIMEOUT"}


def test_a_class_may_come_as_the_number_of_the_wire() -> None:
    assert ConnectorException("m", 4).error_class is ErrorClass.TIMEOUT
    with pytest.raises(ValueError):
        ConnectorException("m", 99)


@pytest.mark.parametrize(
    "error",
    [
        ConnectorException("m", ErrorClass.TIMEOUT, 3),
        StreamError("m", ErrorClass.PERMANENT),
        APIError("m", ErrorClass.RATE_LIMITED, 3, status=429, type="t", code="c", param="p"),
    ],
)
def test_an_exception_travels_between_processes(error: ConnectorException) -> None:
    """As it does out of a process pool."""
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("status", "error", "error_class"),
    [
        (400, {"message": "m", "type": "invalid_request_error", "code": "too_long"}, ErrorClass.PERMANENT),
        (401, {"message": "m", "code": "invalid_api_key"}, ErrorClass.PERMANENT),
        (408, {"message": "m"}, ErrorClass.TIMEOUT),
        (429, {"message": "m", "type": "requests"}, ErrorClass.RATE_LIMITED),
        (429, {"message": "m", "code": "insufficient_quota"}, ErrorClass.PERMANENT),
        (400, {"message": "m", "type": "insufficient_quota"}, ErrorClass.PERMANENT),
        (500, {"message": "m"}, ErrorClass.TRANSIENT),
        (503, "overloaded", ErrorClass.TRANSIENT),
        (200, {"message": "m", "type": "server_error"}, ErrorClass.TRANSIENT),
        (200, {"message": "m", "code": 429}, ErrorClass.RATE_LIMITED),
        (200, {"message": "m", "code": 502}, ErrorClass.TRANSIENT),
        (200, {"message": "m", "code": "rate_limit_exceeded"}, ErrorClass.RATE_LIMITED),
        (200, {"message": "m"}, ErrorClass.PERMANENT),
    ],
)
def test_which_errors_of_the_api_are_worth_another_try(status: int, error: object, error_class: ErrorClass) -> None:
    assert APIError.from_error_object(error, status).error_class is error_class


@pytest.mark.parametrize("error", [{}, [], 7, None, {"message": None}, {"message": {"a": 1}, "type": [], "code": {}}])
def test_an_error_of_any_shape_has_a_message(error: Any) -> None:
    exception = APIError.from_error_object(error, 500)
    assert isinstance(exception.message, str)
    assert exception.message
    assert exception.status == 500
