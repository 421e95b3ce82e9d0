"""At most a fifth of an origin's requests are retries, and never fewer than three may be."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.config.policy import RetryPolicy
from vastar_runtime.policies.retry_budget import OriginRetries, RequestRetries, RetryBudget, RetryStatistics

POLICY = RetryPolicy()
ORIGIN = "https://api.example.com:443"
NOTHING_ACTIVE = (0, 0, ())


def granted(budget: RetryBudget, active: int, policy: RetryPolicy = POLICY) -> int:
    """How many of so many requests to one origin may retry at once."""
    with ExitStack() as ends:
        requests = [ends.enter_context(budget.request(ORIGIN)) for _ in range(active)]
        return sum(request.try_retry(policy) for request in requests)


def now(budget: RetryBudget) -> tuple[int, int, tuple[OriginRetries, ...]]:
    found = budget.statistics()
    return found.active, found.retrying, found.origins


@pytest.mark.parametrize(
    ("active", "retrying"),
    [(1, 1), (2, 2), (3, 3), (4, 3), (15, 3), (19, 3), (20, 4), (24, 4), (25, 5), (100, 20), (1000, 200)],
)
def test_a_fifth_may_retry_but_at_least_three(active: int, retrying: int) -> None:
    assert granted(RetryBudget(), active) == retrying


@pytest.mark.parametrize(
    ("ratio", "minimum", "active", "retrying"),
    [
        (0.0, 0, 1000, 0),
        (0.0, 1, 1000, 1),
        (1.0, 0, 50, 50),
        (0.29, 0, 100, 29),  # 0.29 * 100 is 28.999999999999996
        (0.5, 0, 3, 1),
        (0.2, 10**12, 100, 100),
    ],
)
def test_share_and_minimum_are_the_policys(ratio: float, minimum: int, active: int, retrying: int) -> None:
    assert granted(RetryBudget(), active, RetryPolicy(budget_ratio=ratio, budget_minimum=minimum)) == retrying


def test_each_origin_has_a_budget_of_its_own() -> None:
    budget = RetryBudget()
    with ExitStack() as ends:
        for origin in ("a", "b"):
            requests = [ends.enter_context(budget.request(origin)) for _ in range(10)]
            assert sum(request.try_retry(POLICY) for request in requests) == 3
        assert budget.statistics() == RetryStatistics(
            active=20,
            retrying=6,
            retried=6,
            denied=14,
            origins=(OriginRetries("b", 10, 3), OriginRetries("a", 10, 3)),
        )


def test_the_end_of_a_request_gives_its_retry_back() -> None:
    budget = RetryBudget()
    with ExitStack() as others:
        for _ in range(3):
            assert others.enter_context(budget.request(ORIGIN)).try_retry(POLICY)
        with budget.request(ORIGIN) as request:
            assert not request.try_retry(POLICY)
            others.close()
            assert request.try_retry(POLICY)
            assert now(budget) == (1, 1, (OriginRetries(ORIGIN, 1, 1),))
    assert now(budget) == NOTHING_ACTIVE


def test_a_request_cancelled_in_its_backoff_gives_back_what_it_held() -> None:
    budget = RetryBudget()
    with budget.request(ORIGIN):
        with pytest.raises(KeyboardInterrupt), budget.request(ORIGIN) as request:
            assert request.try_retry(POLICY)
            raise KeyboardInterrupt
        assert now(budget) == (1, 0, ())
    assert now(budget) == NOTHING_ACTIVE


def test_a_retry_that_brought_an_answer_is_no_retry_any_more_however_long_the_answer_streams() -> None:
    budget = RetryBudget()
    with ExitStack() as ends:
        streaming = [ends.enter_context(budget.request(ORIGIN)) for _ in range(3)]
        for request in streaming:
            assert request.try_retry(POLICY)
            request.retry_ended()
            request.retry_ended()
        assert now(budget) == (3, 0, ())
        assert granted(budget, 3) == 3
    assert now(budget) == NOTHING_ACTIVE


def test_a_second_retry_takes_the_place_of_the_first() -> None:
    budget = RetryBudget()
    with ExitStack() as ends:
        requests = [ends.enter_context(budget.request(ORIGIN)) for _ in range(4)]
        assert [request.try_retry(POLICY) for request in requests] == [True, True, True, False]
        assert requests[0].try_retry(POLICY)
        assert now(budget) == (4, 3, (OriginRetries(ORIGIN, 4, 3),))


def test_a_second_retry_that_is_denied_gives_the_first_one_back() -> None:
    budget = RetryBudget()
    none = RetryPolicy(budget_ratio=0.0, budget_minimum=0)
    with budget.request(ORIGIN) as request:
        assert request.try_retry(POLICY)
        assert not request.try_retry(none)
        assert now(budget) == (1, 0, ())
    assert (budget.statistics().retried, budget.statistics().denied) == (1, 1)


def test_a_snapshot_lists_the_hundred_origins_with_the_most_retries() -> None:
    budget = RetryBudget()
    with ExitStack() as ends:
        for number in range(150):
            for _ in range(3 if number == 77 else 1):
                assert ends.enter_context(budget.request(f"origin {number}")).try_retry(POLICY)
        ends.enter_context(budget.request("without retries"))
        listed = budget.statistics().origins
        assert len(listed) == 100
        assert listed[0] == OriginRetries("origin 77", 3, 3)
    assert now(budget) == NOTHING_ACTIVE


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "retry", "head", "end"]), st.sampled_from("ab"), st.integers(0, 20)),
    max_size=80,
)


@given(STEPS)
def test_in_any_order_the_counts_are_those_of_the_requests_and_nothing_is_kept(
    steps: list[tuple[str, str, int]],
) -> None:
    budget = RetryBudget()
    under_way: list[tuple[str, RequestRetries]] = []
    retrying: set[RequestRetries] = set()
    for step, origin, number in steps:
        if step == "begin":
            under_way.append((origin, budget.request(origin).__enter__()))
            continue
        if not under_way:
            continue
        name, request = under_way[number % len(under_way)]
        of_origin = [other for other_name, other in under_way if other_name == name]
        retrying.discard(request)
        if step == "retry":
            may = sum(other in retrying for other in of_origin) < max(3, len(of_origin) // 5)
            assert request.try_retry(POLICY) is may
            if may:
                retrying.add(request)
        elif step == "head":
            request.retry_ended()
        else:
            under_way.remove((name, request))
            request.__exit__(None, None, None)
        assert now(budget)[:2] == (len(under_way), len(retrying))
    for _, request in under_way:
        request.__exit__(None, None, None)
    assert now(budget) == NOTHING_ACTIVE
    assert not budget._origins
