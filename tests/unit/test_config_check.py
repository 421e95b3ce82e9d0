# ruff: noqa: E501 - texts are compared as they are printed
"""What is wrong in a file: line, key, what was found, what is allowed; every mistake of it."""

import tomllib

import pytest
from checked_settings import ONE, problems, settings

from connector_sdk.wire.daemon_connection import MAX_NAME_CHARACTERS
from vastar_runtime.config import check as check_module
from vastar_runtime.config.check import MAX_TENANT_CHARACTERS, check
from vastar_runtime.config.lines import key_lines
from vastar_runtime.config.policy import Rate

TOP = "listen, admission, policy, usage, shared_limits, access, credential, price, budget, scope"
STAGES = "deadline, concurrency, egress, token_limit, rate_limit, circuit_breaker, retry"
NINES = "9" * 4000
TWO = ONE + "retry.max_retries = 0\n"
LONG = "t" * 257
MS = "a whole number of milliseconds from 1 to 315360000000 (10 years)"
RATE = 'a string such as "100/s", "60/min" or "1000/h", its number from 1 to 1000000, or "none"'
SHUTS_OUT = "keeps the socket's own user out, who must be able to write: such as 0600 or 0660"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("policy.deadline.connect_timeout_ms = 0", f"found 0; allowed: {MS}"),
        ("policy.deadline.connect_timeout_ms = -1", f"found -1; allowed: {MS}"),
        ("policy.deadline.connect_timeout_ms = 1000000000000", f"found 1000000000000; allowed: {MS}"),
        ("policy.deadline.connect_timeout_ms = 315360000001", f"found 315360000001; allowed: {MS}"),
        ("policy.deadline.connect_timeout_ms = 1.5", f"found 1.5; allowed: {MS}"),
        ("policy.deadline.connect_timeout_ms = true", f"found true; allowed: {MS}"),
        ("policy.deadline.connect_timeout_ms = 'none'", f"found 'none'; allowed: {MS}"),
        ("policy.deadline.max_duration_ms = 'nine'", f"found 'nine'; allowed: {MS}, or \"none\""),
        ("policy.deadline.connect_timeout_ms = '10s'", f"found '10s'; allowed: {MS}; write milliseconds: 10000"),
        ("policy.deadline.connect_timeout_ms = '1.5 min'", f"found '1.5 min'; allowed: {MS}; write milliseconds: 90000"),
        ("policy.deadline.connect_timeout_ms = '250ms'", f"found '250ms'; allowed: {MS}; write milliseconds: 250"),
        ("policy.deadline.connect_timeout_ms = '2h'", f"found '2h'; allowed: {MS}; write milliseconds: 7200000"),
        ("policy.deadline.connect_timeout_ms = '10 parsecs'", f"found '10 parsecs'; allowed: {MS}"),
        ("policy.deadline.connect_timeout_ms = '500'", f"found '500'; allowed: {MS}; write 500, without quotes"),
        (f"policy.deadline.connect_timeout_ms = {NINES}", f"found a number of more than 20 digits; allowed: {MS}"),
        (f"policy.deadline.connect_timeout_ms = '{NINES}s'", f"found {'9' * 80!r}… (4001 characters); allowed: {MS}"),
        ("policy.deadline.connect_timeout_ms = 07:32:00", f"found a date or time; allowed: {MS}"),
        ("policy.deadline.connect_timeout_ms = [1]", f"found an array; allowed: {MS}"),
        ("policy.deadline.connect_timeout_ms = { s = 1 }", f"found a table; allowed: {MS}"),
        ("policy.concurrency.max_per_tenant = 0", 'found 0; allowed: a whole number from 1 to 1000000, or "none"'),
        ("policy.concurrency.max_per_tenant = 1000001", 'found 1000001; allowed: a whole number from 1 to 1000000, or "none"'),
        ("policy.concurrency.max_queued_per_tenant = -1", "found -1; allowed: a whole number from 0 to 1000000"),
        ("policy.concurrency.max_queued_per_tenant = 'none'", "found 'none'; allowed: a whole number from 0 to 1000000; 0: none waits"),
        ("policy.concurrency.max_queued_per_tenant = 10e2", "found 1000.0; allowed: a whole number from 0 to 1000000"),
        ("admission.max_concurrent = false", 'found false; allowed: a whole number from 1 to 1000000, or "none"'),
        ("admission.max_queued = 1_000_000_000_000", "found 1000000000000; allowed: a whole number from 0 to 1000000"),
        ("admission.max_queued = 'none'", "found 'none'; allowed: a whole number from 0 to 1000000; 0: none waits"),
        ("policy.retry.max_retries = 'none'", "found 'none'; allowed: a whole number from 0 to 1000000; 0: no retries"),
        ("policy.retry.max_retries = '1'", "found '1'; allowed: a whole number from 0 to 1000000; write 1, without quotes"),
        ("policy.retry.budget_minimum = 'none'", "found 'none'; allowed: a whole number from 0 to 1000000; 0: only budget_ratio counts"),
        ("policy.retry.max_retries = true", "found true; allowed: a whole number from 0 to 1000000"),
        ("policy.circuit_breaker.minimum_requests = 0", "found 0; allowed: a whole number from 1 to 1000000"),
        ("policy.circuit_breaker.consecutive_failures = 0", 'found 0; allowed: a whole number from 1 to 1000000, or "none"'),
        ("policy.circuit_breaker.enabled = 1", "found 1; allowed: true or false"),
        ("policy.circuit_breaker.enabled = 'false'", "found 'false'; allowed: true or false; write false, without quotes"),
        ("policy.circuit_breaker.enabled = 'none'", "found 'none'; allowed: true or false"),
        ("policy.circuit_breaker.failure_rate = 0", 'found 0; allowed: a number above 0 and at most 1, or "none"'),
        ("policy.circuit_breaker.failure_rate = 0.0", 'found 0.0; allowed: a number above 0 and at most 1, or "none"'),
        ("policy.circuit_breaker.failure_rate = 50", 'found 50; allowed: a number above 0 and at most 1, or "none"'),
        ("policy.circuit_breaker.failure_rate = nan", 'found nan; allowed: a number above 0 and at most 1, or "none"'),
        ("policy.circuit_breaker.failure_rate = true", 'found true; allowed: a number above 0 and at most 1, or "none"'),
        ("policy.retry.budget_ratio = -0.1", "found -0.1; allowed: a number from 0 to 1"),
        ("policy.retry.budget_ratio = inf", "found inf; allowed: a number from 0 to 1"),
        ("policy.retry.budget_ratio = '0.2'", "found '0.2'; allowed: a number from 0 to 1; write 0.2, without quotes"),
        ("policy.retry.budget_ratio = '20%'", "found '20%'; allowed: a number from 0 to 1"),
        ("policy.rate_limit.per_tenant = 100", f"found 100; allowed: {RATE}"),
        ("policy.rate_limit.per_tenant = '100'", f"found '100'; allowed: {RATE}"),
        ("policy.rate_limit.per_tenant = '0/s'", f"found '0/s'; allowed: {RATE}"),
        ("policy.rate_limit.per_tenant = '1000001/s'", f"found '1000001/s'; allowed: {RATE}"),
        ("policy.rate_limit.per_tenant = '1000000000000/h'", f"found '1000000000000/h'; allowed: {RATE}"),
        ("policy.rate_limit.per_tenant = '-5/s'", f"found '-5/s'; allowed: {RATE}"),
        ("policy.rate_limit.per_tenant = '1.5/s'", f"found '1.5/s'; allowed: {RATE}"),
        ("policy.rate_limit.per_tenant = '100 / s'", f"found '100 / s'; allowed: {RATE}"),
        ("policy.rate_limit.per_tenant = '100/day'", f"found '100/day'; allowed: {RATE}"),
        ("policy.rate_limit.per_tenant = '²/s'", f"found '²/s'; allowed: {RATE}"),
        ("policy.rate_limit.per_tenant = ''", f"found ''; allowed: {RATE}"),
        ("policy.rate_limit.per_tenant_burst = 0", 'found 0; allowed: a whole number from 1 to 1000000, or "none"'),
        ("listen.socket = 'run/a.sock'", "found 'run/a.sock'; allowed: a string: the absolute path of a socket"),
        ("listen.socket = ''", "found ''; allowed: a string: the absolute path of a socket"),
        ("listen.socket = 'none'", "found 'none'; allowed: a string: the absolute path of a socket"),
        ('listen.socket = "/a\\u0000b"', "'/a\\x00b' is no path of a socket"),
        (f"listen.socket = '/{'x' * 200}'", "the path has 201 bytes; the system allows 107 for a socket: choose a shorter one"),
        ("listen.socket_mode = 0o600", 'found 384; allowed: a string of octal digits, such as "0600" or "0660"'),
        ("listen.socket_mode = '0888'", "'0888' is no octal permission such as 0600 or 0660"),
        ("listen.socket_mode = '1777'", "'1777' is no octal permission such as 0600 or 0660"),
        ("listen.socket_mode = '0066'", f"'0066' {SHUTS_OUT}"),
        ("listen.socket_mode = '0460'", f"'0460' {SHUTS_OUT}"),
        ("listen.socket_group = 1000", 'found 1000; allowed: a string: the name or the number of a group, or "none"'),
        ("listen.socket_group = ''", "found ''; allowed: a string: the name or the number of a group, or \"none\""),
        ("listen.tcp_port = 65536", 'found 65536; allowed: a whole number from 0 to 65535, or "none"'),
        ("listen.tcp_port = '5000'", "found '5000'; allowed: a whole number from 0 to 65535, or \"none\"; write 5000, without quotes"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used(line: str, text: str) -> None:
    key = line.partition(" =")[0]
    assert problems(f"\n{line}\n") == [f"2: {key}: {text}"]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("policy.deadline.connect_timeout_ms = 1", 1),
        ("policy.deadline.connect_timeout_ms = 315360000000", 315_360_000_000),
        ("policy.deadline.max_duration_ms = 'none'", None),
        ("policy.deadline.max_duration_ms = 0xff", 255),
        ("policy.concurrency.max_per_tenant = 1_000_000", 1_000_000),
        ("policy.concurrency.max_queued_per_tenant = 0", 0),
        ("admission.max_queued = 0", 0),
        ("policy.retry.max_retries = 0", 0),
        ("policy.retry.budget_minimum = 0", 0),
        ("policy.retry.budget_ratio = 0", 0.0),
        ("policy.retry.budget_ratio = 1", 1.0),
        ("policy.circuit_breaker.failure_rate = 1e-9", 1e-9),
        ("policy.circuit_breaker.failure_rate = 1", 1.0),
        ("policy.circuit_breaker.enabled = false", False),
        ("policy.rate_limit.per_tenant = '100/s'", Rate(100, 1)),
        ("policy.rate_limit.per_origin = '60/min'", Rate(60, 60)),
        ("policy.rate_limit.per_tenant_and_origin = '1000000/h'", Rate(1_000_000, 3600)),
        ("policy.rate_limit.per_tenant = 'none'", None),
        ("listen.tcp_port = 0", 0),
        ("listen.tcp_port = 'none'", None),
        ("listen.socket_group = '1000'", "1000"),
        ("listen.socket_mode = '0660'", 0o660),
        ("listen.socket_mode = '600'", 0o600),
    ],
)
def test_a_value_at_its_limit(line: str, value: object) -> None:
    found: object = settings(line)
    for part in line.partition(" =")[0].split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[policy.retry]\nmax_retrys = 1", "2: policy.retry.max_retrys: unknown key; did you mean max_retries?"),
        ("[policy.deadline]\nidle_timeout = 1", "2: policy.deadline.idle_timeout: unknown key; did you mean idle_timeout_ms?"),
        ("[policy.retry]\nwindow_ms = 1", "2: policy.retry.window_ms: unknown key; it belongs in [policy.circuit_breaker]"),
        ("[policy]\ntcp_port = 1", "2: policy.tcp_port: unknown key; it belongs in [listen]"),
        ("[retry]\nmax_retries = 1", "1: retry: unknown table; it belongs in [policy]"),
        ("[policy.rety]\nmax_retries = 1", "1: policy.rety: unknown table; did you mean retry?"),
        ("[polcy.retry]\nmax_retries = 1", "1: polcy: unknown table; did you mean policy?"),
        ("\n[[scopes]]\ntenant = 'a'", "2: scopes: unknown table; did you mean [[scope]]?"),
        ("[scopes.retry]\nmax_retries = 1", "1: scopes: unknown table; did you mean [scope.retry]?"),
        ("[policy.retry]\nenabled = false", "2: policy.retry.enabled: unknown key; max_retries = 0 turns retries off"),
        ("[policy.rate_limit]\nenabled = false", '2: policy.rate_limit.enabled: unknown key; a limit that is "none" is off'),
        ("[admission]\ndisabled = true", '2: admission.disabled: unknown key; a limit that is "none" is off'),
        ("[policy]\nenabled = false", f"2: policy.enabled: unknown key; known: {STAGES}"),
        ("[listen]\nenabled = false", "2: listen.enabled: unknown key; known: socket, socket_mode, socket_group, tcp_port, tcp_host, workers"),
        ("enabled = false", f"1: enabled: unknown key; known: {TOP}"),
        ("[policy.circuit_breaker]\nenable = false", "2: policy.circuit_breaker.enable: unknown key; did you mean enabled?"),
        ("[policy.circuit_breaker]\ndisabled = true", "2: policy.circuit_breaker.disabled: unknown key; enabled = false turns it off"),
        ("[policy.rate_limit]\nmax_per_tenant = 4", "2: policy.rate_limit.max_per_tenant: unknown key; did you mean per_tenant, or max_per_tenant in [policy.concurrency]?"),
        ("[policy.concurrency]\nmax_queued = 4", "2: policy.concurrency.max_queued: unknown key; did you mean max_queued_per_tenant, or max_queued in [admission]?"),
        ("x = 1", f"1: x: unknown key; known: {TOP}"),
        ("'a b' = 1", f"1: 'a b': unknown key; known: {TOP}"),
        ('"a\\nb".c = 1', f"1: 'a\\nb': unknown table; known: {TOP}"),
        (f"{'k' * 5000} = 1", f"1: {'k' * 80!r}… (5000 characters): unknown key; known: {TOP}"),
        ("policy = 3", "1: policy: found 3; allowed: a table, [policy]"),
        ("policy.retry = true", "1: policy.retry: found true; allowed: a table, [policy.retry]"),
        ("[[policy]]\nretry.max_retries = 1", "1: policy: found an array of tables; write [policy], with single brackets"),
        ("policy.retry = []", "1: policy.retry: found an array; allowed: a table, [policy.retry]"),
        ("scope = 3", "1: scope: found 3; allowed: tables that each begin with [[scope]]"),
        ("[scope]\ntenant = 'a'", "1: scope: found a table; allowed: tables that each begin with [[scope]]; write double brackets"),
        ("[scope.retry]\nmax_retries = 1", "1: scope: [scope.retry] must come after a [[scope]], which says for whom it holds"),
        ("scope = [1]", "1: scope: found an array; allowed: tables that each begin with [[scope]]"),
    ],
)  # fmt: skip
def test_a_key_or_table_that_there_is_not(text: str, expected: str) -> None:
    assert problems(text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[scope]]\nretry.max_retries = 1", "1: [[scope]] number 1: it names neither tenant nor origin; what holds for all belongs in [policy]"),
        ("[[scope]]\ntenat = 'a'\norigin = 'http://h'", "2: [[scope]] number 1: tenat: unknown key; did you mean tenant?"),
        ("[[scope]]\ntenant = 7", "2: [[scope]] number 1: tenant: found 7; allowed: a string, the tenant's id"),
        ("[[scope]]\ntenant = 'none'\nretry = 1", "3: [[scope]] number 1: retry: found 1; allowed: a table, [scope.retry]"),
        (ONE + "max_retries = 1", "3: [[scope]] number 1: max_retries: unknown key; it belongs in [scope.retry]"),
        (ONE + "[scope.retry]\nconnect_timeout_ms = 1", "4: [[scope]] number 1: retry.connect_timeout_ms: unknown key; it belongs in [scope.deadline]"),
        (ONE + "[scope.admission]\nmax_queued = 1", f"3: [[scope]] number 1: admission: unknown table; known: tenant, origin, {STAGES}"),
        (ONE + "retry = { max_retries = 1,\tmax_backoff_ms = 0 }", f"3: [[scope]] number 1: retry.max_backoff_ms: found 0; allowed: {MS}"),
        (ONE, "1: [[scope]] number 1: it sets nothing; take it out, or say what differs"),
        ("[[scope]]\norigin = 'http://h'\n[scope.retry]", "1: [[scope]] number 1: it sets nothing; take it out, or say what differs"),
        (f"[[scope]]\ntenant = '{LONG}'\nretry.max_retries = 1", f"2: [[scope]] number 1: tenant: found {LONG[:80]!r}… (257 characters); allowed: at most 256 characters, as requests with a longer one are refused"),
        (ONE + "[[scope.retry]]\nmax_retries = 1", "3: [[scope]] number 1: retry: found an array of tables; write [scope.retry], with single brackets"),
        (ONE + "enabled = false", f"3: [[scope]] number 1: enabled: unknown key; known: tenant, origin, {STAGES}"),
        (ONE + "retry.enabled = false", "3: [[scope]] number 1: retry.enabled: unknown key; max_retries = 0 turns retries off"),
        (ONE + "max_per_tenant = 1", "3: [[scope]] number 1: max_per_tenant: unknown key; it belongs in [scope.concurrency]"),
        ("scope = [{ tenant = 'a', retry.max_retries = 0 }, { tenant = 'a', retry.max_retries = 0 }]", "1: [[scope]] number 2: the same tenant and origin as [[scope]] number 1 (line 1); put their keys into one"),
        (TWO + "[[scope]]\norigin = 'http://h'\nretry.max_retries = 0\n" + TWO, "7: [[scope]] number 3: the same tenant and origin as [[scope]] number 1 (line 1); put their keys into one"),
        (
            "[[scope]]\norigin = 'https://h'\nretry.max_retries = 0\n[[scope]]\norigin = 'HTTPS://H.:443'\nretry.max_retries = 0",
            "4: [[scope]] number 2: the same tenant and origin as [[scope]] number 1 (line 1); put their keys into one",
        ),
        (
            "[[scope]]\norigin = 'http://h'\nrate_limit.per_tenant = '1/s'",
            "3: [[scope]] number 1: rate_limit.per_tenant: per_tenant counts all requests of a tenant, whatever the origin: put it into a scope without an origin, or into [policy]",
        ),
        (
            ONE + "origin = 'http://h'\nconcurrency.max_queued_per_tenant = 1",
            "4: [[scope]] number 1: concurrency.max_queued_per_tenant: max_queued_per_tenant counts all requests of a tenant, whatever the origin: put it into a scope without an origin, or into [policy]",
        ),
        (
            ONE + "rate_limit.per_origin_burst = 5",
            "3: [[scope]] number 1: rate_limit.per_origin_burst: per_origin_burst counts the requests of all tenants together: put it into a scope without a tenant, or into [policy]",
        ),
    ],
)  # fmt: skip
def test_a_scope_that_cannot_be(text: str, expected: str) -> None:
    assert problems(text) == [expected]


