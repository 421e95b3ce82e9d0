"""A session whose requests go out through the real dialer, and what its sockets were told to connect to."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from http_upstream import Script, Upstream
from policed_session import Policed, policed

from vastar_runtime.config.policy import EgressPolicy, RetryPolicy
from vastar_runtime.http.dial import Dialer
from vastar_runtime.http.proxy import Proxies

PRIVATE = EgressPolicy(private="deny")


def only(*rules: str) -> EgressPolicy:
    """Nothing but this, nor any other address that is not public."""
    return EgressPolicy(allow=rules, private="deny")


@asynccontextmanager
async def sending(
    egress: EgressPolicy = PRIVATE,
    *,
    environ: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    retry: RetryPolicy | None = None,
    **options: Any,
) -> AsyncIterator[Policed]:
    """One client; as ``policed``."""
    dialer = Dialer(Proxies(environ or {}), partial(_given, tls))
    retry = retry or RetryPolicy(max_retries=0)
    if "settings" not in options:
        options |= {"egress": egress, "retry": retry}
    async with policed(dialer=dialer, **options) as world:
        yield world


def _given(tls: ssl.SSLContext | None) -> ssl.SSLContext:
    assert tls is not None, "this story has no TLS"
    return tls


async def upstream_at(host: str, nursery: trio.Nursery, *scripts: Script, port: int = 0) -> Upstream:
    """One that listens at another address than 127.0.0.1."""
    upstream = Upstream(scripts, None)
    listeners = await trio.open_tcp_listeners(port, host=host)
    upstream.port = listeners[0].socket.getsockname()[1]
    nursery.start_soon(trio.serve_listeners, upstream._serve, listeners)
    return upstream


class RefusedSocket(trio.socket.SocketType):
    """A TCP socket that reaches nobody."""

    def __init__(self, family: int, type: int, proto: int, asked: list[tuple[Any, ...]]) -> None:
        self._asked = asked
        self._socket = socket.socket(family, type, proto)

    def setsockopt(self, *args: object) -> None:
        pass

    async def connect(self, address: Any) -> None:
        await trio.lowlevel.checkpoint()
        self._asked.append(address[:2])
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    def close(self) -> None:
        self._socket.close()


class RefusedSockets(trio.abc.SocketFactory):
    """Makes all sockets from here on.

    Attributes:
        asked: host and port of each attempt to connect.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        trio.socket.set_custom_socket_factory(self)

    def socket(self, family=socket.AF_INET, type=socket.SOCK_STREAM, proto=0) -> RefusedSocket:
        return RefusedSocket(family, type, proto, self.asked)
