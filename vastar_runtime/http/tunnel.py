"""A tunnel through a proxy: CONNECT (RFC 9110, section 9.3.6)."""

from __future__ import annotations

from typing import cast

import h11
import trio

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import UpstreamError

from .connection import READ_BYTES, without_quotation
from .proxy import Proxy
from .url import Origin


class TunnelRefused(UpstreamError):
    """The proxy has answered, and not opened it."""


async def open_tunnel(stream: trio.abc.Stream, proxy: Proxy, origin: Origin, address: str | None) -> None:
    """Have the proxy connect this stream to an origin.

    Args:
        address: where it is found; None: the proxy is to look that up.

    Raises:
        TunnelRefused: Permanent, if asking again will not help.
        UpstreamError: what came instead of an answer.
    """
    connection = h11.Connection(h11.CLIENT)
    target = origin.address if address is None else origin._replace(host=address).address
    headers = [(b"host", target.encode()), *headers_for(proxy)]
    head = connection.send(h11.Request(method="CONNECT", target=target, headers=headers))
    connection.send(h11.EndOfMessage())
    assert head is not None
    name = proxy.origin.address
    try:
        await stream.send_all(head)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                break
            if event is h11.NEED_DATA:
                data = cast(bytes, await stream.receive_some(READ_BYTES))
                if not data:
                    raise UpstreamError(f"the proxy {name} closed the connection instead of answering CONNECT")
                connection.receive_data(data)
    except trio.BrokenResourceError as error:
        raise UpstreamError(f"the proxy {name} broke the connection instead of answering CONNECT") from error
    except h11.RemoteProtocolError as error:
        raise UpstreamError(f"the proxy {name} does not speak HTTP/1.1: {without_quotation(error)}") from error
    if not 200 <= event.status_code < 300:
        # Its "no" stands (407, 403); its trouble may pass.
        is_final = 400 <= event.status_code < 500 and event.status_code not in (408, 429)
        place = target if target == origin.address else f"{target} for {origin.address}"
        raise TunnelRefused(
            f"the proxy {name} refused CONNECT to {place}: {event.status_code} {event.reason.decode('latin-1')}",
            ErrorClass.PERMANENT if is_final else ErrorClass.TRANSIENT,
        )


def headers_for(proxy: Proxy) -> tuple[tuple[bytes, bytes], ...]:
    """What a proxy wants of every request that it reads."""
    return () if proxy.authorization is None else ((b"proxy-authorization", proxy.authorization),)
