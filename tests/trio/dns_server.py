"""A DNS server of a test's own, over UDP on 127.0.0.1, and the system's lookup function made to ask it."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Callable

import pytest
import trio

from vastar_runtime.http.resolver import Resolver

PATIENCE_S = 20
TYPES = {1: 4, 28: 6}  # A and AAAA, by version of IP

system_getaddrinfo = socket.getaddrinfo


class DnsServer:
    """Answers the n-th lookup of a name with its n-th entry, and all further ones with the last.

    Attributes:
        names: addresses, with blanks between them, for each lookup: ``{"x.example": ["8.8.8.8 ::1", "127.0.0.1"]}``.
        lookups: how often each name was asked for.
    """

    def __init__(self, names: dict[str, list[str]]) -> None:
        self.names = names
        self.lookups: Counter[str] = Counter()
        self.port = 0

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.socket.socket(type=socket.SOCK_DGRAM) as listening:
            await listening.bind(("127.0.0.1", 0))
            self.port = listening.getsockname()[1]
            task_status.started()
            while True:
                query, client = await listening.recvfrom(512)
                await listening.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        question, name, kind = _question(query)
        version = TYPES[kind]
        entries = self.names.get(name, [""])
        if version == 4:  # of the two questions of a lookup, the first
            self.lookups[name] += 1
        texts = entries[min(self.lookups[name], len(entries)) - 1].split()
        addresses = [ip.packed for ip in map(ipaddress.ip_address, texts) if ip.version == version]
        records = b"".join(struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(packed)) + packed for packed in addresses)
        flags = 0x8180 if name in self.names else 0x8183  # no such name
        return query[:2] + struct.pack(">HHHHH", flags, 1, len(addresses), 0, 0) + question + records

    def getaddrinfo(
        self, host: bytes | str, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[tuple[object, ...]]:
        """In the place of the system's, which cannot be told where its server is."""
        if flags & socket.AI_NUMERICHOST:
            return system_getaddrinfo(host, port, family, type, proto, flags)  # type: ignore[return-value]
        name = host.decode() if isinstance(host, bytes) else host
        found: list[tuple[object, ...]] = []
        for kind, version in TYPES.items():
            for address in self._ask(name, kind):
                family = socket.AF_INET if version == 4 else socket.AF_INET6
                place = (address, port) if version == 4 else (address, port, 0, 0)
                found.append((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    def _ask(self, name: str, kind: int) -> list[str]:
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
        question = labels + b"\0" + struct.pack(">HH", kind, 1)
        with socket.socket(type=socket.SOCK_DGRAM) as asking:
            asking.settimeout(PATIENCE_S)
            asking.sendto(b"id" + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + question, ("127.0.0.1", self.port))
            answer = asking.recv(4096)
        (count,) = struct.unpack_from(">H", answer, 6)
        at = 12 + len(question)
        addresses = []
        for _ in range(count):
            (size,) = struct.unpack_from(">H", answer, at + 10)
            addresses.append(str(ipaddress.ip_address(answer[at + 12 : at + 12 + size])))
            at += 12 + size
        return addresses


def _question(query: bytes) -> tuple[bytes, str, int]:
    """Its question section, the name in it, and the type."""
    labels = []
    at = 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode())
        at += 1 + size
    (kind,) = struct.unpack_from(">H", query, at + 1)
    return query[12 : at + 5], ".".join(labels), kind


@pytest.fixture
async def dns(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> DnsServer:
    """Where all names are looked up, through the daemon's own resolver."""
    return await start_dns(nursery, monkeypatch.setattr)


async def start_dns(nursery: trio.Nursery, patch: Callable[..., None]) -> DnsServer:
    server = DnsServer({})
    await nursery.start(server.serve)
    patch(socket, "getaddrinfo", server.getaddrinfo)
    trio.socket.set_custom_hostname_resolver(Resolver())
    return server
