"""Where Redis may be: a port, with a database and a user of one's own, and behind TLS."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trio
import trustme
from redis_server import available, redis_server
from structlog.testing import capture_logs

from vastar_runtime.config.policy import Rate
from vastar_runtime.policies.token_bucket import Bucket, LimitKey, Taken
from vastar_runtime.shared.redis_address import RedisAddress
from vastar_runtime.shared.redis_limits import RedisLimits

BUCKET = Bucket(LimitKey("per_tenant", "t", None), Rate(2, 3600), 2)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def limits_at(url: str, ssl_context: ssl.SSLContext | None = None) -> RedisLimits:
    return RedisLimits(
        RedisAddress.parse(url),
        prefix="test",
        daemon="a",
        fail="closed",
        ssl_context=ssl_context,
        timeout_s=10.0,
        recovery_s=0.05,
    )


async def is_counted(limits: RedisLimits) -> bool:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limits.run)
        await available(limits)
        taken = isinstance(await limits.rate_limits.take([BUCKET]), Taken)
        nursery.cancel_scope.cancel()
    return taken


async def test_a_user_counts_in_a_database_on_a_port() -> None:
    port = free_port()
    with redis_server("--port", str(port), "--user", *["alice", "on", ">p@ss", "~vastar:*", "+@all"]) as server:
        assert await is_counted(limits_at(f"redis://alice:p%40ss@localhost:{port}/3"))
        assert server.command("-n", "3", "DBSIZE") == "3"
        assert server.command("-n", "0", "DBSIZE") == "0"


async def test_tls_is_spoken_with_whom_the_context_trusts(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    port, both = free_port(), str(tmp_path / "both.pem")
    files = ["--tls-cert-file", both, "--tls-key-file", both, "--tls-ca-cert-file", both]
    with redis_server("--tls-port", str(port), *files, "--tls-auth-clients", "no"):
        context = ssl.create_default_context()
        authority.configure_trust(context)
        assert await is_counted(limits_at(f"rediss://localhost:{port}", context))
        for host, given, reason in (
            ("localhost", None, "certificate verify failed"),
            ("127.0.0.1", context, "certificate verify failed"),
        ):
            with capture_logs() as lines:
                limits = limits_at(f"rediss://{host}:{port}", given)
                async with trio.open_nursery() as nursery:
                    await nursery.start(limits.run)
                    nursery.cancel_scope.cancel()
            assert reason in lines[0]["reason"]


async def test_a_plain_server_is_no_tls_server() -> None:
    async def plain(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await stream.send_all(b"-ERR this is no TLS\r\n")

    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, plain, [listener])
            limits = limits_at(f"rediss://127.0.0.1:{listener.socket.getsockname()[1]}")
            await nursery.start(limits.run)
            nursery.cancel_scope.cancel()
    assert "SSL" in lines[0]["reason"]


async def test_a_host_that_does_not_exist_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            limits = limits_at("redis://no-such-host.invalid")
            await nursery.start(limits.run)
            nursery.cancel_scope.cancel()
    assert lines[0]["redis"] == "no-such-host.invalid:6379"
    assert lines[0]["reason"].isprintable()
