"""What is said to whoever is refused for an allowance."""

import pytest
from allowance_settings import USD, daily, monthly, per_tenant

from vastar_runtime.policies.allowance import (
    Allowance,
    AllowanceKey,
    AllowanceRefused,
    Calendar,
    Sliding,
    refusal_message,
)

ORIGIN = "https://api.example"

LOWER = "; lower its max_tokens (without one, token_limit.assumed_completion_tokens are reserved)"


def refused(allowance: Allowance, used: int, reserved: int, asked: int, *, is_shared: bool = False) -> AllowanceRefused:
    return AllowanceRefused(
        allowance=allowance, retry_after_ms=1200, used=used, reserved=reserved, asked=asked, is_shared=is_shared
    )


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            refused(per_tenant(100), 90, 10, 25),
            "token limit of 100/min of tenant 'batch' is used up: 90 used and 10 reserved of 100, the request needs "
            "about 25; try again in 1200 ms (token_limit.per_tenant)",
        ),
        (
            refused(per_tenant(100, period_s=3600), 90, 0, 25),
            "token limit of 100/h of tenant 'batch' is used up: 90 of 100, the request needs about 25; "
            "try again in 1200 ms (token_limit.per_tenant)",
        ),
        (
            refused(per_tenant(100, period_s=90), 90, 0, 250),
            "token limit of 100/90 s of tenant 'batch' can never hold the request: it needs about 250 of 100 "
            f"(token_limit.per_tenant){LOWER}",
        ),
        (
            refused(
                Allowance(AllowanceKey("token_limit.per_origin", None, ORIGIN), 100, "tokens", Sliding(1)), 90, 0, 25
            ),
            "token limit of 100/s of https://api.example is used up: 90 of 100, the request needs about 25; "
            "try again in 1200 ms (token_limit.per_origin)",
        ),
        (
            refused(
                Allowance(AllowanceKey("token_limit.per_tenant_and_origin", "t", ORIGIN), 9, "tokens", Sliding(60)),
                9,
                0,
                2,
                is_shared=True,
            ),
            "token limit of 9/min of tenant 't' with https://api.example (and of all others that came when the table "
            "of allowances was full) is used up: 9 of 9, the request needs about 2; try again in 1200 ms "
            "(token_limit.per_tenant_and_origin)",
        ),
        (
            refused(monthly(50 * USD), 49_980_000_000, 0, 50_000_000),
            "budget 'batch-monthly' of tenant 'batch' is used up: 49.98 of 50.00 USD this month, the request needs "
            "about 0.05; try again in 1200 ms",
        ),
        (
            refused(monthly(50 * USD, None, "all"), 49_987_654_321, 123_456, 1),
            "budget 'all' of all requests is used up: 49.9877 used and 0.000123456 reserved of 50.00 USD this month, "
            "the request needs about 0.000000001; try again in 1200 ms",
        ),
        (
            refused(daily(1000), 990, 5, 20),
            "budget 'batch-daily' of tenant 'batch' is used up: 990 used and 5 reserved of 1000 tokens today, "
            "the request needs about 20; try again in 1200 ms",
        ),
        (
            refused(monthly(50 * USD), 0, 0, 51 * USD),
            "budget 'batch-monthly' of tenant 'batch' can never hold the request: it needs about 51.00 of 50.00 USD "
            f"this month{LOWER}",
        ),
        (
            refused(Allowance(AllowanceKey("hourly", "t", None), USD, "cost", Sliding(3600)), USD, 0, 1),
            "budget 'hourly' of tenant 't' is used up: 1.00 of 1.00 USD in 3600 s, the request needs about "
            "0.000000001; try again in 1200 ms",
        ),
        (
            refused(
                Allowance(AllowanceKey("token_limit.per_tenant", "t", None), 7, "tokens", Calendar("day")), 7, 0, 1
            ),
            "token limit of 7/day of tenant 't' is used up: 7 of 7, the request needs about 1; "
            "try again in 1200 ms (token_limit.per_tenant)",
        ),
    ],
)
def test_a_refusal_says_what_is_used_up_and_when_to_try_again(refusal: AllowanceRefused, message: str) -> None:
    assert refusal_message(refusal, "USD") == message


def test_a_tenant_cannot_make_the_message_long_or_break_its_line() -> None:
    message = refusal_message(refused(per_tenant(100, "a\nb" + "x" * 10_000), 90, 10, 25), "USD")
    assert len(message) < 300
    assert message.isprintable()
