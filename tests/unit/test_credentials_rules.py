"""Which credentials apply to a tenant and an origin."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest
import trio

from vastar_runtime.config import Credential
from vastar_runtime.credentials import Credentials, Injection
from vastar_runtime.credentials.rules import MAX_REMEMBERED

ENVIRON = {name: f"sk-{name}" for name in "abcdef"}


def credential(name: str, *origins: str, **changes: Any) -> Credential:
    return Credential(name=name, origins=origins or ("https://api.example",), **{"env": name, **changes})


def configured(*credentials: Credential) -> Credentials:
    found = Credentials(ENVIRON)
    trio.run(found.configure, credentials)
    return found


def names(credentials: Credentials, tenant: str, origin: str = "https://api.example") -> list[str]:
    return [injection.name for injection in credentials.for_request(tenant, origin)]


def only(injections: tuple[Injection, ...]) -> Injection:
    (injection,) = injections
    return injection


def test_without_credentials_nothing_applies() -> None:
    assert Credentials({}).for_request("tenant", "https://api.example") == ()
    emptied = configured(credential("a"))
    trio.run(emptied.configure, ())
    assert emptied.for_request("tenant", "https://api.example") == ()


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("https://api.example", ["https://api.example"], ["https://api.example:8443", "https://x.api.example"]),
        (
            "https://*.example",
            ["https://api.example", "https://a.b.example"],
            ["https://example", "https://api.example.evil", "http://api.example", "https://api.example:444"],
        ),
        ("https://api.example:*", ["https://api.example", "https://api.example:8443"], ["https://b.example:8443"]),
        ("https://*", ["https://api.example", "https://[2001:db8::1]:444"], ["http://api.example", "http://127.0.0.1"]),
        ("http://127.0.0.1:*", ["http://127.0.0.1:8080", "http://127.0.0.1"], ["http://127.0.0.2:8080"]),
        ("http://[::1]:80", ["http://[::1]"], ["http://[::2]", "https://[::1]"]),
        ("http://localhost:11434", ["http://localhost:11434"], ["http://localhost", "http://localhost.evil:11434"]),
        # Such patterns are refused by the file's reader. In clear a secret goes nowhere in any case.
        ("http://*:*", ["http://127.0.0.1:1", "http://localhost"], ["http://api.example", "http://192.168.0.1"]),
        ("*://api.example", ["https://api.example"], ["http://api.example"]),
    ],
)
def test_origins(pattern: str, fitting: list[str], others: list[str]) -> None:
    credentials = configured(credential("a", pattern))
    for origin in fitting:
        assert names(credentials, "any", origin) == ["a"], origin
    for origin in others:
        assert names(credentials, "any", origin) == [], origin


def test_one_of_several_origins_is_enough() -> None:
    credentials = configured(credential("a", "https://a.example", "https://b.example"))
    assert names(credentials, "", "https://b.example") == ["a"]
    assert names(credentials, "", "https://c.example") == []


def test_tenants() -> None:
    credentials = configured(
        credential("a", tenants=("batch", "team-a-*")), credential("b", header="x-b", tenants=("",))
    )
    assert names(credentials, "batch") == names(credentials, "team-a-") == names(credentials, "team-a-7") == ["a"]
    assert names(credentials, "batch2") == names(credentials, "team-b-1") == names(credentials, "Batch") == []
    assert names(credentials, "") == ["b"]


def test_without_tenants_a_credential_is_for_all_of_them() -> None:
    credentials = configured(credential("a"))
    assert names(credentials, "") == names(credentials, "anybody") == names(credentials, "x" * 100_000) == ["a"]


def test_of_two_for_the_same_header_the_first_that_matches_counts() -> None:
    credentials = configured(
        credential("a", tenants=("batch",)),
        credential("b", "https://other.example"),
        credential("c"),
        credential("d", header="x-api-key"),
        credential("e"),
    )
    assert names(credentials, "batch") == ["a", "d"]
    assert names(credentials, "other") == ["c", "d"]
    assert names(credentials, "other", "https://other.example") == ["b"]


@pytest.mark.parametrize(
    ("changes", "header", "value"),
    [
        ({}, b"authorization", b"Bearer sk-a"),
        ({"header": "x-api-key"}, b"x-api-key", b"sk-a"),
        ({"scheme": None}, b"authorization", b"sk-a"),
        ({"scheme": "Basic"}, b"authorization", b"Basic sk-a"),
        ({"scheme": "Token", "header": "x-api-key"}, b"x-api-key", b"Token sk-a"),
    ],
)
def test_what_stands_before_the_secret(changes: dict[str, Any], header: bytes, value: bytes) -> None:
    injection = only(configured(credential("a", **changes)).for_request("t", "https://api.example"))
    assert (injection.header, injection.value(), injection.override) == (header, value, False)
    assert trio.run(injection.ready) == value


def test_override_is_told() -> None:
    assert only(configured(credential("a", override=True)).for_request("t", "https://api.example")).override


def test_the_same_tenant_and_origin_get_the_same_answer_without_a_search() -> None:
    credentials = configured(credential("a", tenants=("t*",)))
    first = credentials.for_request("t1", "https://api.example")
    assert credentials.for_request("t1", "https://api.example") is first


def test_a_new_configuration_forgets_the_answers_of_the_old_one() -> None:
    credentials = configured(credential("a", tenants=("t*",)))
    assert names(credentials, "t1") == ["a"]
    trio.run(credentials.configure, [credential("b", tenants=("t1",))])
    assert names(credentials, "t1") == ["b"]
    assert names(credentials, "t2") == []


def test_tenants_and_origins_without_number_take_no_memory_without_bound() -> None:
    credentials = configured(credential("a", "https://*.example", tenants=("t-*",)))

    def ask(numbers: range) -> None:
        for number in numbers:
            assert credentials.for_request(f"t-{number:0200}", "https://api.example")
            assert credentials.for_request(f"t-{number}" + 10_000 * "x", f"https://{number}.example")

    ask(range(2 * MAX_REMEMBERED))
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        ask(range(2 * MAX_REMEMBERED, 4 * MAX_REMEMBERED))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2**20  # what was remembered before was not traced, so these are all that are kept now
