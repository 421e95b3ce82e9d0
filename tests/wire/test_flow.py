"""Credit, at both sides: never more on its way than the window, and never a reader that has read all and waits."""

import pytest

from connector_sdk.wire import RemoteProtocolError
from connector_sdk.wire.daemon_connection import MAX_WINDOW_BYTES
from connector_sdk.wire.flow import DEFAULT_WINDOW_BYTES, MAX_CREDIT_BYTES, CreditError, ReceiveWindow, SendWindow

# --- the daemon's side ---


def test_a_window_is_spent_to_its_last_byte_and_then_gives_nothing() -> None:
    window = SendWindow(10)
    assert window.take(4) == 4
    assert window.take(100) == 6, "what is left, not what was wanted"
    assert window.take(1) == 0
    assert window.credit_bytes == 0


def test_a_grant_opens_a_spent_window_by_so_much() -> None:
    window = SendWindow(10)
    window.take(10)
    window.grant(3)
    assert window.take(10) == 3
    assert window.take(10) == 0


def test_a_grant_of_nothing_is_allowed_and_changes_nothing() -> None:
    window = SendWindow(10)
    window.grant(0)
    assert window.credit_bytes == 10


@pytest.mark.parametrize("delta", [-1, -(2**31)])
def test_a_negative_grant_is_an_error_that_names_it_and_takes_nothing_away(delta: int) -> None:
    window = SendWindow(10)
    with pytest.raises(CreditError, match=f"^credit_delta {delta} is negative$") as caught:
        window.grant(delta)
    assert isinstance(caught.value, RemoteProtocolError)
    assert window.credit_bytes == 10


def test_credit_may_reach_two_to_the_31_less_one_and_not_a_byte_more() -> None:
    window = SendWindow(10)
    window.grant(MAX_CREDIT_BYTES - 10)
    assert window.credit_bytes == MAX_CREDIT_BYTES == 2**31 - 1
    with pytest.raises(CreditError, match=r"^credit_delta 1 lifts the stream's credit over 2147483647$"):
        window.grant(1)
    assert window.credit_bytes == MAX_CREDIT_BYTES


def test_what_was_spent_may_be_granted_again_at_the_limit() -> None:
    window = SendWindow(MAX_CREDIT_BYTES)
    window.take(5)
    window.grant(5)
    assert window.credit_bytes == MAX_CREDIT_BYTES


# --- the client's side ---


def test_credit_goes_back_in_quarters_of_the_window() -> None:
    window = ReceiveWindow(100)
    assert [window.consume(8) for _ in range(8)] == [0, 0, 0, 32, 0, 0, 0, 32]


def test_one_large_piece_comes_back_at_once_and_whole() -> None:
    window = ReceiveWindow(100)
    assert window.consume(10) == 0
    assert window.consume(90) == 100
    assert window.consume(24) == 0, "nothing is returned twice"
    assert window.consume(1) == 25


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_a_window_of_a_few_bytes_returns_them_one_by_one(size: int) -> None:
    window = ReceiveWindow(size)
    assert [window.consume(1) for _ in range(3)] == [1, 1, 1]


def test_consuming_nothing_returns_nothing() -> None:
    assert [ReceiveWindow(size).consume(0) for size in (0, 1, 100)] == [0, 0, 0]


@pytest.mark.parametrize("asked", [0, 1, 3, 100, DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES, 64 * 1024 * 1024, 2**32 - 1])
def test_a_reader_that_has_read_all_never_waits_for_a_daemon_without_credit(asked: int) -> None:
    """The daemon may open a smaller window than was asked for, and the client's quarters must still reach it."""
    granted = min(asked or DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES)
    sender, reader = SendWindow(granted), ReceiveWindow(asked)
    for _ in range(20):
        piece = sender.take(granted // 3 + 1)
        assert piece > 0
        sender.grant(reader.consume(piece))
        assert sender.credit_bytes <= granted
