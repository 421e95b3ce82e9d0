"""Where a redirect leads, and what goes along."""

import pytest

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import UpstreamError
from vastar_runtime.http.redirects import next_request
from vastar_runtime.http.request import OutboundRequest, build_request
from vastar_runtime.http.url import parse_url

SECRETS = {"Authorization": "Bearer s3cr3t", "Cookie": "id=s3cr3t", "Proxy-Authorization": "Basic s3cr3t"}


def request(
    method: str = "GET", url: str = "http://a.example/x/y?z", body: bytes = b"", **headers: str
) -> OutboundRequest:
    return build_request(method, parse_url(url), [(n.replace("_", "-"), v) for n, v in headers.items()], body)


def follow(first: OutboundRequest, location: str | bytes = "/next", status: int = 302) -> OutboundRequest:
    raw = location if isinstance(location, bytes) else location.encode()
    following = next_request(first, status, ((b"server", b"x"), (b"location", raw)))
    assert following is not None
    return following


def header(of: OutboundRequest, name: str) -> str | None:
    values = [value.decode() for key, value in of.headers if key == name.encode()]
    assert len(values) < 2
    return values[0] if values else None


@pytest.mark.parametrize(
    ("status", "methods"),
    [
        (301, {"GET": "GET", "HEAD": "HEAD", "POST": "GET", "PUT": "PUT", "DELETE": "DELETE", "PATCH": "PATCH"}),
        (302, {"GET": "GET", "HEAD": "HEAD", "POST": "GET", "PUT": "PUT", "DELETE": "DELETE", "PATCH": "PATCH"}),
        (303, {"GET": "GET", "HEAD": "HEAD", "POST": "GET", "PUT": "GET", "DELETE": "GET", "PATCH": "GET"}),
        (307, {"GET": "GET", "HEAD": "HEAD", "POST": "POST", "PUT": "PUT", "DELETE": "DELETE", "PATCH": "PATCH"}),
        (308, {"GET": "GET", "HEAD": "HEAD", "POST": "POST", "PUT": "PUT", "DELETE": "DELETE", "PATCH": "PATCH"}),
    ],
)
def test_the_method_after_each_status(status: int, methods: dict[str, str]) -> None:
    for before, after in methods.items():
        body = b"" if before in ("GET", "HEAD") else b"body"
        following = follow(request(before, body=body, Content_Type="text/plain", Content_Language="de"), status=status)
        assert following.method == after
        keeps_body = before == after
        assert following.body == (body if keeps_body else b"")
        assert header(following, "content-length") == ("4" if keeps_body and body else None)
        assert header(following, "content-type") == ("text/plain" if keeps_body else None)
        assert header(following, "content-language") == ("de" if keeps_body else None)
        assert header(following, "accept") == "*/*"


@pytest.mark.parametrize("status", [200, 201, 300, 304, 305, 306, 399, 400, 500])
def test_other_statuses_are_delivered_even_with_a_location(status: int) -> None:
    assert next_request(request(), status, ((b"location", b"/next"),)) is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_without_a_location_is_delivered(status: int) -> None:
    assert next_request(request(), status, ((b"content-location", b"/next"),)) is None


def test_on_the_same_origin_credentials_and_host_go_along() -> None:
    following = follow(request(Host="virtual", **SECRETS), "http://A.example:80/other")
    assert str(following.url) == "http://a.example/other"
    for name, value in SECRETS.items():
        assert header(following, name.lower()) == value
    assert header(following, "host") == "virtual"


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("http://b.example/", "b.example"),
        ("http://sub.a.example/", "sub.a.example"),
        ("https://a.example/", "a.example"),
        ("http://a.example:8080/", "a.example:8080"),
        ("//b.example/", "b.example"),
        ("http://a.example.b.example/", "a.example.b.example"),
        ("\\\\b.example/", "a.example"),  # read as a path: it stays where the credentials belong
    ],
)
def test_on_another_origin_they_do_not(location: str, host: str) -> None:
    following = follow(request(Host="virtual", X_Other="kept", **SECRETS), location)
    if host == "a.example" and following.url.origin == request().url.origin:
        assert header(following, "authorization") == "Bearer s3cr3t"
        return
    assert following.url.origin.authority == host
    for name in SECRETS:
        assert header(following, name.lower()) is None
    assert header(following, "host") == host
    assert following.headers[0] == (b"host", host.encode())
    assert header(following, "x-other") == "kept"


def test_credentials_do_not_come_back_with_the_first_origin() -> None:
    there = follow(request(**SECRETS), "http://b.example/")
    back = follow(there, "http://a.example/")
    assert b"s3cr3t" not in b"".join(value for _, value in back.headers)


def test_basic_credentials_of_the_url_stay_with_their_origin() -> None:
    first = request(url="http://user:password@a.example/")
    assert header(follow(first, "/x"), "authorization") == "Basic dXNlcjpwYXNzd29yZA=="
    assert header(follow(first, "http://b.example/"), "authorization") is None


def test_credentials_in_a_location_are_used_there() -> None:
    following = follow(request(**SECRETS), "http://new:pass@b.example/")
    assert header(following, "authorization") == "Basic bmV3OnBhc3M="
    same = follow(request(**SECRETS), "http://new:pass@a.example/")
    assert header(same, "authorization") == "Bearer s3cr3t"


@pytest.mark.parametrize(
    ("before", "location", "referer"),
    [
        ("http://a.example/x?y", "/z", "http://a.example/x?y"),
        ("http://user:pass@a.example/x#f", "http://b.example/", "http://a.example/x"),
        ("http://a.example/", "https://a.example/", "http://a.example/"),
        ("https://a.example/x", "https://b.example/", "https://a.example/x"),
        ("https://a.example/x", "http://a.example/", None),
    ],
)
def test_the_referer_is_the_url_that_redirected_unless_it_was_secure_and_the_next_is_not(
    before: str, location: str, referer: str | None
) -> None:
    assert header(follow(request(url=before, Referer="http://old.example/"), location), "referer") == referer


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("next", "/x/next"),
        ("?q", "/x/y?q"),
        ("/a b/ü", "/a%20b/%C3%BC"),
        (b"/caf\xe9?\xff", "/caf%E9?%FF"),  # no UTF-8: the bytes as they are, as browsers do
        ("  /blank  ", "/blank"),
        ("/x#fragment", "/x"),
        ("", "/x/y?z"),
    ],
)
def test_a_location_as_servers_write_them(location: str | bytes, target: str) -> None:
    assert follow(request(), location).url.target == target


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("mailto:a@b.example", "unsupported URL scheme: mailto; http and https are supported"),
        ("ftp://b.example/", "unsupported URL scheme: ftp; http and https are supported"),
        ("http://b.example:99999/", "malformed URL: port 99999 is outside 1 to 65535"),
        ("http://user:s3cr3t@[::1/", "malformed URL: "),
        ("http://two words/", "malformed URL: 'two words' is no host name"),
        (b"http://b\xff.example/", "malformed URL: "),
    ],
)
def test_a_location_that_cannot_be_followed_is_permanent_and_says_why(location: str | bytes, reason: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        follow(request(**SECRETS), location, status=308)
    assert caught.value.error_class is ErrorClass.PERMANENT
    start = "HTTP request failed: http://a.example answered 308 with a Location that cannot be followed: "
    assert caught.value.message.startswith(start + reason)
    assert "s3cr3t" not in caught.value.message


def test_whether_a_body_is_decoded_stays_as_the_client_chose() -> None:
    assert follow(request()).decodes
    assert not follow(request(Accept_Encoding="gzip")).decodes
