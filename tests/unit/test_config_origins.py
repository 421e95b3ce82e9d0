"""Patterns of origins: which there are, and what they match."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vastar_runtime.config.origins import OriginPattern, parse_pattern, split_origin
from vastar_runtime.http.url import parse_url


def matches(pattern: str, origin: str) -> bool:
    return parse_pattern(pattern).matches(split_origin(origin))


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        ("https://api.openai.com", "https://api.openai.com"),
        ("HTTPS://API.OpenAI.com:443", "https://api.openai.com"),
        ("https://*.openai.com", "https://api.openai.com"),
        ("https://*.openai.com", "https://a.b.openai.com"),
        ("https://api.*", "https://api.openai.com"),
        ("https://a*i.*.c*m", "https://api.openai.com"),
        ("https://*", "https://api.openai.com"),
        ("https://*", "https://api.openai.com:8443"),
        ("https://*", "https://[::1]:8443"),
        ("https://*:443", "https://api.openai.com"),
        ("http://127.0.0.1:*", "http://127.0.0.1:4545"),
        ("http://127.0.0.1:*", "http://127.0.0.1"),
        ("http://localhost:08080", "http://localhost:8080"),
        ("*://localhost", "http://localhost"),
        ("*://localhost", "https://localhost"),
        ("*://localhost:443", "https://localhost"),
        ("*://localhost:443", "http://localhost:443"),
        ("*://*", "http://a:1"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://[0:0:0:0:0:0:0:1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_pattern_matches(pattern: str, origin: str) -> None:
    assert matches(pattern, origin)


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        ("https://api.openai.com", "http://api.openai.com"),
        ("https://api.openai.com", "https://api.openai.com:8443"),
        ("https://api.openai.com", "https://xapi.openai.com"),
        ("https://api.openai.com", "https://api.openai.com.example"),
        ("https://*.openai.com", "https://openai.com"),
        ("https://*.openai.com", "https://api.openai.com:8443"),
        ("https://*.openai.com", "https://api.openai.com.example"),
        ("https://*.openai.com", "https://apiopenai.com"),
        ("https://*", "http://api.openai.com"),
        ("https://*:443", "https://api.openai.com:8443"),
        ("http://a*80", "http://a:80"),
        ("http://a*80", "http://a:8080"),
        ("http://ab*ba", "http://aba"),
        ("http://*a*a*", "http://a"),
        ("http://*:8080", "http://a"),
        ("*://localhost", "http://localhost:443"),
        ("*://localhost", "https://localhost:80"),
        ("http://[::1]", "http://[::2]"),
        ("http://0.0.0.1", "http://[::1]"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, origin: str) -> None:
    assert not matches(pattern, origin)


CUT = "of addresses, name a network where that is allowed: 192.168.*, as a name, is anybody's"
FOUR = "an IPv4 address has four numbers: 127.0.0.1"
ALLOWED = "allowed: SCHEME://HOST or SCHEME://HOST:PORT; the scheme is http, https or *, host and port may hold *"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ("api.openai.com", f"found 'api.openai.com'; {ALLOWED}; write 'https://api.openai.com'"),
        ("*.openai.com", f"found '*.openai.com'; {ALLOWED}; write 'https://*.openai.com'"),
        ("", f"found ''; {ALLOWED}"),
        (7, f"found 7; {ALLOWED}"),
        ("https://" + "a" * 1_000_000, f"found {'https://' + 'a' * 72!r}… (1000008 characters); {ALLOWED}"),
        ("ftp://h", f"found 'ftp://h'; {ALLOWED}"),
        ("http*://h", f"found 'http*://h'; {ALLOWED}"),
        ("https://h/", f"found 'https://h/'; {ALLOWED}; an origin has no path: write 'https://h'"),
        ("https://H/v1/*", f"found 'https://H/v1/*'; {ALLOWED}; an origin has no path: write 'https://h'"),
        ("https://h?q", f"found 'https://h?q'; {ALLOWED}; this is no host"),
        ("https://", f"found 'https://'; {ALLOWED}; this is no host"),
        ("http://127.1", f"found 'http://127.1'; {ALLOWED}; {FOUR}"),
        ("http://0x7f000001:80", f"found 'http://0x7f000001:80'; {ALLOWED}; {FOUR}"),
        ("http://127.0.0.01", f"found 'http://127.0.0.01'; {ALLOWED}; {FOUR}"),
        ("http://192.168.*", f"found 'http://192.168.*'; {ALLOWED}; {CUT}"),
        ("http://10.*.*.1:80", f"found 'http://10.*.*.1:80'; {ALLOWED}; {CUT}"),
        ("http://a.256", f"found 'http://a.256'; {ALLOWED}; {FOUR}"),
        ("https://.h", f"found 'https://.h'; {ALLOWED}; this is no host"),
        ("https://a..b", f"found 'https://a..b'; {ALLOWED}; this is no host"),
        ("https://a b", f"found 'https://a b'; {ALLOWED}; this is no host"),
        ("https://a\nb", f"found 'https://a\\nb'; {ALLOWED}; this is no host"),
        ("https://::1", f"found 'https://::1'; {ALLOWED}; this is no host"),
        ("https://bü.example", f"found 'https://bü.example'; {ALLOWED}; write a host in its ASCII form (xn--...)"),
        ("https://[::g]", f"found 'https://[::g]'; {ALLOWED}; this is no IPv6 address"),
        ("https://[*]", f"found 'https://[*]'; {ALLOWED}; this is no IPv6 address"),
        ("https://[::1", f"found 'https://[::1'; {ALLOWED}; this is no IPv6 address"),
        ("https://[fe80::1%eth0]", f"found 'https://[fe80::1%eth0]'; {ALLOWED}; an IPv6 address has no zone here"),
        ("https://h:", f"found 'https://h:'; {ALLOWED}; a port is a number from 1 to 65535, or *"),
        ("https://h:0", f"found 'https://h:0'; {ALLOWED}; a port is a number from 1 to 65535, or *"),
        ("https://h:65536", f"found 'https://h:65536'; {ALLOWED}; a port is a number from 1 to 65535, or *"),
        ("https://h:4*", f"found 'https://h:4*'; {ALLOWED}; a port is a number from 1 to 65535, or *"),
        ("https://h:²", f"found 'https://h:²'; {ALLOWED}; a port is a number from 1 to 65535, or *"),
        ("me:secret@h", f"it holds '@'; {ALLOWED}, and neither user nor password"),
        ("https://me:secret@h", f"it holds '@'; {ALLOWED}, and neither user nor password"),
    ],
)  # fmt: skip
def test_what_is_no_pattern_is_refused(found: object, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_pattern(found)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("found", "normal"),
    [
        ("HTTPS://API.OpenAI.com:443", "https://api.openai.com"),
        ("http://h:80", "http://h"),
        ("http://h:443", "http://h:443"),
        ("https://*:*", "https://*"),
        ("https://*:443", "https://*:443"),
        ("https://**.a", "https://*.a"),
        ("*://h:*", "*://h:*"),
        ("*://h", "*://h"),
        ("http://[0::1]:81", "http://[::1]:81"),
    ],
)
def test_patterns_that_say_the_same_are_the_same(found: str, normal: str) -> None:
    pattern = parse_pattern(found)
    assert str(pattern) == normal
    assert parse_pattern(normal) == pattern


GLOBS = st.text(alphabet="ab.*", min_size=1, max_size=12)
HOSTS = st.text(alphabet="ab.", min_size=1, max_size=14)


@given(GLOBS, HOSTS)
@example("a*a", "a")
@example("*ab*ab*", "abxab".replace("x", "."))
def test_a_host_is_matched_as_a_regular_expression_would(glob: str, host: str) -> None:
    pattern = OriginPattern("http", glob, "80")
    expected = re.fullmatch(".*".join(map(re.escape, glob.split("*"))), host) is not None
    assert pattern.matches(split_origin(f"http://{host}")) is expected


@given(st.sampled_from(["http", "https", "*"]), GLOBS, GLOBS, HOSTS, st.sampled_from(["80", "443", "*", "9"]))
def test_what_matches_the_sample_of_a_pattern_matches_all_that_it_matches(
    scheme: str, wide: str, narrow: str, host: str, port: str
) -> None:
    pattern = OriginPattern("https", narrow, "443")
    wider = OriginPattern(scheme, wide, port)
    origin = split_origin(f"https://{host}")
    if wider.matches(pattern.sample) and pattern.matches(origin):
        assert wider.matches(origin)
    assert pattern.matches(pattern.sample)


def test_many_stars_take_no_long_time() -> None:
    """With backtracking this would take longer than the world is old."""
    labels = ".".join(["a*" * 30] * 4)
    pattern = parse_pattern(f"http://{labels}.b")
    host = ".".join(["a" * 60] * 4)
    assert not pattern.matches(split_origin(f"http://{host}.c"))
    assert pattern.matches(split_origin(f"http://{host}.b"))


@pytest.mark.parametrize(
    "url",
    ["https://API.openai.com:443/v1?q#f", "http://me:secret@h:8080/", "http://[0::1]/", "HTTP://127.0.0.1:80"],
)
def test_the_origin_of_a_request_is_matched_by_itself(url: str) -> None:
    origin = parse_url(url).origin
    assert matches(str(origin), str(origin))
    assert split_origin(str(origin)).port == str(origin.port)
