"""Headers: any case, every value."""

from __future__ import annotations

import pytest

from connector_sdk import Headers

ITEMS = [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2")]


def test_names_in_any_case() -> None:
    headers = Headers(ITEMS)
    assert headers["CONTENT-type"] == "text/plain"
    assert "content-TYPE" in headers
    assert headers.get("X-Other") is None
    assert 7 not in headers
    with pytest.raises(KeyError):
        headers["x-other"]


def test_repeated_names() -> None:
    headers = Headers(ITEMS)
    assert headers["Set-Cookie"] == "a=1, b=2"
    assert headers.get_list("SET-COOKIE") == ["a=1", "b=2"]
    assert headers.get_list("x-other") == []
    assert headers.multi_items() == ITEMS


def test_one_text_for_each_name_in_which_cookies_stay_apart() -> None:
    assert Headers([*ITEMS, ("VIA", "1"), ("via", "2")]).joined() == {
        "content-type": "text/plain",
        "set-cookie": "a=1\nb=2",
        "via": "1, 2",
    }
    assert Headers().joined() == {}


def test_as_a_mapping() -> None:
    assert dict(Headers(ITEMS)) == {"content-type": "text/plain", "set-cookie": "a=1, b=2"}
    assert len(Headers(ITEMS)) == 2
    assert Headers([("A", "1")]) == Headers([("a", "1")])
    assert not Headers()


def test_repr_shows_no_value() -> None:
    assert repr(Headers([("Authorization", "secret")])) == "<Headers authorization>"
    assert repr(Headers()) == "<Headers none>"
