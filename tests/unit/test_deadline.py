"""How long a request may take, on a clock that the tests move."""

import pytest
import trio
from trio.testing import MockClock

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import DeadlinePolicy
from vastar_runtime.errors import RequestError
from vastar_runtime.policies.deadline import Deadline

NOW_S = 1_800_000_000.0


def deadline(in_ms: float | None = None, timeout_ms: float | None = None, idle_s: float = 60.0) -> Deadline:
    at_ms = 0 if in_ms is None else int(NOW_S * 1000 + in_ms)
    return Deadline(
        deadline_at_ms=at_ms,
        timeout_ms=timeout_ms,
        policy=DeadlinePolicy(idle_timeout_ms=int(idle_s * 1000)),
        unix_now_s=NOW_S,
    )


async def wait_out(limit: Deadline) -> tuple[float, str]:
    """Wait until the deadline cancels; after how many seconds it did, and its message."""
    began = trio.current_time()
    with limit.scope:
        await trio.sleep_forever()
    assert limit.scope.cancelled_caught
    error = limit.passed()
    assert error.error_class is ErrorClass.TIMEOUT
    return trio.current_time() - began, error.message


@pytest.mark.parametrize(
    ("in_ms", "timeout_ms", "seconds", "limit"),
    [
        (5000, None, 5.0, "5000 ms passed (deadline_at_ms)"),
        (None, 250.0, 0.25, "250 ms passed (timeout_ms)"),
        (5000, 250.0, 0.25, "250 ms passed (timeout_ms)"),
        (250, 5000.0, 0.25, "250 ms passed (deadline_at_ms)"),
        (250, 250.0, 0.25, "250 ms passed (timeout_ms)"),
        (248, 250.0, 0.248, "250 ms passed (timeout_ms)"),  # what a client calls 250 ms in both, 2 ms later
        (None, None, 60.0, "nothing moved for 60 s (deadline.idle_timeout_ms)"),
    ],
)
async def test_the_smaller_limit_wins_and_is_named(
    autojump_clock: MockClock, in_ms: float | None, timeout_ms: float | None, seconds: float, limit: str
) -> None:
    limited = deadline(in_ms, timeout_ms)
    limited.progress("connecting to host:80")
    assert await wait_out(limited) == (
        pytest.approx(seconds),
        f"HTTP request timed out: {limit} while connecting to host:80",
    )


async def test_a_request_without_a_limit_may_take_any_time_while_something_moves(autojump_clock: MockClock) -> None:
    limited = deadline(idle_s=10.0)
    began = trio.current_time()
    with limited.scope:
        for _ in range(100):
            await trio.sleep(9.9)
            limited.progress("reading the response body")
        await trio.sleep_forever()
    assert trio.current_time() - began == pytest.approx(100 * 9.9 + 10.0)
    assert limited.passed().message == (
        "HTTP request timed out: nothing moved for 10 s (deadline.idle_timeout_ms) while reading the response body"
    )


@pytest.mark.parametrize("limits", [{"in_ms": 1000}, {"timeout_ms": 1000.0}])
async def test_a_limit_of_its_own_does_not_move(autojump_clock: MockClock, limits: dict[str, float]) -> None:
    limited = deadline(**limits)
    began = trio.current_time()
    with limited.scope:
        while True:
            await trio.sleep(0.3)
            limited.progress("reading the response body")
    assert trio.current_time() - began == pytest.approx(1.0)


@pytest.mark.parametrize("late_ms", [0, 1, 1500])
async def test_a_deadline_that_has_passed_already_is_said_before_anything_is_sent(late_ms: int) -> None:
    with pytest.raises(RequestError) as caught:
        deadline(-late_ms, timeout_ms=1000.0)
    assert caught.value.error_class is ErrorClass.TIMEOUT
    assert caught.value.message == (f"deadline_at_ms had passed {late_ms} ms before the request came; nothing was sent")


