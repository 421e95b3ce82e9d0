"""Rules of egress: which of them an origin and an address meet, and in which words they are denied."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.networks import rule_of
from vastar_runtime.config.policy import EgressPolicy
from vastar_runtime.errors import EgressDenied
from vastar_runtime.policies.egress import EgressGuard, address_guard

PRIVATE = EgressPolicy(private="deny")


def denied(policy: EgressPolicy, origin: str, *addresses: str) -> str | None:
    """Why an origin, found at these addresses, is not connected to at the first one; None: it is."""
    try:
        guard = address_guard(policy, origin)
    except EgressDenied as error:
        return error.message
    if guard is None:
        return None
    return guard.refusal(origin, addresses[0]) if addresses else None


def test_what_is_denied_will_be_denied_the_next_time_too() -> None:
    with pytest.raises(EgressDenied) as caught:
        address_guard(PRIVATE, "http://127.0.0.1")
    assert caught.value.error_class is ErrorClass.PERMANENT
    assert caught.value.retry_after_ms == 0


def test_a_policy_that_limits_nothing_judges_nothing() -> None:
    assert address_guard(EgressPolicy(), "http://127.0.0.1") is None
    assert not EgressGuard(EgressPolicy()).judges_addresses


@pytest.mark.parametrize(
    ("policy", "judges"),
    [
        (EgressPolicy(deny=("https://a.example",)), False),
        (EgressPolicy(allow=("https://a.example",)), False),
        (EgressPolicy(allow=()), False),
        (EgressPolicy(deny=("10.0.0.0/8",)), True),
        (EgressPolicy(allow=("10.0.0.0/8",)), True),
        (EgressPolicy(private="deny"), True),
    ],
)
def test_addresses_are_judged_only_where_a_rule_is_about_them(policy: EgressPolicy, judges: bool) -> None:
    """Where none is, an https proxy goes on looking names up itself."""
    assert EgressGuard(policy).judges_addresses is judges
    if not judges and policy.allow != ():
        assert address_guard(policy, "https://a.example" if policy.allow else "https://b.example") is None


def test_the_same_rules_are_taken_apart_once() -> None:
    rules = {"deny": ("10.0.0.0/8",), "private": "deny"}
    first = address_guard(EgressPolicy(**rules), "https://a.example")
    assert first is address_guard(EgressPolicy(**rules), "https://b.example")


# --- deny ---


def test_a_denied_origin_is_named_with_its_rule() -> None:
    policy = EgressPolicy(deny=("https://y.example", "https://*.example"))
    assert (
        denied(policy, "https://x.example")
        == 'egress denies https://x.example: it matches "https://*.example" of egress.deny'
    )
    assert denied(policy, "https://x.example:8443") is None
    assert denied(policy, "http://x.example") is None


def test_a_denied_network_is_named_with_the_address_that_is_in_it() -> None:
    policy = EgressPolicy(deny=("10.0.0.0/8", "10.1.0.0/16", "fd00::/8"))
    assert (
        denied(policy, "https://api.example.com", "10.1.2.3")
        == 'egress denies https://api.example.com (10.1.2.3): it is in "10.1.0.0/16" of egress.deny'
    )
    assert denied(policy, "http://10.2.0.1:81") == (
        'egress denies http://10.2.0.1:81: it is in "10.0.0.0/8" of egress.deny'
    )
    assert denied(policy, "http://[fd12::1]") == 'egress denies http://[fd12::1]: it is in "fd00::/8" of egress.deny'
    assert denied(policy, "https://api.example.com", "11.0.0.1") is None
    assert denied(policy, "http://127.0.0.1") is None


@pytest.mark.parametrize(
    "address",
    [
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b:1::a00:1",  # a prefix of 96 bits
        "64:ff9b:1:a00:0:100::",  # of 48
        "64:ff9b:1:a:0:1::",  # of 56
        "64:ff9b:1:2:a:0:100::",  # of 64
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "2002:a00:1::1",
        "2001:0:a00:1::1",  # Teredo's server
        "2001:0:808:808:0:0:f5ff:fffe",  # its client
        "2a00:1450::5efe:a00:1",  # ISATAP
        "2a00:1450::200:5efe:a00:1",
        "fe80::5efe:a00:1%eth0",
    ],
)
def test_a_denied_network_is_found_inside_ipv6_addresses(address: str) -> None:
    policy = EgressPolicy(deny=("10.0.0.1/32",))
    refusal = denied(policy, "https://api.example.com", address)
    assert refusal is not None
    assert refusal.endswith('it leads to 10.0.0.1, which is in "10.0.0.1/32" of egress.deny')


def test_a_network_of_ipv6_may_be_denied_that_only_carries_ipv4() -> None:
    for network, address in (("::ffff:0:0/96", "::ffff:8.8.8.8"), ("64:ff9b::/96", "64:ff9b::808:808")):
        refusal = denied(EgressPolicy(deny=(network,)), "http://x.example", address)
        assert refusal is not None
        assert f'"{network}" of egress.deny' in refusal


def test_linux_takes_this_host_for_a_way_to_itself() -> None:
    policy = EgressPolicy(deny=("127.0.0.0/8", "::1/128"))
    assert denied(policy, "http://0.0.0.0:80", "0.0.0.0") is not None
    assert denied(policy, "http://[::]") is not None
    mapped = denied(policy, "http://x.example", "::ffff:0.0.0.0")
    assert mapped is not None
    assert mapped.endswith('it leads to 127.0.0.1, which is in "127.0.0.0/8" of egress.deny')


def test_deny_wins_over_allow() -> None:
    policy = EgressPolicy(
        allow=("https://*.example", "10.0.0.0/8"), deny=("https://x.example", "10.0.0.1/32"), private="deny"
    )
    assert denied(policy, "https://y.example", "10.0.0.2") is None
    assert denied(policy, "https://x.example", "8.8.8.8") is not None
    assert denied(policy, "https://y.example", "10.0.0.1") is not None


# --- allow ---


def test_what_no_rule_allows_is_denied_by_its_origin_alone_where_rules_are_origins() -> None:
    policy = EgressPolicy(allow=("https://*.openai.com",))
    assert denied(policy, "https://api.openai.com") is None
    for origin in ("https://openai.com", "http://api.openai.com", "https://api.openai.com:444", "https://8.8.8.8"):
        assert denied(policy, origin) == f"egress denies {origin}: it is not in egress.allow"


def test_an_empty_allow_allows_nothing() -> None:
    assert denied(EgressPolicy(allow=()), "https://a") == "egress denies https://a: it is not in egress.allow"


def test_a_name_is_allowed_by_its_origin_or_by_its_address() -> None:
    policy = EgressPolicy(allow=("https://a.example", "8.8.8.0/24"))
    assert denied(policy, "https://a.example", "9.9.9.9") is None
    assert denied(policy, "https://b.example", "8.8.8.8") is None
    assert denied(policy, "https://b.example", "::ffff:8.8.8.8") is None
    assert denied(policy, "https://b.example", "64:ff9b::808:808") is None
    assert denied(policy, "https://b.example", "9.9.9.9") == (
        "egress denies https://b.example (9.9.9.9): it is not in egress.allow"
    )
    assert denied(policy, "http://8.8.8.8:81") is None
    assert denied(policy, "http://9.9.9.9") == "egress denies http://9.9.9.9: it is not in egress.allow"


def test_what_an_allowed_address_carries_must_be_allowed_as_well() -> None:
    policy = EgressPolicy(allow=("2002::/16",))
    assert denied(policy, "http://x.example", "2002:7f00:1::") == (
        "egress denies http://x.example (2002:7f00:1::): it leads to 127.0.0.1, which is not in egress.allow"
    )
    both = EgressPolicy(allow=("2002::/16", "127.0.0.0/8"), private="deny")
    assert denied(both, "http://x.example", "2002:7f00:1::") is None


# --- private ---


def test_a_private_address_is_denied_in_words_that_say_what_it_is() -> None:
    assert denied(PRIVATE, "https://api.example.com", "10.1.2.3") == (
        'egress denies https://api.example.com (10.1.2.3): it is private (10.0.0.0/8), and egress.private is "deny"'
    )
    assert denied(PRIVATE, "http://169.254.169.254") == (
        'egress denies http://169.254.169.254: it is cloud metadata (169.254.169.254), and egress.private is "deny"'
    )
    assert denied(PRIVATE, "http://[64:ff9b::7f00:1]:8080") == (
        "egress denies http://[64:ff9b::7f00:1]:8080: "
        'it leads to 127.0.0.1, which is loopback (127.0.0.0/8), and egress.private is "deny"'
    )


def test_a_network_in_allow_is_an_exception() -> None:
    policy = EgressPolicy(allow=("https://*", "127.0.0.1/32"), private="deny")
    assert denied(policy, "http://127.0.0.1:8080") is None
    assert denied(policy, "http://localhost:8080", "127.0.0.1") is None
    assert denied(policy, "https://x.example", "::ffff:127.0.0.1") is None
    assert denied(policy, "http://127.0.0.2:8080") is not None
    assert denied(policy, "https://x.example", "10.0.0.1") is not None


def test_loopback_of_ipv6_is_no_ipv4_address_in_disguise() -> None:
    policy = EgressPolicy(allow=("::1/128",), deny=("0.0.0.0/8",), private="deny")
    assert denied(policy, "http://[::1]:8080") is None
    assert denied(policy, "http://localhost", "::1") is None
    assert denied(policy, "http://[::2]:8080") is not None


def test_an_exception_for_a_prefix_is_none_for_what_it_carries() -> None:
    policy = EgressPolicy(allow=("https://*", "64:ff9b::/96", "::/96", "2002::/16"), private="deny")
    for address in ("64:ff9b::a9fe:a9fe", "::169.254.169.254", "2002:a9fe:a9fe::1"):
        assert denied(policy, "https://x.example", address) is not None


def test_an_origin_in_allow_is_an_exception_where_its_host_is_that_very_address() -> None:
    allow = ("http://127.0.0.1:8080", "http://[::1]:*", "http://*.0.0.3", "http://x")
    policy = EgressPolicy(allow=allow, private="deny")
    assert denied(policy, "http://127.0.0.1:8080", "127.0.0.1") is None
    assert denied(policy, "http://[::1]:99", "::1") is None
    assert denied(policy, "http://127.0.0.1:8081") is not None
    assert denied(policy, "http://127.0.0.1:8080", "127.0.0.2") is not None  # which it cannot be found at
    assert denied(policy, "http://127.0.0.3") is not None
    assert denied(policy, "http://x", "127.0.0.1") is not None


def test_an_exception_for_this_host_holds_for_the_address_that_the_kernel_makes_of_it() -> None:
    policy = EgressPolicy(allow=("http://0.0.0.0:8080",), private="deny")
    assert denied(policy, "http://0.0.0.0:8080", "127.0.0.1") is None
    assert denied(policy, "http://0.0.0.0:8081") is not None


def test_a_name_is_no_exception_as_it_may_be_made_to_lead_anywhere() -> None:
    policy = EgressPolicy(allow=("https://internal.example", "http://localhost:*"), private="deny")
    assert denied(policy, "https://internal.example", "8.8.8.8") is None
    assert denied(policy, "https://internal.example", "10.0.0.1") is not None
    assert denied(policy, "http://localhost:80", "127.0.0.1") is not None


# --- whatever comes ---


@pytest.mark.parametrize("address", ["", "localhost", "1.2.3", "::g", "8.8.8.8:80", "x" * 5000])
def test_what_is_no_address_is_denied(address: str) -> None:
    refusal = denied(PRIVATE, "http://x.example", address)
    assert refusal is not None
    assert refusal.endswith("this is no IP address")
    assert len(refusal) < 200


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_judged_alike_however_ipv6_writes_it(number: int) -> None:
    def judged(address: int) -> bool:
        return denied(PRIVATE, "https://x.example", str(ipaddress.ip_address(address))) is None

    plain = judged(number)
    assert judged(0xFFFF << 32 | number) == plain
    assert judged(0x64FF9B << 96 | number) == plain
    assert judged(0x2002 << 112 | number << 80) == plain
    if number > 1:
        assert judged(0xFFFF << 48 | number) is False


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ("http://169.254.169.254", None),
        ("http://[::ffff:a9fe:a9fe]", None),
        ("http://[64:ff9b::a9fe:a9fe]", None),
        ("https://name.example", "169.254.169.254"),
        ("https://name.example:8080", "::ffff:169.254.169.254"),
    ],
)
def test_an_origin_that_is_denied_by_its_address_is_that_address_however_one_gets_there(
    origin: str, address: str | None
) -> None:
    policy = EgressPolicy(deny=("*://169.254.169.254:*",))
    refusal = denied(policy, origin, *([address] if address else []))
    assert refusal is not None
    assert '"*://169.254.169.254:*" of egress.deny' in refusal
    assert denied(policy, "https://name.example", "192.0.2.7") is None


def test_a_denied_address_with_a_port_leaves_the_other_ports() -> None:
    policy = EgressPolicy(deny=("http://127.0.0.1:80",))
    assert denied(policy, "http://name.example", "127.0.0.1") is not None
    assert denied(policy, "http://name.example:81", "127.0.0.1") is None
    assert denied(policy, "https://name.example", "127.0.0.1") is None


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        ("fd00::/8", "fd00:ec2::254"),
        ("100.64.0.0/10", "100.100.100.200"),
        ("169.254.0.0/16", "169.254.169.254"),
        ("0.0.0.0/0", "168.63.129.16"),
    ],
)
def test_where_a_cloud_keeps_its_secrets_no_wide_network_opens(allowed: str, address: str) -> None:
    wide = EgressPolicy(allow=(allowed,), private="deny")
    refusal = denied(wide, "http://name.example", address)
    assert refusal is not None
    assert "cloud metadata" in refusal
    named = EgressPolicy(allow=(allowed, str(ipaddress.ip_network(address))), private="deny")
    assert denied(named, "http://name.example", address) is None


def test_a_network_of_ipv4_in_the_form_of_ipv6_is_one_of_ipv4() -> None:
    rule = str(rule_of("::ffff:10.0.0.0/104"))
    assert rule == "10.0.0.0/8"
    assert denied(EgressPolicy(deny=(rule,)), "http://10.0.0.5") is not None
