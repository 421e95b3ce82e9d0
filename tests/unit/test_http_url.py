"""URLs: read as the existing runtime reads them, and refused in words that name the mistake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.errors import InvalidRequest
from vastar_runtime.http.url import MAX_URL_CHARACTERS, Origin, Url, parse_url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "malformed URL: it has no scheme; it must begin with http:// or https://"),
        ("example.com/path", "malformed URL: it has no scheme; it must begin with http:// or https://"),
        ("/path", "malformed URL: it has no scheme; it must begin with http:// or https://"),
        ("://host", "malformed URL: it has no scheme; it must begin with http:// or https://"),
        ("file:///etc/passwd", "unsupported URL scheme: file; http and https are supported"),
        ("localhost:8080/x", "unsupported URL scheme: localhost; http and https are supported"),
        ("ws://host/", "unsupported URL scheme: ws; http and https are supported"),
        ("x" * 100 + ":", f"unsupported URL scheme: {'x' * 32}; http and https are supported"),
        ("http:host/path", "malformed URL: 'http:' is not followed by '//' and a host"),
        ("https:/host", "malformed URL: 'https:' is not followed by '//' and a host"),
        ("http://", "malformed URL: it has no host"),
        ("http:///path", "malformed URL: it has no host"),
        ("http://?query", "malformed URL: it has no host"),
        ("http://:80/", "malformed URL: it has no host"),
        ("http://user@/", "malformed URL: it has no host"),
        ("http://two words/", "malformed URL: 'two words' is no host name"),
        ("http://a..b/", "malformed URL: 'a..b' is no host name"),
        ("http://.example/", "malformed URL: '.example' is no host name"),
        ("http://./", "malformed URL: '.' is no host name"),
        ("http://" + "a" * 64 + "/", f"malformed URL: '{'a' * 64}' is no host name"),
        ("http://" + "a." * 127 + "/", f"malformed URL: '{'a.' * 32}' is no host name"),
        ("http://ex%61mple/", "malformed URL: 'ex%61mple' is no host name"),
        ("http://256.1.1.1/", "malformed URL: '256.1.1.1' is no IPv4 address"),
        ("http://1.2.3.4.5/", "malformed URL: '1.2.3.4.5' is no IPv4 address"),
        ("http://1.2.3.08/", "malformed URL: '1.2.3.08' is no IPv4 address"),
        ("http://1.2.65536/", "malformed URL: '1.2.65536' is no IPv4 address"),
        ("http://1.16777216/", "malformed URL: '1.16777216' is no IPv4 address"),
        ("http://4294967296/", "malformed URL: '4294967296' is no IPv4 address"),
        ("http://" + "9" * 63 + "/", f"malformed URL: '{'9' * 63}' is no IPv4 address"),
        ("http://host.1/", "malformed URL: 'host.1' is no IPv4 address"),
        ("http://host.0x1f./", "malformed URL: 'host.0x1f.' is no IPv4 address"),
        ("http://1.2.3.-4.5/", "malformed URL: '1.2.3.-4.5' is no IPv4 address"),
        ("http://127.0.0.1../", "malformed URL: '127.0.0.1..' is no host name"),
        ("http://127..0.1/", "malformed URL: '127..0.1' is no host name"),
        ("http://127.0.0.%31/", "malformed URL: '127.0.0.%31' is no host name"),
        ("http://[::1/", "malformed URL: the IPv6 address is not closed by ']'"),
        ("http://[::1]80/", "malformed URL: the IPv6 address is not closed by ']'"),
        ("http://[::12345]/", "malformed URL: [::12345] is no IPv6 address"),
        ("http://[]/", "malformed URL: [] is no IPv6 address"),
        ("http://[127.0.0.1]/", "malformed URL: [127.0.0.1] is no IPv6 address"),
        ("http://[fe80::1%25eth0]/", "malformed URL: [fe80::1%25eth0] is no IPv6 address"),
        ("http://host:0/", "malformed URL: port 0 is outside 1 to 65535"),
        ("http://host:65536/", "malformed URL: port 65536 is outside 1 to 65535"),
        ("http://host:99999/", "malformed URL: port 99999 is outside 1 to 65535"),
        ("http://host:" + "9" * 5000, f"malformed URL: port {'9' * 16} is outside 1 to 65535"),
        ("http://host:http/", "malformed URL: the port is no number"),
        ("http://host:-1/", "malformed URL: the port is no number"),
        ("http://host:８０/", "malformed URL: the port is no number"),
        ("http://[::1]:x/", "malformed URL: the port is no number"),
        ("http://host/\x00", "malformed URL: it contains a control character"),
        ("http://host/a\r\nHost: b", "malformed URL: it contains a control character"),
        ("http://ho\tst/", "malformed URL: it contains a control character"),
        ("http://host/\x7f", "malformed URL: it contains a control character"),
        ("http://host/\ud800", "malformed URL: it contains half of a surrogate pair"),
        ("http://host/?\udfff", "malformed URL: it contains half of a surrogate pair"),
        ("http://\udc80:x@host/", "malformed URL: it contains half of a surrogate pair"),
        ("http://\ud800/", "malformed URL: it contains half of a surrogate pair"),
    ],
)
def test_a_url_that_cannot_be_used_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_url(text)
    assert caught.value.message == message


def test_a_name_that_idna_refuses_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"^malformed URL: '\u2488\.de' is no host name \("):
        parse_url("http://\u2488.de/")


def test_a_url_of_endless_length_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidRequest, match=f"70007 characters, more than {MAX_URL_CHARACTERS}"):
        parse_url("http://" + "a" * 70_000)


@pytest.mark.parametrize(
    "text",
    [
        "http://user:s3cr3t/4@host/",  # an unescaped slash ends the authority: "s3cr3t" stands where the port would
        "http://user:s3cr3t#4@host/",
        "http://user:s3cr3t?4@host/",
        "http://user:s3cr3t@ho st/",
        "http://user:s3cr3t@host:port/",
        "http://user:s3cr3t@[::1/",
        "http://user:s3cr3t@/",
        "http://user:s3cr3t@host:99999/?key=s3cr3t",
        "http://host:99999/?key=s3cr3t",
        "http://user:s3cr3t\ud800@host/",
    ],
)
def test_an_error_never_quotes_a_password_or_a_query(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_url(text)
    assert "s3cr3t" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("http://h", "/"),
        ("http://h/", "/"),
        ("http://h?a=b", "/?a=b"),
        ("http://h/?", "/?"),
        ("http://h/a b", "/a%20b"),
        ("http://h/?q=a b", "/?q=a%20b"),
        ("http://h/ü/日本", "/%C3%BC/%E6%97%A5%E6%9C%AC"),
        ("http://h/?q=ü😀", "/?q=%C3%BC%F0%9F%98%80"),
        ("http://h/%41%zz%", "/%41%zz%"),
        ("http://h/?%41+%2B", "/?%41+%2B"),
        ("http://h/\"<>`{}'|", "/%22%3C%3E%60%7B%7D'|"),
        ("http://h/?\"<>`{}'|", "/?%22%3C%3E`{}%27|"),
        ("http://h/\x80", "/%C2%80"),
        ("http://h/a?b?c", "/a?b?c"),
        ("http://h/a;b=c,d!$&'()*+@:", "/a;b=c,d!$&'()*+@:"),
        ("http://h/a#fragment", "/a"),
        ("http://h#fragment", "/"),
        ("http://h/?a#b?c#d", "/?a"),
        ("http://h/a/./b/../c", "/a/c"),
        ("http://h/a/..", "/"),
        ("http://h/a/b/.", "/a/b/"),
        ("http://h/../../a", "/a"),
        ("http://h/a/%2e/b/%2E%2e/c", "/a/c"),
        ("http://h/a/.%2e", "/"),
        ("http://h/a/%2E.", "/"),
        ("http://h/a/%2e", "/a/"),
        ("http://h/.a/b./...", "/.a/b./..."),
        ("http://h/a%2fb%2f..", "/a%2fb%2f.."),
        ("http://h//a///b/", "//a///b/"),
        ("http://h//..", "/"),
        ("http://h\\a\\..\\b", "/b"),
        ("http:\\\\h\\a?b\\c", "/a?b\\c"),
        ("  http://h/a  ", "/a"),
    ],
)
def test_path_and_query_are_escaped_by_the_whatwg_rules(text: str, target: str) -> None:
    url = parse_url(text)
    assert url.origin == ("http", "h", 80)
    assert url.target == target


@pytest.mark.parametrize(
    ("text", "origin", "authority"),
    [
        ("http://host/", Origin("http", "host", 80), "host"),
        ("https://host/", Origin("https", "host", 443), "host"),
        ("http://host:/", Origin("http", "host", 80), "host"),
        ("http://host:80/", Origin("http", "host", 80), "host"),
        ("https://host:80/", Origin("https", "host", 80), "host:80"),
        ("http://host:00080/", Origin("http", "host", 80), "host"),
        ("HTTPS://HOST.Example:8443/", Origin("https", "host.example", 8443), "host.example:8443"),
        ("http://my_service:1/", Origin("http", "my_service", 1), "my_service:1"),
        ("http://127.0.0.1:65535/", Origin("http", "127.0.0.1", 65535), "127.0.0.1:65535"),
        ("http://[::1]/", Origin("http", "::1", 80), "[::1]"),
        ("https://[2001:DB8::0:1]:8443/", Origin("https", "2001:db8::1", 8443), "[2001:db8::1]:8443"),
        ("http://example.com./", Origin("http", "example.com.", 80), "example.com."),
        ("http://Bücher.example/", Origin("http", "xn--bcher-kva.example", 80), "xn--bcher-kva.example"),
        ("http://faß.example/", Origin("http", "xn--fa-hia.example", 80), "xn--fa-hia.example"),
        ("http://ｈｏｓｔ/", Origin("http", "host", 80), "host"),
    ],
)
def test_the_origin_is_normalised(text: str, origin: Origin, authority: str) -> None:
    url = parse_url(text)
    assert url.origin == origin
    assert url.origin.authority == authority
    assert str(url) == f"{origin.scheme}://{authority}/"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("2130706433.", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0X7F000001", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("0x7f.0.0x0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("127.0.258", "127.0.1.2"),
        ("127.66051", "127.1.2.3"),
        ("1.16777215", "1.255.255.255"),
        ("4294967295", "255.255.255.255"),
        ("0", "0.0.0.0"),
        ("0x", "0.0.0.0"),
        ("0x.0x", "0.0.0.0"),
        ("00000000000177.1", "127.0.0.1"),
        ("１２７.０.０.１", "127.0.0.1"),
        ("①②⑦。0。0。1", "127.0.0.1"),
        ("127.0.\u00ad0.1", "127.0.0.1"),
        ("1.2.3.0x4g", None),
        ("1e3", None),
        ("127.0.0.1.example", None),
        ("0xg", None),
        ("1-2", None),
        ("12_3", None),
    ],
)
def test_a_host_that_ends_in_a_number_is_an_ipv4_address_and_is_shown_as_one(host: str, address: str | None) -> None:
    """https://url.spec.whatwg.org/#concept-ipv4-parser"""
    url = parse_url(f"http://{host}:81/")
    assert url.origin == Origin("http", address or host, 81)
    assert url.origin == parse_url(str(url)).origin == parse_url("http://x/").join(f"//{host}:81").origin


