"""Opening a connection: DNS and TCP (happy eyeballs, RFC 8305), a proxy's tunnel, TLS."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import cast

import h11
import trio

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import ConfigError, Failure, UpstreamError

from .connection import READ_BYTES, Connection, connection_name
from .proxy import Proxies, Proxy
from .url import Origin

CONNECT_TIMEOUT_S = 10.0


def check_trust_store(environ: Mapping[str, str]) -> None:
    """OpenSSL passes over a store that it cannot read, and then rejects every certificate.

    Raises:
        ConfigError: SSL_CERT_FILE or SSL_CERT_DIR is set and cannot be used.
    """
    for variable, is_usable, kind in (
        ("SSL_CERT_FILE", os.path.isfile, "file"),
        ("SSL_CERT_DIR", os.path.isdir, "directory"),
    ):
        path = environ.get(variable, "")
        if path and not (is_usable(path) and os.access(path, os.R_OK)):
            raise ConfigError(f"{variable}: {path!r} is no readable {kind}; correct it or unset it")


def system_tls() -> ssl.SSLContext:
    """Certificates verified against the system's trust store (SSL_CERT_FILE and SSL_CERT_DIR are honoured by
    OpenSSL), host names checked, HTTP/1.1 offered."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Opens connections.

    Args:
        proxies: the environment's proxies.
        tls: makes the TLS context; called at the first https connection, since reading the trust store takes
            tens of milliseconds that a start without https need not pay.
    """

    def __init__(self, proxies: Proxies, tls: Callable[[], ssl.SSLContext] = system_tls) -> None:
        self._proxies = proxies
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None

    async def dial(self, origin: Origin, timeout_s: float = CONNECT_TIMEOUT_S) -> Connection:
        """A connection ready for a request to ``origin``.

        Raises:
            UpstreamError: Transient (DNS, refused, unreachable, a proxy's refusal, a failed handshake), Timeout
                (not open after ``timeout_s``), or Permanent (the certificate is rejected). Always Failure.UNSENT.
        """
        proxy = self._proxies.for_origin(origin)
        name = connection_name(origin, proxy.origin if proxy else None)
        try:
            with trio.move_on_after(timeout_s):
                return await self._open(origin, proxy, name)
            raise UpstreamError(
                f"connecting to {name} took longer than {timeout_s:g} s (deadline.connect_timeout_ms)",
                ErrorClass.TIMEOUT,
            )
        except UpstreamError as error:
            error.failure = Failure.UNSENT  # wherever it arose: there was no connection yet
            raise

    async def _open(self, origin: Origin, proxy: Proxy | None, name: str) -> Connection:
        first_hop = origin if proxy is None else proxy.origin
        stream = await _connect(first_hop, "the proxy " if proxy else "")
        try:
            if proxy is None:
                return Connection(await self._secured(stream, origin), name)
            stream = await self._secured(stream, proxy.origin)
            authorization = () if proxy.authorization is None else ((b"proxy-authorization", proxy.authorization),)
            if origin.scheme == "http":
                return Connection(stream, name, origin_form_prefix=str(origin), extra_headers=authorization)
            await _open_tunnel(stream, origin, proxy.origin, authorization)
            return Connection(await self._secured(stream, origin), name)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    async def _secured(self, stream: trio.abc.Stream, origin: Origin) -> trio.abc.Stream:
        """TLS over the stream when the origin's scheme asks for it."""
        if origin.scheme != "https":
            return stream
        if self._tls is None:
            try:
                self._tls = self._make_tls()
            except OSError as error:  # ssl.SSLError is one
                raise UpstreamError(f"TLS cannot be set up: {error}", ErrorClass.PERMANENT) from error
        # A certificate's names have no dot at their end, and neither has SNI (RFC 6066, section 3).
        name = origin.host.removesuffix(".")
        secured = trio.SSLStream(stream, self._tls, server_hostname=name, https_compatible=True)
        try:
            await secured.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError, ssl.CertificateError) as error:
            raise _tls_error(origin, error) from error
        return secured


async def _connect(origin: Origin, what: str) -> trio.abc.Stream:
    try:
        if (family := _family(origin.host)) is not None:
            return await _connect_to(origin.host, origin.port, family)
        return await trio.open_tcp_stream(origin.host, origin.port)
    except socket.gaierror as error:
        raise UpstreamError(f"DNS lookup of {what}{origin.address} failed: {error.strerror}") from error
    except OSError as error:
        raise UpstreamError(f"cannot connect to {what}{origin.address}: {_connect_reason(error)}") from error


def _family(host: str) -> socket.AddressFamily | None:
    """Of an IP address; None: it is a name."""
    if ":" in host:
        return socket.AF_INET6
    return socket.AF_INET if host.rpartition(".")[2].isdigit() else None


async def _connect_to(address: str, port: int, family: socket.AddressFamily) -> trio.abc.Stream:
    """To one address there is one attempt: trio's many at once cost several times as much."""
    connecting = trio.socket.socket(family)
    try:
        await connecting.connect((address, port))
    except BaseException:
        connecting.close()
        raise
    return trio.SocketStream(connecting)


def _connect_reason(error: OSError) -> str:
    """trio's error says that all attempts failed; the attempts' own errors are behind it."""
    cause = error.__cause__
    errors = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause or error,)
    # By number: trio puts the address into strerror, which would make every attempt's reason another one.
    reasons = dict.fromkeys(os.strerror(e.errno) if e.errno else str(e) for e in errors if isinstance(e, OSError))
    return ", ".join(reasons) or str(error)


async def _open_tunnel(
    stream: trio.abc.Stream, origin: Origin, proxy: Origin, authorization: tuple[tuple[bytes, bytes], ...]
) -> None:
    """CONNECT (RFC 9110, section 9.3.6)."""
    connection = h11.Connection(h11.CLIENT)
    target = origin.address
    headers = [(b"host", target.encode()), *authorization]
    head = connection.send(h11.Request(method="CONNECT", target=target, headers=headers))
    connection.send(h11.EndOfMessage())
    assert head is not None
    try:
        await stream.send_all(head)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                break
            if event is h11.NEED_DATA:
                data = cast(bytes, await stream.receive_some(READ_BYTES))
                if not data:
                    raise UpstreamError(f"the proxy {proxy.address} closed the connection instead of answering CONNECT")
                connection.receive_data(data)
    except trio.BrokenResourceError as error:
        raise UpstreamError(f"the proxy {proxy.address} broke the connection instead of answering CONNECT") from error
    except h11.RemoteProtocolError as error:
        raise UpstreamError(f"the proxy {proxy.address} does not speak HTTP/1.1: {error}") from error
    if not 200 <= event.status_code < 300:
        # Its "no" stands (407, 403); its trouble may pass.
        is_final = 400 <= event.status_code < 500 and event.status_code not in (408, 429)
        raise UpstreamError(
            f"the proxy {proxy.address} refused CONNECT to {target}: "
            f"{event.status_code} {event.reason.decode('latin-1')}",
            ErrorClass.PERMANENT if is_final else ErrorClass.TRANSIENT,
        )


def _tls_error(origin: Origin, error: BaseException) -> UpstreamError:
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return UpstreamError(
            f"the TLS certificate of {origin.address} was rejected: {cause.verify_message}", ErrorClass.PERMANENT
        )
    if isinstance(cause, ssl.SSLError) and cause.reason:
        reason = cause.reason.lower().replace("_", " ")
        if cause.reason == "WRONG_VERSION_NUMBER":
            reason += "; does that port speak https?"
    else:
        reason = "the connection was closed"
    return UpstreamError(f"the TLS handshake with {origin.address} failed: {reason}")