async def test_the_largest_deadline_of_the_wire_is_no_problem(autojump_clock: MockClock) -> None:
    limited = Deadline(
        deadline_at_ms=2**64 - 1, timeout_ms=10.0, policy=DeadlinePolicy(idle_timeout_ms=1000), unix_now_s=NOW_S
    )
    assert (await wait_out(limited))[0] == pytest.approx(0.01)


async def test_before_any_progress_the_message_still_makes_sense(autojump_clock: MockClock) -> None:
    _, message = await wait_out(deadline(timeout_ms=1.0))
    assert message == "HTTP request timed out: 1 ms passed (timeout_ms) while starting"


def limited(timeout_ms: float | None = None, at_ms: int = 0, **limits: int) -> Deadline:
    return Deadline(deadline_at_ms=at_ms, timeout_ms=timeout_ms, policy=DeadlinePolicy(**limits), unix_now_s=NOW_S)


@pytest.mark.parametrize(
    ("timeout_ms", "longest_ms", "seconds", "words"),
    [
        (None, 3000, 3, "3000 ms passed (deadline.max_duration_ms)"),
        (5000, 3000, 3, "3000 ms passed (deadline.max_duration_ms)"),
        (3000, 3000, 3, "3000 ms passed (timeout_ms)"),
        (2000, 3000, 2, "2000 ms passed (timeout_ms)"),
        (None, 90_000, 60, "nothing moved for 60 s (deadline.idle_timeout_ms)"),
    ],
)
async def test_the_longest_duration_is_a_limit_like_the_client_s(
    autojump_clock: MockClock, timeout_ms: float | None, longest_ms: int, seconds: float, words: str
) -> None:
    limit = limited(timeout_ms, max_duration_ms=longest_ms)
    assert limit.remaining_s() == pytest.approx(min(longest_ms, timeout_ms or longest_ms) / 1000)
    assert await wait_out(limit) == (pytest.approx(seconds), f"HTTP request timed out: {words} while starting")


async def test_a_request_without_a_deadline_has_all_the_time_there_is(autojump_clock: MockClock) -> None:
    assert limited().remaining_s() == float("inf")


@pytest.mark.parametrize("timeout_ms", [None, 10**6])
async def test_between_pieces_of_the_body_another_limit_counts_than_before_the_head(
    autojump_clock: MockClock, timeout_ms: float | None
) -> None:
    limit = limited(timeout_ms, idle_timeout_ms=60_000, between_bytes_timeout_ms=2000)
    began = trio.current_time()
    with limit.scope:
        await trio.sleep(59)
        limit.head_received()
        for _ in range(50):
            await trio.sleep(1.9)
            limit.progress("reading the response body")
        await trio.sleep_forever()
    assert trio.current_time() - began == pytest.approx(59 + 50 * 1.9 + 2)
    assert limit.passed().message == (
        "HTTP request timed out: nothing moved for 2 s (deadline.between_bytes_timeout_ms) while reading the response "
        "body"
    )


async def test_between_pieces_nothing_is_longer_than_the_idle_time(autojump_clock: MockClock) -> None:
    limit = limited(idle_timeout_ms=1000, between_bytes_timeout_ms=2000)
    limit.head_received()
    seconds, message = await wait_out(limit)
    assert (seconds, "nothing moved for 1 s (deadline.idle_timeout_ms)" in message) == (pytest.approx(1), True)


async def test_while_suspended_nothing_runs_but_the_whole_request_s_limit(autojump_clock: MockClock) -> None:
    limit = limited(max_duration_ms=500_000)
    limit.progress("reading the response body")
    limit.suspend("waiting for the client to read")
    assert await wait_out(limit) == (
        pytest.approx(500),
        "HTTP request timed out: 500000 ms passed (deadline.max_duration_ms) while waiting for the client to read",
    )


async def test_progress_of_something_else_does_not_end_a_suspension(autojump_clock: MockClock) -> None:
    limit = limited(idle_timeout_ms=1000)
    began = trio.current_time()
    with limit.scope:
        limit.suspend("waiting for the client to read")
        await trio.sleep(100)
        limit.progress("sending the request body")
        await trio.sleep(100)
        limit.resume()
        await trio.sleep_forever()
    assert trio.current_time() - began == pytest.approx(201)
    assert limit.passed().message.endswith(" while sending the request body")