def test_errors_name_an_origin_with_its_port() -> None:
    assert parse_url("https://host/").origin.address == "host:443"
    assert parse_url("http://[::1]/").origin.address == "[::1]:80"


@pytest.mark.parametrize(
    ("userinfo", "unescaped"),
    [
        ("user:password@", b"user:password"),
        ("user@", b"user:"),
        ("user:@", b"user:"),
        (":password@", b":password"),
        ("us%40er:pass%3Aword%ff@", b"us@er:pass:word\xff"),
        ("ü:日@", "ü:日".encode()),
        ("a@b:c@", b"a@b:c"),
        ("@", None),
        ("", None),
    ],
)
def test_userinfo_is_unescaped_and_shown_nowhere(userinfo: str, unescaped: bytes | None) -> None:
    url = parse_url(f"http://{userinfo}host/path?query")
    assert url.userinfo == unescaped
    assert url.origin.host == "host"
    assert str(url) == "http://host/path?query"
    assert url.path == "/path"


@pytest.mark.parametrize(
    ("reference", "joined"),
    [
        ("https://other/x", "https://other/x"),
        ("//other:81/x", "http://other:81/x"),
        ("/x?y", "http://h:8080/x?y"),
        ("x", "http://h:8080/a/x"),
        ("../x", "http://h:8080/x"),
        ("../../../x", "http://h:8080/x"),
        ("?new=query", "http://h:8080/a/b?new=query"),
        ("#fragment", "http://h:8080/a/b?c"),
        ("", "http://h:8080/a/b?c"),
        ("x y/ü", "http://h:8080/a/x%20y/%C3%BC"),
        ("x:y", None),
        ("mailto:someone", None),
        ("//", "http://h:8080/a/b?c"),
        ("http://[", None),
        ("//[::1", None),
        ("http://a\u2100b/", None),
        ("http://host:99999/", None),
    ],
)
def test_a_reference_is_resolved_against_the_url(reference: str, joined: str | None) -> None:
    url = parse_url("http://user:password@h:8080/a/b?c")
    if joined is None:
        with pytest.raises(InvalidRequest):
            url.join(reference)
    else:
        assert str(url.join(reference)) == joined


@pytest.mark.unmeasured
@given(st.text(max_size=60) | st.from_regex(r"https?://[^/]{0,20}/.{0,30}"))
def test_whatever_comes_is_a_url_for_the_wire_or_an_invalid_request(text: str) -> None:
    try:
        url = parse_url(text)
    except InvalidRequest:
        return
    assert url.target.startswith("/")
    assert all(0x21 <= ord(character) <= 0x7E for character in url.target + url.origin.authority)
    assert parse_url(str(url)) == Url(url.origin, url.target)  # parsing twice changes nothing
