# ruff: noqa: E501 - texts are compared as they are printed
"""Access, egress, credentials, prices, budgets, usage and shared limits in a file: what may stand there."""

import pytest
from checked_settings import problems, settings

from vastar_runtime.config.settings import Settings, needs_restart, reloaded

ACCESS = "[[access]]\n"
CREDENTIAL = "[[credential]]\nname = 'a'\norigins = ['https://a']\n"
ANYBODY = 'whoever has such a name would get the secret: after its last * a host needs a domain of at least two parts, as in "https://*.example.com"'
BUDGET = "[[budget]]\nname = 'a'\n"
ALLOWED_RULES = 'an origin such as "https://*.openai.com", or a network such as "10.0.0.0/8", "192.0.2.7" or "fd00::/8"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # who may speak
        (ACCESS + "users = ['root']", "1: [[access]] number 1: it has no tenants"),
        (ACCESS + "tenants = ['a']", "1: [[access]] number 1: it names nobody: set users, groups, or tcp = true"),
        (
            ACCESS + "tenants = 'a'\ntcp = true",
            "2: [[access]] number 1: tenants: found 'a'; allowed: an array of tenant ids, with * for any characters; write ['a']",
        ),
        (
            ACCESS + "tenants = []\ntcp = true",
            "2: [[access]] number 1: tenants: it is empty; allowed: an array of tenant ids, with * for any characters",
        ),
        (
            ACCESS + "tenants = [1]\ntcp = true",
            "2: [[access]] number 1: tenants: found 1; allowed: strings of up to 256 characters",
        ),
        (
            ACCESS + "tenants = ['a']\nusers = ['no-such-user']",
            "3: [[access]] number 1: users: there is no user 'no-such-user' on this machine",
        ),
        (
            ACCESS + "tenants = ['a']\nusers = [true]",
            "3: [[access]] number 1: users: found true; allowed: names and numbers of users",
        ),
        (
            ACCESS + "tenants = ['a']\nusers = ['99999999999']",
            "3: [[access]] number 1: users: found '99999999999'; a user's number is below 4294967295",
        ),
        (
            ACCESS + "tenants = ['a']\ngroups = ['no-such-group']",
            "3: [[access]] number 1: groups: there is no group 'no-such-group' on this machine",
        ),
        (
            ACCESS + "tenants = ['a']\ntcp = 'true'",
            "3: [[access]] number 1: tcp: found 'true'; allowed: true or false; write true, without quotes",
        ),
        (
            "[access]\ntenants = ['a']",
            "1: access: found a table; allowed: tables that each begin with [[access]]; write double brackets",
        ),
        # where to
        (
            "policy.egress.allow = 'https://a'",
            "1: policy.egress.allow: found 'https://a'; allowed: an array of origins and networks, or \"none\"; write ['https://a']",
        ),
        (
            "policy.egress.deny = ['10.0.0.1/8']",
            f"1: policy.egress.deny: found '10.0.0.1/8'; allowed: {ALLOWED_RULES}; the network is '10.0.0.0/8'",
        ),
        (
            "policy.egress.deny = ['example.com']",
            f"1: policy.egress.deny: found 'example.com'; allowed: {ALLOWED_RULES}",
        ),
        (
            "policy.egress.deny = ['fe80::1%eth0']",
            f"1: policy.egress.deny: found 'fe80::1%eth0'; allowed: {ALLOWED_RULES}; an address has no zone here",
        ),
        ("policy.egress.private = true", "1: policy.egress.private: found true; allowed: 'allow', 'deny'"),
        # with which key
        ("[[credential]]\nname = 'a'\nenv = 'A'", "1: [[credential]] number 1: it has no origins"),
        (
            CREDENTIAL,
            "1: [[credential]] number 1: it has none of them; a secret comes from one of env, file and command",
        ),
        (
            CREDENTIAL + "env = 'A'\nfile = '/a'",
            "1: [[credential]] number 1: it has env and file; a secret comes from one of env, file and command",
        ),
        (
            CREDENTIAL + "env = 'sk-live-1'",
            "4: [[credential]] number 1: env: it is no name of an environment variable (letters, digits, _); the secret itself does not belong here",
        ),
        (
            CREDENTIAL + "file = 'sk-live-1'",
            "4: [[credential]] number 1: file: it is no absolute path of a file; the secret itself does not belong here",
        ),
        (
            CREDENTIAL + "command = 'pass show a'",
            '4: [[credential]] number 1: command: allowed: an array of strings, a program and its arguments: ["/usr/bin/pass", "show", "openai"]',
        ),
        (
            CREDENTIAL + "command = ['pass', 'show']",
            "4: [[credential]] number 1: command: its first string is no absolute path of a program; the secret itself does not belong here",
        ),
        (
            CREDENTIAL + "env = 'A'\nheader = 'Content-Length'",
            "5: [[credential]] number 1: header: Content-Length is not for a secret",
        ),
        (
            CREDENTIAL + "env = 'A'\nheader = 'x y'",
            '5: [[credential]] number 1: header: it is no name of a header field, such as "Authorization" or "x-api-key"',
        ),
        (
            CREDENTIAL + "env = 'A'\nscheme = 'sk live'",
            '5: [[credential]] number 1: scheme: it is no authentication scheme, such as "Bearer"; allowed: one, "auto", or "none"',
        ),
        (
            "[[credential]]\nname = 'a'\norigins = ['http://a.example']\nenv = 'A'",
            "3: [[credential]] number 1: origins: found 'http://a.example'; a secret goes over https, or over http to this machine: write 'https://a.example'",
        ),
        (
            "[[credential]]\nname = 'a'\norigins = ['*://a.example']\nenv = 'A'",
            "3: [[credential]] number 1: origins: found '*://a.example'; a secret goes over https, or over http to this machine: write 'https://a.example'",
        ),
        (
            CREDENTIAL + "env = 'A'\n" + CREDENTIAL + "env = 'B'",
            "6: [[credential]] number 2: name: [[credential]] number 1 (line 1) has the same",
        ),
        (
            CREDENTIAL.replace("https://a", "https://*") + "env = 'A'",
            f"3: [[credential]] number 1: origins: found 'https://*'; {ANYBODY}",
        ),
        (
            CREDENTIAL.replace("https://a", "https://*.com") + "env = 'A'",
            f"3: [[credential]] number 1: origins: found 'https://*.com'; {ANYBODY}",
        ),
        (
            CREDENTIAL.replace("https://a", "https://api.a.com*") + "env = 'A'",
            f"3: [[credential]] number 1: origins: found 'https://api.a.com*'; {ANYBODY}",
        ),
        (
            "[[credential]]\nname = 'a'\norigins = ['http://192.0.2.1:81', 'https://b/c']\nenv = 'A'",
            "3: [[credential]] number 1: origins: found 'http://192.0.2.1:81'; a secret goes over https, or over http to this machine: write 'https://192.0.2.1:81'; and found 'https://b/c'; allowed: SCHEME://HOST or SCHEME://HOST:PORT; the scheme is http, https or *, host and port may hold *; an origin has no path: write 'https://b'",
        ),
        ("credential = 'sk-live-1'", "1: credential: allowed: tables that each begin with [[credential]]"),
        # at what cost
        (BUDGET + "cost = 1", "3: [[budget]] number 1: cost: nothing costs anything: there is no [[price]]"),
        ("[[price]]\nprompt_per_million = 1", "1: [[price]] number 1: it has no model"),
        (
            "[[price]]\nmodel = '*'\nprompt_per_million = -1",
            "3: [[price]] number 1: prompt_per_million: found -1; allowed: a number from 0 up to 1000000",
        ),
        (
            "[[price]]\nmodel = '*'\nprompt_per_million = nan",
            "3: [[price]] number 1: prompt_per_million: found nan; allowed: a number from 0 up to 1000000",
        ),
        (BUDGET, "1: [[budget]] number 1: it limits nothing: set tokens or cost"),
        (BUDGET + "tokens = 1\ncost = 1.5", "1: [[budget]] number 1: it has both tokens and cost; make it two"),
        (
            BUDGET + "tokens = 0",
            "3: [[budget]] number 1: tokens: found 0; allowed: a whole number from 1 to 1000000000000000",
        ),
        (
            BUDGET + "cost = 0",
            '3: [[budget]] number 1: cost: found 0; allowed: a number above 0 up to 4000000, or "none"',
        ),
        (BUDGET + "cost = 1\nper = 'week'", "4: [[budget]] number 1: per: found 'week'; allowed: 'day', 'month'"),
        (
            "policy.token_limit.per_tenant = '10000000000/min'",
            '1: policy.token_limit.per_tenant: found \'10000000000/min\'; allowed: a string such as "100/s", "60/min" or "1000/h", its number from 1 to 1000000000, or "none"',
        ),
        ("usage.file = 'usage.db'", '1: usage.file: found \'usage.db\'; allowed: an absolute path, "auto", or "none"'),
        (
            "usage.currency = 'dollar'",
            "1: usage.currency: found 'dollar'; allowed: three capitals, such as \"USD\" (ISO 4217)",
        ),
        # where it is counted
        (
            "shared_limits.backend = 'localhost:6379'",
            '1: shared_limits.backend: found \'localhost:6379\'; allowed: "redis://HOST:PORT/DATABASE", "rediss://…" for TLS, "unix:///PATH", or "none"',
        ),
        (
            "shared_limits.backend = 'redis://:hunter2@h'",
            "1: shared_limits.backend: it holds '@'; a password does not belong here: name its variable in password_env",
        ),
        ("shared_limits.fail = 'close'", "1: shared_limits.fail: found 'close'; allowed: 'open', 'closed', 'local'"),
        # where clients connect
        (
            "listen.tcp_host = 'localhost'",
            '1: listen.tcp_host: found \'localhost\'; allowed: an IP address, such as "127.0.0.1" or "::1"',
        ),
        (
            "listen.tcp_host = 'fe80::1%eth0'",
            '1: listen.tcp_host: found \'fe80::1%eth0\'; allowed: an IP address, such as "127.0.0.1" or "::1"',
        ),
    ],
)
def test_what_cannot_be(text: str, expected: str) -> None:
    assert problems(text) == [expected]


