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
