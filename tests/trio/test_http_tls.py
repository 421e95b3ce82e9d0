"""TLS: which certificates are accepted, and what is said of the others."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trustme
from http_upstream import Peer, Resolver, authority, client_tls, hello, server_tls, start_client, start_upstream

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import ConfigError, UpstreamError
from vastar_runtime.http.dial import Dialer, check_trust_store, system_tls
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.http.url import Origin, parse_url

DIRECT = Proxies({})


async def failure(url: str, tls: ssl.SSLContext | None = None) -> UpstreamError:
    """The error of dialing; DNS and TCP are real."""
    with pytest.raises(UpstreamError) as caught:
        await Dialer(DIRECT, lambda: tls or client_tls()).dial(parse_url(url).origin)
    assert caught.value.message.startswith("HTTP request failed: ")
    assert "\n" not in caught.value.message
    return caught.value


async def test_a_certificate_of_an_unknown_authority_is_permanent(nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello, tls=server_tls(ca=trustme.CA()))
    error = await failure(upstream.url())
    assert error.error_class is ErrorClass.PERMANENT
    assert error.message == (
        f"HTTP request failed: the TLS certificate of 127.0.0.1:{upstream.port} was rejected: "
        "unable to get local issuer certificate"
    )
    while upstream.open_connections:
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    ("names", "host", "reason"),
    [
        (["other.example"], "127.0.0.1", "IP address mismatch, certificate is not valid for '127.0.0.1'."),
        (["other.example"], "real.example", "Hostname mismatch, certificate is not valid for 'real.example'."),
        (["*.example"], "a.real.example", "Hostname mismatch, certificate is not valid for 'a.real.example'."),
        (["real.example"], "sub.real.example", "Hostname mismatch, certificate is not valid for 'sub.real.example'."),
    ],
)
async def test_a_certificate_for_another_name_is_permanent(
    nursery: trio.Nursery, names: list[str], host: str, reason: str
) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1"))
    upstream = await start_upstream(nursery, hello, tls=server_tls(*names))
    error = await failure(upstream.url(host=host))
    assert error.error_class is ErrorClass.PERMANENT
    assert error.message == (
        f"HTTP request failed: the TLS certificate of {host}:{upstream.port} was rejected: {reason}"
    )


async def test_an_expired_certificate_is_permanent(nursery: trio.Nursery) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    tls = server_tls(not_before=past, not_after=past + datetime.timedelta(days=1))
    upstream = await start_upstream(nursery, hello, tls=tls)
    error = await failure(upstream.url())
    assert error.error_class is ErrorClass.PERMANENT
    assert error.message.endswith("was rejected: certificate has expired")


@pytest.mark.parametrize(
    ("certificate", "host"),
    [
        ("real.example", "real.example"),
        ("real.example", "REAL.example"),
        ("real.example", "real.example."),
        ("*.real.example", "any.real.example"),
        ("xn--bcher-kva.example", "bücher.example"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
async def test_a_certificate_for_the_name_is_accepted(nursery: trio.Nursery, certificate: str, host: str) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1"))
    upstream = await start_upstream(nursery, hello, tls=server_tls(certificate))
    client = start_client(nursery, tls=client_tls())
    assert (await client.fetch(upstream.url(host=host))).body == b"hello"


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"]
)
async def test_a_server_without_tls_on_the_port_is_transient(nursery: trio.Nursery, said: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.stream.receive_some()
        await peer.send(said)

    upstream = await start_upstream(nursery, script)
    error = await failure(f"https://127.0.0.1:{upstream.port}/")
    assert error.error_class is ErrorClass.TRANSIENT
    start = f"HTTP request failed: the TLS handshake with 127.0.0.1:{upstream.port} failed: "
    assert error.message.startswith(start)
    assert error.message.removeprefix(start) in (
        "unexpected eof while reading",
        "wrong version number; does that port speak https?",
        "the connection was closed",  # as older versions of OpenSSL call the first
    )


async def test_a_reset_inside_the_handshake_is_transient(nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.stream.receive_some()
        await peer.reset()

    upstream = await start_upstream(nursery, script)
    error = await failure(f"https://127.0.0.1:{upstream.port}/")
    assert error.error_class is ErrorClass.TRANSIENT
    assert error.message.endswith(f"the TLS handshake with 127.0.0.1:{upstream.port} failed: the connection was closed")


async def test_a_server_that_wants_another_version_of_tls_is_transient(nursery: trio.Nursery) -> None:
    old = server_tls()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    new = client_tls()
    new.minimum_version = ssl.TLSVersion.TLSv1_3
    upstream = await start_upstream(nursery, hello, tls=old)
    error = await failure(upstream.url(), new)
    assert error.error_class is ErrorClass.TRANSIENT
    assert f"the TLS handshake with 127.0.0.1:{upstream.port} failed: " in error.message


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_connections_are_kept_with_every_version_of_tls(nursery: trio.Nursery, version: ssl.TLSVersion) -> None:
    """Session tickets of TLS 1.3 come after the handshake; they must not look like an upstream's last words."""
    tls = server_tls()
    tls.minimum_version = tls.maximum_version = version
    upstream = await start_upstream(nursery, hello, tls=tls)
    client = start_client(nursery, tls=client_tls())
    for _ in range(3):
        await client.fetch(upstream.url())
    assert upstream.connections == 1


