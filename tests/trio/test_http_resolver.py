"""DNS: one tenant's lookups that hang leave the others their threads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from vastar_runtime.http.resolver import MAX_LOOKUPS_PER_TENANT, Resolver, looking_up_for


class Names:
    """A system resolver in which names under "hang." hang until they are let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.hanging = 0
        self._lock = threading.Lock()

    def getaddrinfo(self, host: str, port: int, *_: int) -> list[tuple[object, ...]]:
        if host.startswith("hang."):
            with self._lock:
                self.hanging += 1
            assert self.let_go.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    yield names
    names.let_go.set()


async def look_up(resolver: Resolver, tenant: str, host: str) -> list[tuple[object, ...]]:
    looking_up_for.set(tenant)
    found: list[tuple[object, ...]] = await resolver.getaddrinfo(host, 80)
    return found


async def test_a_tenant_whose_names_hang_leaves_the_others_theirs(names: Names) -> None:
    resolver = Resolver()
    async with trio.open_nursery() as nursery:
        for _ in range(3 * MAX_LOOKUPS_PER_TENANT):
            nursery.start_soon(look_up, resolver, "noisy", "hang.example")
        while names.hanging < MAX_LOOKUPS_PER_TENANT:
            await trio.lowlevel.checkpoint()
        assert await look_up(resolver, "quiet", "example.com")
        assert names.hanging == MAX_LOOKUPS_PER_TENANT
        names.let_go.set()


async def test_a_thread_that_hangs_counts_until_it_ends_though_its_request_is_gone(names: Names) -> None:
    resolver = Resolver()
    async with trio.open_nursery() as nursery:
        for _ in range(MAX_LOOKUPS_PER_TENANT):
            nursery.start_soon(look_up, resolver, "noisy", "hang.example")
        while names.hanging < MAX_LOOKUPS_PER_TENANT:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look_up, resolver, "noisy", "example.com")
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1  # it waits for a thread
        names.let_go.set()


async def test_no_tenants_name_is_kept(names: Names) -> None:
    resolver = Resolver()
    for number in range(50):
        assert await look_up(resolver, f"tenant {number}", "example.com")
    while resolver._by_tenant:
        await trio.lowlevel.checkpoint()  # the thread gives back what it held a moment after its answer
    with trio.move_on_after(0):
        await look_up(resolver, "cancelled", "example.com")
    while resolver._by_tenant:
        await trio.lowlevel.checkpoint()


async def test_names_are_looked_up_backwards_as_well() -> None:
    assert await Resolver().getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) == (
        "127.0.0.1",
        "80",
    )
