"""Which policy holds for a tenant and an origin."""

import pytest
from checked_settings import settings

from vastar_runtime.config import Effect, Policies, Settings, examine
from vastar_runtime.config import scopes as scopes_module
from vastar_runtime.config.policy import Policy, Rate

OPENAI = "https://api.openai.com"
OTHER = "https://api.example.com"


def policies(text: str) -> Policies:
    return Policies(settings(text))


LEVELS = """
[policy.retry]
max_retries = 1
first_backoff_ms = 10
max_backoff_ms = 1000
budget_minimum = 1

[[scope]]
tenant = "batch"
origin = "https://*.openai.com"
retry.max_retries = 4

[[scope]]
origin = "https://*.openai.com"
retry.max_retries = 3
retry.first_backoff_ms = 30

[[scope]]
tenant = "batch"
retry.max_retries = 2
retry.first_backoff_ms = 20
retry.max_backoff_ms = 2000
"""


@pytest.mark.parametrize(
    ("tenant", "origin", "expected"),
    [
        ("", OTHER, (1, 10, 1000, 1)),
        ("batch", OTHER, (2, 20, 2000, 1)),
        ("web", OPENAI, (3, 30, 1000, 1)),
        ("batch", OPENAI, (4, 30, 2000, 1)),
        ("Batch", OTHER, (1, 10, 1000, 1)),
        ("batch ", OTHER, (1, 10, 1000, 1)),
    ],
)
def test_the_narrowest_scope_wins_key_by_key(tenant: str, origin: str, expected: tuple[int, ...]) -> None:
    retry = policies(LEVELS).policy_for(tenant, origin).retry
    assert (retry.max_retries, retry.first_backoff_ms, retry.max_backoff_ms, retry.budget_minimum) == expected


PATTERNS = """
[[scope]]
origin = "https://api.openai.com"
retry.max_retries = 4

[[scope]]
origin = "https://a*.openai.com"
retry.max_retries = 3
retry.budget_minimum = 33

[[scope]]
origin = "https://*"
retry.max_retries = 1
retry.budget_minimum = 11
retry.first_backoff_ms = 1

[[scope]]
origin = "https://*.openai.com"
retry.max_retries = 2
retry.budget_minimum = 22
"""


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (OTHER, (1, 11, 1)),
        ("https://x.openai.com", (2, 22, 1)),
        ("https://ab.openai.com", (3, 33, 1)),
        (OPENAI, (4, 33, 1)),
        ("http://api.openai.com", (2, 3, 100)),
    ],
)
def test_of_two_patterns_the_one_that_says_more_wins(origin: str, expected: tuple[int, ...]) -> None:
    retry = policies(PATTERNS).policy_for("", origin).retry
    assert (retry.max_retries, retry.budget_minimum, retry.first_backoff_ms) == expected


def test_of_two_patterns_that_say_as_much_the_later_in_the_file_wins() -> None:
    scope = '[[scope]]\norigin = "https://{}"\nretry.max_retries = {}\n'
    ab = scope.format("a*.example", 1) + scope.format("*b.example", 2)
    ba = scope.format("*b.example", 2) + scope.format("a*.example", 1)
    assert policies(ab).policy_for("", "https://ab.example").retry.max_retries == 2
    assert policies(ba).policy_for("", "https://ab.example").retry.max_retries == 1


def test_a_star_says_nothing() -> None:
    text = """
    [[scope]]
    origin = "http://*xy"
    retry.max_retries = 1
    [[scope]]
    origin = "http://*x*"
    retry.max_retries = 2
    """
    assert policies(text).policy_for("", "http://xy").retry.max_retries == 1


def test_an_exact_origin_wins_over_a_longer_pattern() -> None:
    text = """
    [[scope]]
    origin = "http://a.example"
    retry.max_retries = 1
    [[scope]]
    origin = "http://*a.example"
    retry.max_retries = 2
    """
    assert policies(text).policy_for("", "http://a.example").retry.max_retries == 1


