"""Opening a connection: DNS and TCP (happy eyeballs, RFC 8305), a proxy's tunnel, TLS."""

from __future__ import annotations

import math
import os
import socket
import ssl
from collections.abc import Callable, Mapping

import trio

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import ConfigError, EgressDenied, Failure, UpstreamError

from .addresses import AddressGuard, connect, find, peer_address
from .connection import connection_name
from .prompt_connection import PromptConnection
from .proxy import Proxies, Proxy
from .tunnel import TunnelRefused, headers_for, open_tunnel
from .url import Origin

CONNECT_TIMEOUT_S = 10.0
# For a proxy to reach one of several addresses.
ATTEMPT_S = 2.0


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

    async def dial(
        self, origin: Origin, timeout_s: float = CONNECT_TIMEOUT_S, guard: AddressGuard | None = None
    ) -> PromptConnection:
        """A connection ready for a request to ``origin``.

        Args:
            guard: judges the addresses that the origin is found at; None: any will do.

        Raises:
            UpstreamError: Transient (DNS, refused, unreachable, a proxy's refusal, a failed handshake), Timeout
                (not open after ``timeout_s``), or Permanent (the certificate is rejected). Always Failure.UNSENT.
            EgressDenied: the guard allows none of its addresses.
        """
        proxy = self._proxies.for_origin(origin)
        name = connection_name(origin, proxy.origin if proxy else None)
        try:
            with trio.move_on_after(timeout_s):
                if proxy is None:
                    return await self._open(origin, name, guard)
                if guard is None:
                    return await self._open_through(proxy, origin, name, None)
                return await self._open_to_known(proxy, origin, name, guard)
            raise UpstreamError(
                f"connecting to {name} took longer than {timeout_s:g} s (deadline.connect_timeout_ms)",
                ErrorClass.TIMEOUT,
            )
        except UpstreamError as error:
            error.failure = Failure.UNSENT  # wherever it arose: there was no connection yet
            raise

    async def _open(self, origin: Origin, name: str, guard: AddressGuard | None) -> PromptConnection:
        stream = await _connect(origin, guard=guard)
        try:
            address = _address_of(stream, origin, guard)
            return PromptConnection(await self._secured(stream, origin), name, address=address, is_direct=True)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    async def _open_to_known(self, proxy: Proxy, origin: Origin, name: str, guard: AddressGuard) -> PromptConnection:
        """Through a tunnel to an address that was judged here: what a proxy would find nobody could judge."""
        try:
            found = await find(origin, guard)
        except OSError as error:
            raise _lookup_error(origin.address, error, "; egress rules about addresses need it") from error
        addresses = [place.address for place in found]
        for number, address in enumerate(addresses, 1):
            is_last = number == len(addresses)
            try:
                # What it cannot reach it may take long to say; the others are to be tried within the time, too.
                with trio.move_on_after(math.inf if is_last else ATTEMPT_S):
                    return await self._open_through(proxy, origin, name, address)
            except UpstreamError as error:
                # A proxy's "no" may be one to this address; a certificate would be rejected at the next one, too.
                if is_last or (error.error_class is ErrorClass.PERMANENT and not isinstance(error, TunnelRefused)):
                    raise
        raise AssertionError("the last one returns or raises")

    async def _open_through(self, proxy: Proxy, origin: Origin, name: str, address: str | None) -> PromptConnection:
        """
        Args:
            address: where the proxy is to connect to; None: it looks up the name itself.
        """
        stream: trio.abc.Stream = await _connect(proxy.origin, "the proxy ")
        try:
            stream = await self._secured(stream, proxy.origin)
            if address is None and origin.scheme == "http":
                return PromptConnection(stream, name, origin_form_prefix=str(origin), extra_headers=headers_for(proxy))
            await open_tunnel(stream, proxy, origin, address)
            return PromptConnection(await self._secured(stream, origin), name, address=address)
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


async def _connect(origin: Origin, what: str = "", guard: AddressGuard | None = None) -> trio.SocketStream:
    try:
        return await connect(await find(origin, guard))
    except socket.gaierror as error:
        raise _lookup_error(f"{what}{origin.address}", error) from error
    except OSError as error:
        raise UpstreamError(f"cannot connect to {what}{origin.address}: {_connect_reason(error)}") from error


def _address_of(stream: trio.SocketStream, origin: Origin, guard: AddressGuard | None) -> str | None:
    """Where the connection leads, as the kernel says; None: it has ended already, and nobody judges it.

    Raises:
        UpstreamError: it has ended already.
        EgressDenied: it must not go there.
    """
    try:
        address = peer_address(stream)
    except OSError as error:
        if guard is None:
            return None
        raise UpstreamError(f"cannot connect to {origin.address}: {_connect_reason(error)}") from error
    if guard is not None and (refusal := guard.refusal(origin.without_root, address)) is not None:
        raise EgressDenied(refusal)
    return address


def _lookup_error(name: str, error: OSError, why: str = "") -> UpstreamError:
    return UpstreamError(f"DNS lookup of {name} failed: {error.strerror or error}{why}")


def _connect_reason(error: OSError) -> str:
    """Of several attempts the errors are behind the one that says that all have failed."""
    cause = error.__cause__
    errors = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (error,)
    # By number: trio puts the address into strerror, which would make every attempt's reason another one.
    reasons = dict.fromkeys(os.strerror(e.errno) if e.errno else str(e) for e in errors if isinstance(e, OSError))
    return ", ".join(reasons) or str(error)


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