async def test_the_trust_store_is_read_at_the_first_https_connection_and_once(nursery: trio.Nursery) -> None:
    plain = await start_upstream(nursery, hello)
    secure = await start_upstream(nursery, hello, tls=server_tls())
    read: list[ssl.SSLContext] = []

    def tls() -> ssl.SSLContext:
        read.append(client_tls())
        return read[-1]

    dialer = Dialer(DIRECT, tls)
    await (await dialer.dial(Origin("http", "127.0.0.1", plain.port))).close()
    assert len(read) == 0
    for _ in range(2):
        await (await dialer.dial(Origin("https", "127.0.0.1", secure.port))).close()
    assert len(read) == 1


async def test_the_systems_trust_store_can_be_named_by_the_environment(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = await start_upstream(nursery, hello, tls=server_tls())
    assert (await failure(upstream.url(), system_tls())).error_class is ErrorClass.PERMANENT
    bundle = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    client = start_client(nursery, tls=system_tls())
    assert (await client.fetch(upstream.url())).body == b"hello"


async def test_a_process_started_with_ssl_cert_file_trusts_what_is_in_it(nursery: trio.Nursery, tmp_path: Path) -> None:
    upstream = await start_upstream(nursery, hello, tls=server_tls())
    bundle = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(bundle))
    code = (
        "import sys, trio\n"
        "from vastar_runtime.http.dial import Dialer\n"
        "from vastar_runtime.http.proxy import Proxies\n"
        "from vastar_runtime.http.url import Origin\n"
        "async def main():\n"
        "    connection = await Dialer(Proxies({})).dial(Origin('https', '127.0.0.1', int(sys.argv[1])))\n"
        "    await connection.close()\n"
        "trio.run(main)\n"
    )
    for environ, is_trusted in (({"SSL_CERT_FILE": str(bundle)}, True), ({}, False)):
        inherited = {name: value for name, value in os.environ.items() if name not in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
        done = await trio.run_process(
            [sys.executable, "-c", code, str(upstream.port)],
            env=inherited | environ, check=False, capture_stderr=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        assert (done.returncode == 0) is is_trusted, done.stderr.decode()
        if not is_trusted:
            assert b"unable to get local issuer certificate" in done.stderr


def test_the_systems_tls_checks_certificate_and_name() -> None:
    context = system_tls()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_trust_store_that_is_not_there_is_refused_by_name(variable: str) -> None:
    """OpenSSL says nothing, and then trusts nobody."""
    with pytest.raises(ConfigError, match=rf"{variable}: '/no/such' is no readable"):
        check_trust_store({variable: "/no/such"})


def test_a_trust_store_that_is_there_passes(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    trustme.CA().cert_pem.write_to_path(bundle)
    check_trust_store({"SSL_CERT_FILE": str(bundle), "SSL_CERT_DIR": str(tmp_path)})
    check_trust_store({"SSL_CERT_FILE": ""})


async def test_tls_that_cannot_be_set_up_fails_the_request_and_says_why(nursery: trio.Nursery) -> None:
    def unusable() -> ssl.SSLContext:
        raise PermissionError(13, "Permission denied", "/keys.log")

    upstream = await start_upstream(nursery, hello)
    with pytest.raises(UpstreamError) as caught:
        await Dialer(DIRECT, unusable).dial(parse_url(f"https://127.0.0.1:{upstream.port}/").origin)
    assert caught.value.error_class is ErrorClass.PERMANENT
    assert "TLS cannot be set up: [Errno 13] Permission denied: '/keys.log'" in caught.value.message


async def test_an_answer_too_many_in_a_tls_record_of_its_own_does_not_answer_the_next_request(
    nursery: trio.Nursery,
) -> None:
    """No socket shows it: it lies decrypted nowhere yet, and would be the first thing that the next request reads."""

    async def script(peer: Peer) -> None:
        await peer.request()
        transport = peer.stream.transport_stream  # type: ignore[attr-defined]
        transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # both records in one segment
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nme")
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nINJECTED")
        transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        await peer.gone()

    upstream = await start_upstream(nursery, script, hello, tls=server_tls())
    client = start_client(nursery, {}, client_tls())
    assert (await client.fetch(upstream.url())).body == b"me"
    assert (await client.fetch(upstream.url())).body == b"hello"
    assert upstream.connections == 2
