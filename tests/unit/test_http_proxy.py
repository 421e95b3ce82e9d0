"""The environment's proxies: which variable wins, and which origins go around them."""

import pytest

from vastar_runtime.errors import ConfigError
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.http.url import parse_url


def chosen(url: str = "http://host.example/", **environ: str) -> str | None:
    proxy = Proxies(environ).for_origin(parse_url(url).origin)
    return None if proxy is None else str(proxy.origin)


def test_no_variable_no_proxy() -> None:
    assert chosen() is None
    assert chosen("https://host.example/") is None


def test_each_scheme_has_its_variable() -> None:
    environ = {"HTTP_PROXY": "http://one:1", "HTTPS_PROXY": "https://two:2"}
    assert chosen("http://host.example/", **environ) == "http://one:1"
    assert chosen("https://host.example/", **environ) == "https://two:2"
    assert chosen("https://host.example/", HTTP_PROXY="http://one:1") is None


def test_all_proxy_serves_what_has_no_variable_of_its_own() -> None:
    environ = {"ALL_PROXY": "http://all:9", "HTTPS_PROXY": "http://two:2"}
    assert chosen("http://host.example/", **environ) == "http://all:9"
    assert chosen("https://host.example/", **environ) == "http://two:2"
    assert chosen(http_proxy="", all_proxy="http://all:9") == "http://all:9"


def test_the_lower_case_name_wins_even_when_it_is_empty() -> None:
    assert chosen(http_proxy="http://lower:1", HTTP_PROXY="http://upper:2") == "http://lower:1"
    assert chosen(http_proxy="", HTTP_PROXY="http://upper:2") is None
    assert chosen(http_proxy=" \t", HTTP_PROXY="http://upper:2") is None


@pytest.mark.parametrize(
    ("value", "origin"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://proxy", "http://proxy"),
        ("http://proxy:3128/ignored?too", "http://proxy:3128"),
        ("https://proxy", "https://proxy"),
        ("proxy:3128", "http://proxy:3128"),
        (" 127.0.0.1:3128 ", "http://127.0.0.1:3128"),
        ("http://[::1]:3128", "http://[::1]:3128"),
    ],
)
def test_forms_of_a_proxy(value: str, origin: str) -> None:
    assert chosen(http_proxy=value) == origin


@pytest.mark.parametrize(
    ("value", "authorization"),
    [
        ("http://proxy:1", None),
        ("http://user:p%40ss@proxy:1", b"Basic dXNlcjpwQHNz"),
        ("user:pass@proxy:1", b"Basic dXNlcjpwYXNz"),
        ("http://user@proxy:1", b"Basic dXNlcjo="),
    ],
)
def test_a_proxys_userinfo_becomes_proxy_authorization(value: str, authorization: bytes | None) -> None:
    proxy = Proxies({"HTTP_PROXY": value}).for_origin(parse_url("http://host/").origin)
    assert proxy is not None
    assert proxy.authorization == authorization


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("socks5://user:s3cr3t@proxy:1080", "unsupported URL scheme: socks5; http and https are supported"),
        ("http://", "malformed URL: it has no host"),
        ("proxy:99999", "malformed URL: port 99999 is outside 1 to 65535"),
        ("user:s3cr3t@proxy:port", "malformed URL: the port is no number"),
        ("http://user:s3cr3t/x@proxy:1", "malformed URL: the port is no number"),
        (
            "http://user:p\udcf6@proxy:1",
            "it holds the byte 0xf6, which is no UTF-8; in a password that is written %F6",
        ),
        ("http://pro xy", "malformed URL: 'pro xy' is no host name"),
    ],
)
def test_a_value_that_names_no_proxy_stops_the_start(variable: str, value: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Proxies({variable: value})
    assert str(caught.value) == f"{variable}: no proxy ({reason}); it takes http://[user:password@]host:port"


@pytest.mark.parametrize(
    ("no_proxy", "url", "goes_around"),
    [
        ("*", "http://anything/", True),
        ("", "http://anything/", False),
        (" , ,", "http://anything/", False),
        ("example.com", "http://example.com/", True),
        ("example.com", "http://www.example.com/", True),
        ("example.com", "http://notexample.com/", False),
        ("example.com", "http://example.com.evil/", False),
        ("EXAMPLE.com", "http://Example.COM/", True),
        (".example.com", "http://www.example.com/", True),
        (".example.com", "http://example.com/", True),
        (".", "http://example.com/", False),
        ("a, b ,example.com", "http://example.com/", True),
        ("example.com:8080", "http://example.com:8080/", True),
        ("example.com:8080", "http://example.com/", False),
        ("example.com:443", "https://example.com/", True),
        ("example.com:80", "https://example.com/", False),
        ("example.com:http", "http://example.com/", False),
        ("example.com:²", "http://example.com/", False),
        (":80", "http://example.com/", False),
        ("127.0.0.1", "http://127.0.0.1/", True),
        ("127.0.0.1", "http://127.0.0.2/", False),
        ("127.0.0.1:81", "http://127.0.0.1:81/", True),
        ("127.0.0.1:81", "http://127.0.0.1/", False),
        ("10.0.0.0/8", "http://10.200.3.4/", True),
        ("10.0.0.0/8", "http://11.0.0.1/", False),
        ("10.1.2.3/8", "http://10.200.3.4/", True),
        ("10.0.0.0/99", "http://10.0.0.1/", False),
        ("10.0.0.0/8", "http://ten.example/", False),
        ("::1", "http://[::1]/", True),
        ("[::1]", "http://[::1]/", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]/", False),
        ("0:0:0:0:0:0:0:1", "http://[::1]/", True),
        ("fe80::/10", "http://[fe80::9]/", True),
        ("fe80::/10", "http://[fd00::9]/", False),
        ("::/0", "http://10.0.0.1/", False),
        ("0.0.0.0/0", "http://[::1]/", False),
    ],
)
def test_forms_of_no_proxy(no_proxy: str, url: str, goes_around: bool) -> None:
    proxies = {"http_proxy": "http://proxy:1", "https_proxy": "http://proxy:1"}
    assert (chosen(url, **proxies, NO_PROXY=no_proxy) is None) is goes_around


def test_no_proxy_in_lower_case_wins() -> None:
    assert chosen(http_proxy="proxy:1", no_proxy="", NO_PROXY="*") == "http://proxy:1"
