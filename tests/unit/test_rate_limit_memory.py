"""Tables whose keys clients choose: bounded in size and in work, and nothing that is owed is forgotten."""

from typing import Any, TypeVar

import pytest
from clocks import Clock, result_of
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.config.policy import Rate, RateLimitPolicy
from vastar_runtime.errors import RateLimited
from vastar_runtime.policies import token_bucket
from vastar_runtime.policies.bounded import LOOKED_AT, MAX_KEYS, BoundedTable
from vastar_runtime.policies.rate_limit import RateLimiter
from vastar_runtime.policies.token_bucket import Bucket, LimitKey, LocalBackend, Refused, Taken

A, B = "https://a.example", "https://b.example"
HOURLY = Rate(1, 3600)
T = TypeVar("T")


def bucket(tenant: str, rate: Rate = HOURLY, burst: int = 1) -> Bucket:
    return Bucket(LimitKey("per_tenant", tenant, None), rate, burst)


def is_admitted(backend: LocalBackend, *buckets: Bucket) -> bool:
    return isinstance(result_of(backend.take(buckets)), Taken)


# --- the table itself: a state is the time from which on it is idle ---


def filled(**idle_at: int) -> BoundedTable[str, int]:
    table: BoundedTable[str, int] = BoundedTable(len(idle_at), lambda state, now_ns: state <= now_ns)
    for key, state in idle_at.items():
        assert table.make_room(1, 0) >= 1
        table.put(key, state)
    return table


def keys(table: BoundedTable[str, int]) -> list[str]:
    return [key for key, _ in table.latest()]


def test_a_full_table_forgets_the_idle_state_that_was_used_least_recently() -> None:
    table = filled(a=1, b=1, c=1)
    assert table.get("a") == 1
    assert table.make_room(1, now_ns=5) == 1
    assert keys(table) == ["a", "c"]


def test_a_table_with_room_forgets_nothing() -> None:
    table = filled(a=1, b=1, c=1)
    table.remove("b")
    assert table.make_room(1, now_ns=5) == 1
    assert keys(table) == ["c", "a"]


def test_a_state_that_is_not_idle_is_passed_over() -> None:
    table = filled(a=9, b=9, c=1)
    assert table.make_room(1, now_ns=5) == 1
    assert set(keys(table)) == {"a", "b"}
    table.put("d", 9)
    assert table.make_room(1, now_ns=5) == 0
    assert set(keys(table)) == {"a", "b", "d"}


def test_a_table_makes_no_more_room_than_it_has() -> None:
    table = filled(a=1, b=1)
    assert table.make_room(5, now_ns=5) == 2
    assert len(table) == 0


def test_one_call_looks_at_few_states_and_the_next_goes_on_where_it_ended() -> None:
    looked_at: list[int] = []

    def is_idle(state: int, now_ns: int) -> bool:
        looked_at.append(state)
        return state == 99

    table: BoundedTable[int, int] = BoundedTable(100, is_idle)
    for state in range(100):
        table.put(state, state)
    calls = 0
    while not table.make_room(1, 0):
        calls += 1
        assert len(looked_at) == calls * LOOKED_AT
    assert looked_at == list(range(100))


# --- buckets ---


@pytest.mark.unmeasured
@pytest.mark.parametrize(("max_keys", "takes"), [(1000, 150_000), (900, 30_000)])
def test_any_number_of_tenants_passes_through_a_small_table_and_no_request_pays_for_a_sweep(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, max_keys: int, takes: int
) -> None:
    """A thousand new tenants a second, each of whom owes for a second."""
    steps = 0
    is_full = token_bucket._is_full

    def counted(tat: Any, now_ns: int) -> bool:
        nonlocal steps
        steps += 1
        return is_full(tat, now_ns)

    monkeypatch.setattr(token_bucket, "_is_full", counted)
    backend = LocalBackend(clock, max_keys=max_keys)
    most_steps = largest = admitted = 0
    for number in range(takes):
        steps = 0
        clock.now = 1000 + number / 1000
        admitted += is_admitted(backend, bucket(f"tenant {number}", Rate(60, 60), 60))
        most_steps, largest = max(most_steps, steps), max(largest, len(backend))
    assert 1 <= most_steps <= LOOKED_AT + 1  # and the shared bucket
    if max_keys == 1000:
        assert (admitted, largest) == (takes, max_keys)
    else:
        assert takes / 1000 < admitted < takes
        assert largest == max_keys + 1


def test_tenants_who_owe_nothing_make_room_for_others(clock: Clock) -> None:
    backend = LocalBackend(clock, max_keys=4)
    for number in range(1000):
        assert is_admitted(backend, bucket(f"tenant {number}", Rate(1, 1)))
        clock.now += 0.25
    assert len(backend) == 4


def test_a_tenant_who_owes_is_never_forgotten_and_new_ones_share_one_bucket(clock: Clock) -> None:
    backend = LocalBackend(clock, max_keys=4)
    for number in range(4):
        assert is_admitted(backend, bucket(f"old {number}"))
    assert [is_admitted(backend, bucket(f"new {number}")) for number in range(100)] == [True] + [False] * 99
    assert not any(is_admitted(backend, bucket(f"old {number}")) for number in range(4))
    assert len(backend) == 5
    clock.now += 3599.999
    assert not any(is_admitted(backend, bucket(f"{age} {number}")) for age in ("old", "new") for number in range(4))
    clock.now += 0.001
    assert all(is_admitted(backend, bucket(f"new {number}")) for number in range(4))


