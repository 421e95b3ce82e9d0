"""Keys that cannot hold together, wherever in the file they stand."""

import pytest
from checked_settings import ONE, problems

BACKOFF = "first_backoff_ms ({}) is more than max_backoff_ms ({}); "
NOTHING_OPENS = (
    "consecutive_failures and failure_rate are both none, so that nothing opens it; set one of them, or enabled = false"
)
GOOD = {
    "within one scope": ONE + "retry = { first_backoff_ms = 20000, max_backoff_ms = 30000 }",
    "with [policy]": "policy.retry.max_backoff_ms = 30000\n" + ONE + "retry.first_backoff_ms = 20000",
    "with the same tenant": (
        ONE + "retry.max_backoff_ms = 30000\n" + ONE + "origin = 'http://h'\nretry.first_backoff_ms = 20000"
    ),
    "with the same origin": (
        "[[scope]]\norigin = 'http://h'\nretry.max_backoff_ms = 30000\n"
        + ONE
        + "origin = 'http://h'\nretry.first_backoff_ms = 20000"
    ),
    "with a wider origin": (
        "[[scope]]\norigin = '*://*.h'\nretry.max_backoff_ms = 30000\n"
        "[[scope]]\norigin = 'http://a*.h'\nretry.first_backoff_ms = 20000"
    ),
    "switched off": "policy.circuit_breaker = { enabled = false, consecutive_failures = 'none', open_ms = 400000 }",
    "a rate only": "policy.circuit_breaker = { consecutive_failures = 'none', failure_rate = 0.5 }",
}


@pytest.mark.parametrize("name", GOOD)
def test_keys_that_agree_with_what_they_are_sure_to_meet(name: str) -> None:
    assert problems(GOOD[name]) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[policy.retry]\nfirst_backoff_ms = 2\nmax_retries = 1\nmax_backoff_ms = 1\n",
            ["4: policy.retry.max_backoff_ms: " + BACKOFF.format(2, 1) + "raise the one or lower the other"],
        ),
        (
            "[policy.retry]\nmax_backoff_ms = 99\n" + ONE + "retry.max_retries = 1",
            ["2: policy.retry.max_backoff_ms: " + BACKOFF.format("100, the default", 99) + "set first_backoff_ms, too"],
        ),
        (
            ONE + "retry.first_backoff_ms = 20000",
            [
                "3: [[scope]] number 1: retry.first_backoff_ms: "
                + BACKOFF.format(20000, "10000, the default")
                + "set max_backoff_ms, too"
            ],
        ),
        (
            "[policy.retry]\nmax_backoff_ms = 500\n[[scope]]\ntenant = 7\n" + ONE + "retry.first_backoff_ms = 600",
            [
                "4: [[scope]] number 1: tenant: found 7; allowed: a string, the tenant's id",
                "7: [[scope]] number 2: retry.first_backoff_ms: "
                + BACKOFF.format(600, "500, line 2")
                + "set max_backoff_ms, too",
            ],
        ),
        (
            "[[scope]]\ntenant = 7\n[[scope]]\norigin = 'http://h'\nretry.max_backoff_ms = 500\n"
            + ONE
            + "origin = 'http://h'\nretry.first_backoff_ms = 600",
            [
                "2: [[scope]] number 1: tenant: found 7; allowed: a string, the tenant's id",
                "9: [[scope]] number 3: retry.first_backoff_ms: "
                + BACKOFF.format(600, "500, line 5")
                + "set max_backoff_ms, too",
            ],
        ),
        (
            "[[scope]]\norigin = 'http://a*'\nretry.max_backoff_ms = 30000\n"
            "[[scope]]\norigin = 'http://*a'\nretry.first_backoff_ms = 20000",
            [
                "6: [[scope]] number 2: retry.first_backoff_ms: "
                + BACKOFF.format(20000, "10000, the default")
                + "set max_backoff_ms, too"
            ],
        ),
        (
            "[policy.circuit_breaker]\nopen_ms = 400000",
            [
                "2: policy.circuit_breaker.open_ms: open_ms (400000) is more than max_open_ms (300000, the default);"
                " set max_open_ms, too"
            ],
        ),
        (
            "[policy.circuit_breaker]\nconsecutive_failures = 'none'",
            ["2: policy.circuit_breaker.consecutive_failures: " + NOTHING_OPENS],
        ),
        (
            "[policy.circuit_breaker]\nenabled = false\nopen_ms = 400000\n" + ONE + "circuit_breaker.enabled = true",
            [
                "6: [[scope]] number 1: circuit_breaker.enabled: open_ms (400000, line 3) is more than max_open_ms"
                " (300000, the default); set open_ms or max_open_ms, too"
            ],
        ),
        (
            "[[scope]]\ntenant = 7\n" + ONE + "circuit_breaker.consecutive_failures = 'none'",
            [
                "2: [[scope]] number 1: tenant: found 7; allowed: a string, the tenant's id",
                "5: [[scope]] number 2: circuit_breaker.consecutive_failures: " + NOTHING_OPENS,
            ],
        ),
    ],
)
def test_keys_that_contradict_each_other(text: str, expected: list[str]) -> None:
    assert problems(text) == expected