def test_a_secret_that_was_put_where_its_place_belongs_is_not_quoted() -> None:
    for key in ("env", "file", "command", "header", "scheme"):
        (told,) = problems(
            CREDENTIAL + ("" if key in ("env", "file", "command") else "env = 'A'\n") + f"{key} = 'sk live 1'"
        )
        assert "sk live" not in told


def test_places_and_names_are_written_in_one_form() -> None:
    found = settings(
        "[policy.egress]\nallow = ['HTTPS://A.example:443', '10.0.0.0/8', '[::1]', '192.0.2.7']\n"
        "[[credential]]\nname = 'a'\norigins = ['https://A.example']\nheader = 'X-Api-Key'\nenv = 'A'\n"
        "[[access]]\nusers = ['root', 0, '00']\ntenants = ['a**b']\n"
    )
    assert found.policy.egress.allow == ("https://a.example", "10.0.0.0/8", "::1/128", "192.0.2.7/32")
    assert found.credentials[0].header == "x-api-key"
    assert found.access[0].users == ("0",)
    assert found.access[0].tenants == ("a*b",)


def test_a_scope_may_close_places_and_limit_tokens() -> None:
    found = settings(
        "[[scope]]\ntenant = 'a'\n[scope.egress]\nallow = ['https://a']\nprivate = 'deny'\n"
        "[scope.token_limit]\nper_tenant = '100000/min'\n"
    )
    assert [(change.stage, change.key) for change in found.scopes[0].changes] == [
        ("egress", "allow"),
        ("egress", "private"),
        ("token_limit", "per_tenant"),
    ]