def test_each_limit_has_a_scope_that_it_may_stand_in() -> None:
    tree = settings(
        ONE
        + "concurrency.max_per_tenant = 1\nrate_limit.per_tenant = '1/s'\nrate_limit.per_tenant_and_origin = '1/s'\n"
        + "[[scope]]\norigin = 'http://h'\nrate_limit.per_origin = '1/s'\nrate_limit.per_tenant_and_origin = '2/s'\n"
        + ONE
        + "origin = 'http://h'\nrate_limit.per_tenant_and_origin = '3/s'"
    )
    assert [len(scope.changes) for scope in tree.scopes] == [3, 2, 1]


def test_every_mistake_is_told_in_the_order_of_the_file() -> None:
    text = """
    [[scope]]
    tenant = "a"
    origin = "no origin"
    retry.max_retries = -1
    [[scope]]
    tenant = "b"
    concurrency.max_per_tenant = 0
    [[scope]]
    tenant = "c"
    [policy.retry]
    max_retry = 1
    first_backoff_ms = 20000
    [listen]
    tcp_port = -1
    """
    assert [int(problem.split(":")[0]) for problem in problems(text)] == [4, 5, 8, 9, 12, 13, 15]


def test_what_can_be_used_is_there_beside_what_cannot() -> None:
    text = "[listen]\nsocket = '/run/a.sock'\ntcp_port = -1\n[policy]\nx = 1"
    checked = check(tomllib.loads(text), key_lines(text))
    assert len(checked.problems) == 2
    assert checked.settings.listen.socket_path == "/run/a.sock"
    assert checked.lines == {("listen", "socket"): 2}


