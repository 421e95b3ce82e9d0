"""A host with and without the root's dot is one place for policies; and a URL with a password is not remembered."""

import pytest

from vastar_runtime.config import Policies, Scope, Settings
from vastar_runtime.config.origins import parse_pattern, split_origin
from vastar_runtime.config.settings import Change
from vastar_runtime.http.url import parse_url


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com"),
        ("https://api.openai.com./v1", "https://api.openai.com"),
        ("HTTPS://API.OpenAI.com.:443/", "https://api.openai.com"),
        ("http://host.:8080/", "http://host:8080"),
        ("http://localhost.", "http://localhost"),
        ("http://[::1]:80/", "http://[::1]"),
        ("http://127.0.0.1/", "http://127.0.0.1"),
    ],
)
def test_policies_go_by_the_origin_without_the_root_s_dot(url: str, origin: str) -> None:
    assert parse_url(url).origin.without_root == origin


def test_the_request_itself_keeps_the_dot() -> None:
    origin = parse_url("https://api.openai.com./v1").origin
    assert (origin.host, origin.authority) == ("api.openai.com.", "api.openai.com.")


@pytest.mark.parametrize("pattern", ["https://api.openai.com.", "https://*.openai.com.", "*://api.openai.com.:443"])
def test_a_scope_that_is_written_with_the_dot_holds_for_both(pattern: str) -> None:
    scope = Scope(origin=str(parse_pattern(pattern)), changes=(Change("retry", "max_retries", 7),))
    policies = Policies(Settings(scopes=(scope,)))
    for host in ("api.openai.com", "api.openai.com."):
        origin = parse_url(f"https://{host}/").origin.without_root
        assert policies.policy_for("t", origin).retry.max_retries == 7
    assert policies.policy_for("t", "https://api.openai.com.evil.test").retry.max_retries == 2
    assert not parse_pattern(pattern).matches(split_origin("https://openai.com"))


def test_a_dot_alone_is_no_host_of_a_scope() -> None:
    with pytest.raises(ValueError, match="this is no host"):
        parse_pattern("https://.")


def test_a_url_is_remembered_unless_it_may_hold_a_password() -> None:
    plain = "http://host/of-this-test?q=1"
    assert parse_url(plain) is parse_url(plain)
    for text in ("http://user:s3cr3t@host/", "http://s3cr3t@host/", "http://host/?user=a@b", "http://a:b%40c@h/"):
        parsed = parse_url(text)
        assert parse_url(text) == parsed
        assert parse_url(text) is not parsed
