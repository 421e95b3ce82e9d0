"""Who may speak for which tenant, by uid, by group, and on TCP."""

from __future__ import annotations

import re

import pytest

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import AccessRule
from vastar_runtime.errors import RequestError
from vastar_runtime.policies.access import Access
from vastar_runtime.policies.peer import Peer

ALICE = Peer(uid=1001, gid=100, pid=4711)
BOB = Peer(uid=1002, gid=100, pid=4712, groups=(7, 8))


def may(access: Access, peer: Peer | None, tenant_id: str) -> bool:
    try:
        access.check(peer, tenant_id)
    except RequestError:
        return False
    return True


def test_without_a_rule_anybody_may_speak_for_any_tenant() -> None:
    access = Access(())
    assert all(may(access, peer, tenant) for peer in (ALICE, BOB, None) for tenant in ("", "default", "x" * 256))


def test_a_user_may_speak_for_the_tenants_of_each_rule_that_names_it_and_for_no_other() -> None:
    access = Access(
        (
            AccessRule(users=("1001",), tenants=("a", "team-*")),
            AccessRule(users=("1001", "1002"), tenants=("b",)),
        )
    )
    assert [tenant for tenant in ("a", "team-", "team-x", "b", "", "A", "xa") if may(access, ALICE, tenant)] == [
        "a",
        "team-",
        "team-x",
        "b",
    ]
    assert [tenant for tenant in ("a", "team-x", "b", "") if may(access, BOB, tenant)] == ["b"]


@pytest.mark.parametrize("group", ["100", "7", "8"])
def test_a_group_is_the_process_own_or_any_other_that_it_is_in(group: str) -> None:
    access = Access((AccessRule(groups=(group,), tenants=("*",)),))
    assert may(access, BOB, "any")
    assert may(access, ALICE, "any") == (group == "100")


def test_who_comes_over_tcp_needs_a_rule_that_says_so() -> None:
    access = Access((AccessRule(users=("1001",), tenants=("a",)), AccessRule(tcp=True, tenants=("b",))))
    assert not may(access, None, "a")
    assert may(access, None, "b")
    assert not may(access, ALICE, "b")


def test_a_refusal_says_who_and_which_tenant() -> None:
    access = Access((AccessRule(users=("0",), tenants=("*",)),))
    with pytest.raises(RequestError, match=re.escape(r"uid 1001 may not use tenant 'a\nb': no ")):
        access.check(ALICE, "a\nb")
    with pytest.raises(RequestError, match=r"^a client on TCP may not use tenant '': no "):
        access.check(None, "")
    with pytest.raises(RequestError) as refused:
        access.check(ALICE, "x" * 256)
    assert len(refused.value.message) < 160
    assert refused.value.error_class is ErrorClass.PERMANENT