def test_a_tenant_who_owes_for_another_millisecond_is_not_forgotten(clock: Clock) -> None:
    backend = LocalBackend(clock, max_keys=1)
    assert is_admitted(backend, bucket("old", Rate(1, 1)))
    clock.now += 0.999
    assert is_admitted(backend, bucket("new", Rate(60, 60), 1))
    assert not is_admitted(backend, bucket("old", Rate(1, 1)))
    assert len(backend) == 2


def test_kinds_and_settings_share_apart(clock: Clock) -> None:
    backend = LocalBackend(clock, max_keys=1)
    assert is_admitted(backend, bucket("old"))
    assert is_admitted(backend, bucket("a"))
    assert not is_admitted(backend, bucket("b"))
    assert is_admitted(backend, bucket("c", Rate(60, 60), 1)), "another setting"
    assert not is_admitted(backend, bucket("d", Rate(60, 60), 1))
    origins = [Bucket(LimitKey("per_origin", None, origin), HOURLY, 1) for origin in (A, B)]
    assert [is_admitted(backend, origin) for origin in origins] == [True, False]
    clock.now += 1
    assert is_admitted(backend, bucket("d", Rate(60, 60), 1))


def test_who_finds_room_again_still_owes_what_the_shared_bucket_owes(clock: Clock) -> None:
    backend = LocalBackend(clock, max_keys=1)
    assert is_admitted(backend, bucket("old", Rate(1, 1)))
    assert is_admitted(backend, bucket("new"))  # shared
    clock.now += 1
    assert not is_admitted(backend, bucket("new")), "there is room, and it has taken its one an hour"
    clock.now += 3599
    assert is_admitted(backend, bucket("new"))


def test_a_token_of_the_shared_bucket_goes_back_to_it(clock: Clock) -> None:
    backend = LocalBackend(clock, max_keys=1)
    assert is_admitted(backend, bucket("old", Rate(1, 1)))
    shared = result_of(backend.take([bucket("new")]))
    assert isinstance(shared, Taken)
    clock.now += 1
    assert not is_admitted(backend, bucket("new"))
    result_of(backend.give_back(shared.buckets))
    assert is_admitted(backend, bucket("new"))
    assert not is_admitted(backend, bucket("new"))


def test_a_request_with_three_limits_and_room_for_one_is_charged_three_times_or_not_at_all(clock: Clock) -> None:
    backend = LocalBackend(clock, max_keys=1)

    def buckets(tenant: str, origin: str) -> list[Bucket]:
        return [
            Bucket(LimitKey("per_tenant", tenant, None), HOURLY, 5),
            Bucket(LimitKey("per_origin", None, origin), HOURLY, 3),
            Bucket(LimitKey("per_tenant_and_origin", tenant, origin), HOURLY, 5),
        ]

    for _ in range(3):
        assert is_admitted(backend, *buckets("t", A))
    for _ in range(10):
        refused = result_of(backend.take(buckets("t", A)))
        assert isinstance(refused, Refused)
        assert refused.bucket.key.kind == "per_origin"
    assert [is_admitted(backend, buckets("t", B)[0]) for _ in range(3)] == [True, True, False]
    assert len(backend) == 3


def test_shared_buckets_of_settings_that_are_gone_do_not_pile_up(clock: Clock) -> None:
    backend = LocalBackend(clock, max_keys=1)
    assert is_admitted(backend, bucket("old"))
    for reload in range(1000):
        assert is_admitted(backend, bucket("new", Rate(reload + 1, 1), 1))
        clock.now += 1
    assert len(backend) <= 3


def test_the_refusal_by_the_shared_bucket_says_so(clock: Clock) -> None:
    limiter = RateLimiter(LocalBackend(clock, max_keys=1), clock)
    policy = RateLimitPolicy(per_tenant=HOURLY)
    result_of(limiter.take(policy, "old", A))
    result_of(limiter.take(policy, "new", A))
    with pytest.raises(RateLimited) as caught:
        result_of(limiter.take(policy, "newer", A))
    assert caught.value.message == (
        "rate limit of 1/h (burst 1) of tenant 'newer' (and of all others that came when the table of limits was "
        "full) is used up; next in 3600000 ms (rate_limit.per_tenant)"
    )
    (refusing,) = limiter.statistics().refusing
    assert (refusing.limit, refusing.tenant_id, refusing.origin, refusing.refused) == (
        "rate_limit.per_tenant",
        None,
        None,
        1,
    )


@given(
    requests=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 600)), max_size=100),
    max_keys=st.integers(1, 4),
    burst=st.integers(1, 3),
)
def test_however_small_the_table_no_tenant_gets_more_than_with_a_large_one(
    requests: list[tuple[int, int]], max_keys: int, burst: int
) -> None:
    clock = Clock()
    small = LocalBackend(clock, max_keys=max_keys)
    at_ms: dict[int, list[int]] = {}
    passed_ms = 0
    for tenant, pause_ms in requests:
        passed_ms += pause_ms
        clock.now = 1000 + passed_ms / 1000
        if is_admitted(small, bucket(str(tenant), Rate(1, 1), burst)):
            at_ms.setdefault(tenant, []).append(passed_ms)
        assert len(small) <= max_keys + 1
    for times in at_ms.values():
        for first, began_ms in enumerate(times):
            for last, ended_ms in enumerate(times[first:], first):
                assert (last - first + 1 - burst) * 1000 <= ended_ms - began_ms


@pytest.mark.unmeasured
def test_the_default_table_holds_as_many_as_it_says(clock: Clock) -> None:
    backend = LocalBackend(clock)
    for number in range(MAX_KEYS):
        assert is_admitted(backend, bucket(str(number)))
    assert is_admitted(backend, bucket("one more"))
    assert not is_admitted(backend, bucket("and another"))
    assert len(backend) == MAX_KEYS + 1