@pytest.mark.parametrize("place", ["redis://h", "redis://h:1/2", "rediss://[::1]/", "unix:///run/a", "unix:///a?db=3"])
def test_where_redis_may_be(place: str) -> None:
    assert settings(f"shared_limits.backend = '{place}'").shared_limits.backend == place


@pytest.mark.parametrize(
    "place", ["redis://", "redis://h:0", "redis://h/a", "unix://h/a", "unix://", "http://h", "redis://h?a"]
)
def test_where_redis_cannot_be(place: str) -> None:
    assert len(problems(f"shared_limits.backend = '{place}'")) == 1


def test_a_mistake_in_one_table_leaves_the_others() -> None:
    text = BUDGET + "tokens = 1\n" + "[[budget]]\nname = 'b'\n"
    assert problems(text) == ["4: [[budget]] number 2: it limits nothing: set tokens or cost"]


def test_what_is_opened_at_the_start_stays_until_a_restart() -> None:
    new = settings(
        "listen.tcp_host = '::1'\nusage.keep_days = 1\nshared_limits.fail = 'open'\nadmission.max_queued = 1"
    )
    assert needs_restart(Settings(), new) == ["listen.tcp_host", "usage.keep_days", "shared_limits.fail"]
    assert reloaded(Settings(), new) == settings("admission.max_queued = 1")