def test_a_narrower_scope_lifts_a_limit_with_none() -> None:
    text = """
    policy.rate_limit.per_tenant = "10/s"
    policy.deadline.first_byte_timeout_ms = 1000
    [[scope]]
    tenant = "free"
    rate_limit.per_tenant = "none"
    deadline.first_byte_timeout_ms = "none"
    """
    assert policies(text).policy_for("", OTHER).rate_limit.per_tenant == Rate(10, 1)
    free = policies(text).policy_for("free", OTHER)
    assert free.rate_limit.per_tenant is None
    assert free.deadline.first_byte_timeout_ms is None


def test_concurrency_is_that_of_the_tenant() -> None:
    text = LEVELS + '[[scope]]\ntenant = "few"\nconcurrency.max_per_tenant = 2\n'
    of = policies(text)
    assert of.concurrency_for("few").max_per_tenant == 2
    assert of.concurrency_for("few") == of.policy_for("few", OPENAI).concurrency
    assert of.concurrency_for("batch") is of.concurrency_for("unheard of")


def test_the_empty_tenant_is_that_of_clients_that_name_none() -> None:
    of = policies('[[scope]]\ntenant = ""\nretry.max_retries = 0')
    assert of.policy_for("", OTHER).retry.max_retries == 0
    assert of.policy_for("a", OTHER).retry.max_retries == 2


def test_without_scopes_the_one_policy_is_returned_and_nothing_remembered() -> None:
    tree = Settings()
    of = Policies(tree)
    assert all(of.policy_for(f"{number}", OTHER) is tree.policy for number in range(100))
    assert of._resolved.cache_info().misses == 0


def test_a_policy_is_resolved_once() -> None:
    of = policies(LEVELS)
    assert of.policy_for("batch", OPENAI) is of.policy_for("batch", OPENAI)
    assert of.policy_for("one", OPENAI) is of.policy_for("another", OPENAI)


def test_many_tenants_and_origins_do_not_grow_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes_module, "MAX_RESOLVED", 8)
    of = policies(LEVELS)
    for number in range(1000):
        assert of.policy_for(f"tenant {number}" * 1000, OPENAI).retry.max_retries == 3
    assert of._resolved.cache_info().currsize == 1
    for number in range(1000):
        assert of.policy_for("batch", f"https://h{number}").retry.max_retries == 2
    assert of._resolved.cache_info().currsize == 8
    assert of.policy_for("batch", OPENAI).retry.max_retries == 4


def test_a_request_that_no_scope_is_about_has_the_default_policy() -> None:
    tree = settings(LEVELS)
    assert Policies(tree).policy_for("web", OTHER) is tree.policy


def test_explain_tells_for_each_key_where_it_is_set() -> None:
    effects = {effect.stage + "." + effect.key: effect for effect in policies(LEVELS).explain("batch", OPENAI)}
    assert effects["retry.max_retries"] == Effect("retry", "max_retries", 4, ("scope", 0, "retry", "max_retries"))
    assert effects["retry.first_backoff_ms"].setting == ("scope", 1, "retry", "first_backoff_ms")
    assert effects["retry.max_backoff_ms"].setting == ("scope", 2, "retry", "max_backoff_ms")
    assert effects["retry.budget_minimum"].setting == ("policy", "retry", "budget_minimum")
    assert effects["deadline.idle_timeout_ms"].value == 60_000


@pytest.mark.parametrize("tenant", ["batch", "web"])
@pytest.mark.parametrize("origin", [OPENAI, OTHER])
def test_explain_says_what_holds(tenant: str, origin: str) -> None:
    of = policies(LEVELS)
    policy = of.policy_for(tenant, origin)
    effects = of.explain(tenant, origin)
    assert [(e.stage, e.key) for e in effects] == [
        (stage, key) for stage in Policy.__struct_fields__ for key in getattr(policy, stage).__struct_fields__
    ]
    assert all(getattr(getattr(policy, e.stage), e.key) == e.value for e in effects)


def test_a_variable_goes_over_what_scopes_say(tmp_path):
    file = tmp_path / "runtime.toml"
    file.write_text('[[scope]]\ntenant = "a"\n[scope.deadline]\nidle_timeout_ms = 5000\nconnect_timeout_ms = 7\n')
    settings = examine({"VASTAR_TIMEOUT": "2"}, config_path=str(file)).valid()
    deadline = Policies(settings).policy_for("a", "https://x.test").deadline
    assert (deadline.idle_timeout_ms, deadline.connect_timeout_ms) == (2000, 7)
