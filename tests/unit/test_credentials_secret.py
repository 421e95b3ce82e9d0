"""What may be a secret, and what a variable has of it."""

from __future__ import annotations

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.credentials import CredentialError
from vastar_runtime.credentials.errors import Unusable
from vastar_runtime.credentials.secret import MAX_SECRET_CHARACTERS, Secret, secret_in
from vastar_runtime.credentials.source import Source, VariableSource


def problem_with(found: bytes) -> str:
    with pytest.raises(Unusable) as caught:
        secret_in(found)
    return str(caught.value)


@pytest.mark.parametrize("around", [b"", b"\n", b"\r\n", b" ", b"\t \r\n\n", b"\v\f"])
def test_white_space_around_a_secret_is_not_of_it(around: bytes) -> None:
    assert secret_in(around + b"sk-1 ~!\"'" + around).reveal() == b"sk-1 ~!\"'"


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (b"", "is empty"),
        (b" \r\n\t\v\f\n", "is empty"),
        (b"sk-1\nsk-2\n", "holds a line break"),
        (b"sk-1\rsk-2", "holds a line break"),
        (b"sk-1\r\nx-evil: 1\r\n\r\n", "holds a line break"),
        ("sk-ä".encode(), "holds a character that is not ASCII"),
        (b"\xef\xbb\xbfsk-1", "holds a character that is not ASCII"),
        (b"sk\x001", "holds a control character"),
        (b"sk\x7f1", "holds a control character"),
        (b"sk\t1", "holds a control character"),
        (b"s" * (MAX_SECRET_CHARACTERS + 1), "is larger than 16 KiB"),
    ],
)
def test_what_cannot_stand_in_a_header_is_refused_without_being_quoted(found: bytes, problem: str) -> None:
    assert problem_with(found) == problem


def test_the_longest_secret_may_have_white_space_around_it() -> None:
    longest = b"s" * MAX_SECRET_CHARACTERS
    assert secret_in(b"\n" + longest + b" \n").reveal() == longest


@given(st.binary())
def test_whatever_is_found_is_a_headers_value_or_refused(found: bytes) -> None:
    try:
        value = secret_in(found).reveal()
    except Unusable:
        return
    assert value == found.strip()
    assert all(0x20 <= byte <= 0x7E for byte in value)
    assert value.strip(b" ") == value
    assert value


def test_secrets_are_compared_by_what_they_are() -> None:
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"


# --- variables ---


def ready(source: Source) -> bytes:
    return trio.run(source.ready).reveal()


def refusal(source: Source) -> str:
    with pytest.raises(CredentialError) as caught:
        ready(source)
    return str(caught.value)


def test_a_variable_is_read_at_once() -> None:
    with structlog.testing.capture_logs() as lines:
        source = VariableSource("openai", "KEY", {"KEY": " sk-1\n"})
    assert source.current() == Secret(b"sk-1")
    assert ready(source) == b"sk-1"
    assert source.problem is None
    assert source.read_at_unix_s is not None
    assert lines == [{"log_level": "info", "event": "credential ready", "name": "openai", "source": "env"}]


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"OTHER": "sk-1"}, "the variable KEY is not set"),
        ({"KEY": ""}, "the variable KEY is empty"),
        ({"KEY": "sk-1\nsk-2"}, "the variable KEY holds a line break"),
        ({"KEY": "s" * 20_000}, "the variable KEY is larger than 16 KiB"),
        ({"KEY": "sk-\udcff"}, "the variable KEY holds a character that is not ASCII"),
        ({"KEY": "\ud800-sk"}, "the variable KEY holds a character that is not ASCII"),
    ],
)
def test_what_is_wrong_with_a_variable_is_told_to_every_request_and_once_to_the_log(
    environ: dict[str, str], problem: str
) -> None:
    with structlog.testing.capture_logs() as lines:
        source = VariableSource("openai", "KEY", environ)
        assert refusal(source) == refusal(source) == f"credential 'openai' cannot be used: {problem}"
    assert source.current() is None
    assert lines == [
        {
            "log_level": "warning",
            "event": "credential cannot be used",
            "name": "openai",
            "source": "env",
            "reason": problem,
        }
    ]