async def test_after_a_suspension_what_was_waited_for_is_waited_for_again(autojump_clock: MockClock) -> None:
    limit = limited(idle_timeout_ms=1000)
    limit.progress("reading the response body")
    for _ in range(3):
        limit.suspend("waiting for the client to read")
        await trio.sleep(100)
        limit.resume()
    assert not limit.has_passed
    seconds, message = await wait_out(limit)
    assert (seconds, message.endswith(" while reading the response body")) == (pytest.approx(1), True)
    assert limit.has_passed


@pytest.mark.parametrize("timeout_ms", [None, 1000])
async def test_a_scope_that_somebody_cancelled_has_not_passed_and_still_makes_an_error(
    autojump_clock: MockClock, timeout_ms: float | None
) -> None:
    """The server asks for it before it looks who cancelled."""
    limit = limited(timeout_ms)
    with limit.scope:
        limit.scope.cancel()
        await trio.sleep_forever()
    assert not limit.has_passed
    assert limit.passed().error_class is ErrorClass.TIMEOUT


# --- what others ask of it ---


@pytest.mark.parametrize(
    ("timeout_ms", "limits", "patience_s"),
    [
        (None, {"idle_timeout_ms": 5000}, 5),
        (9000, {"idle_timeout_ms": 5000}, 9),
        (None, {"idle_timeout_ms": 5000, "max_duration_ms": 3000}, 3),
        (None, {"idle_timeout_ms": 5000, "max_duration_ms": 9000}, 5),
        (2000, {"max_duration_ms": 9000}, 2),
    ],
)
async def test_its_patience_is_how_long_it_may_wait_while_nothing_moves(
    autojump_clock: MockClock, timeout_ms: float | None, limits: dict[str, int], patience_s: float
) -> None:
    limit = limited(timeout_ms, **limits)
    assert limit.patience_s() == pytest.approx(patience_s)
    await trio.sleep(1)
    assert limit.patience_s() == pytest.approx(patience_s - 1)
    seconds, _ = await wait_out(limit)
    assert seconds == pytest.approx(patience_s - 1)


@pytest.mark.parametrize("limits", [{"timeout_ms": 1000.0}, {"max_duration_ms": 1000}])
@pytest.mark.parametrize(
    ("came_after_s", "is_mostly_spent"), [(0, True), (0.499, True), (0.501, False), (0.999, False)]
)
async def test_half_of_what_it_allowed_is_mostly_spent(
    autojump_clock: MockClock, limits: dict[str, int], came_after_s: float, is_mostly_spent: bool
) -> None:
    limit = limited(**limits)
    with limit.scope:
        await trio.sleep(came_after_s)
        since = trio.current_time()
        assert not limit.was_mostly_spent_since(since)
        await trio.sleep_forever()
    assert limit.was_mostly_spent_since(since) is is_mostly_spent


async def test_before_a_limit_has_passed_nothing_is_mostly_spent(autojump_clock: MockClock) -> None:
    """A client that cancels after most of its time says nothing of the upstream."""
    limit = limited(1000)
    since = trio.current_time()
    await trio.sleep(0.9)
    assert not limit.was_mostly_spent_since(since)
    idle = limited(idle_timeout_ms=1000)
    await trio.sleep(0.9)
    assert not idle.was_mostly_spent_since(since)


async def test_an_idle_limit_that_passes_is_all_spent_since_the_last_progress(autojump_clock: MockClock) -> None:
    limit = limited(idle_timeout_ms=1000, max_duration_ms=100_000)
    with limit.scope:
        for _ in range(50):
            await trio.sleep(0.9)
            limit.progress("moving")
        since = trio.current_time()
        await trio.sleep_forever()
    assert limit.was_mostly_spent_since(since)