def test_there_are_no_more_patterns_than_can_be_compared_with_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "MAX_PATTERNS", 100)
    scope = "[[scope]]\norigin = 'http://h{}'\nretry.first_backoff_ms = 1\n"
    most = "".join(scope.format(number) for number in range(100))
    assert len(settings(most).scopes) == 100
    many = most + "".join(scope.format(number) for number in range(100, 105))
    number = 101
    assert problems(many) == [
        f"301: [[scope]] number {number}: more than 100 scopes with an origin, of one tenant or of all"
    ]


@pytest.mark.unmeasured
def test_ten_thousand_tenants_may_each_have_a_scope() -> None:
    text = "".join(f"[[scope]]\ntenant = '{number}'\nretry.first_backoff_ms = 1\n" for number in range(10_000))
    assert len(settings(text).scopes) == 10_000


@pytest.mark.unmeasured
def test_a_file_of_nothing_but_mistakes_is_told_as_one() -> None:
    found = problems("".join(f"key_{number} = 1\n" for number in range(20_000)))
    assert len(found) == 20_000
    assert found[0] == f"1: key_0: unknown key; known: {TOP}"
    assert found[-1] == "20000: key_19999: unknown key"


def test_a_tenants_id_may_be_as_long_as_the_daemon_takes_it() -> None:
    assert MAX_TENANT_CHARACTERS == MAX_NAME_CHARACTERS
    assert settings(f"[[scope]]\ntenant = '{'ü' * 256}'\nretry.max_retries = 0").scopes[0].tenant == "ü" * 256
