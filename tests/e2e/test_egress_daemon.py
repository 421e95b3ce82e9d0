"""A daemon that lets requests go to some places only: over real sockets, with the system's own names."""

from __future__ import annotations

import pytest
import trio
from reloadable_daemon import Reloadable, reloadable
from upstream import Peer, Upstream, always, answering, upstream
from wire_client import Answer, WireClient
from worker_daemon import clients, workers

from connector_sdk.wire import ErrorClass

PRIVATE = '[policy.egress]\nprivate = "deny"\n'
PATIENCE_S = 20


def allowing(*rules: str) -> str:
    return PRIVATE + f"allow = {list(rules)}\n"


def is_denied(answer: Answer, place: str, why: str) -> None:
    assert answer.error_class is ErrorClass.PERMANENT, answer
    assert answer.message == f'egress denies {place}: {why}, and egress.private is "deny"'


async def get(client: WireClient, url: str, tenant: str = "tenant") -> Answer:
    return await client.execute({"url": url}, tenant_id=tenant)


@pytest.mark.unmeasured
async def test_nothing_but_public_addresses_can_be_reached_however_they_are_asked_for():
    async with upstream(always(b"secret")) as up:
        with reloadable(PRIVATE) as daemon:
            async with daemon.connect() as client:
                for host in ("127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1.", "１２７.０.０.１"):
                    answer = await get(client, f"http://{host}:{up.port}/path?key=s3cr3t")
                    is_denied(answer, up.origin, "it is loopback (127.0.0.0/8)")
                answer = await get(client, f"http://[::ffff:127.0.0.1]:{up.port}/")
                assert "it leads to 127.0.0.1, which is loopback (127.0.0.0/8)" in answer.message
                answer = await get(client, f"http://localhost:{up.port}/")  # of /etc/hosts
                assert answer.error_class is ErrorClass.PERMANENT
                assert answer.message.startswith(f"egress denies http://localhost:{up.port} (")
                assert "): it is loopback (" in answer.message
                answer = await get(client, f"http://127.0.0.1.5:{up.port}/")
                assert answer.error_class is ErrorClass.INVALID_REQUEST
                assert answer.message == "malformed URL: '127.0.0.1.5' is no IPv4 address"
            await daemon.wait_for_log('error="egress denies')
            log = daemon.running.log
            assert "error_class=permanent" in log
            assert "s3cr3t" not in log
    assert up.connections == 0


@pytest.mark.unmeasured
@pytest.mark.parametrize("rule", ["127.0.0.1/32", "http://127.0.0.1:{port}"])
async def test_an_exception_is_a_network_or_an_origin_with_that_address(rule: str):
    async with upstream(always(b"fine")) as up, upstream(always(b"other")) as other:
        with reloadable(allowing(rule.format(port=up.port))) as daemon:
            async with daemon.connect() as client:
                for _ in range(3):  # the later ones over a connection that was kept
                    assert (await get(client, up.origin)).body == "fine"
                assert (await get(client, f"http://0x7f.1:{up.port}/")).body == "fine"
                answer = await get(client, other.origin)
                if rule.startswith("http"):
                    is_denied(answer, other.origin, "it is loopback (127.0.0.0/8)")
                else:
                    assert answer.body == "other"
                answer = await get(client, f"http://127.0.0.2:{up.port}/")
                is_denied(answer, f"http://127.0.0.2:{up.port}", "it is loopback (127.0.0.0/8)")
    assert up.connections == 1


async def test_an_origin_with_a_name_is_no_exception():
    async with upstream(always(b"fine")) as up:
        with reloadable(allowing(f"http://localhost:{up.port}")) as daemon:
            async with daemon.connect() as client:
                answer = await get(client, f"http://localhost:{up.port}")
                assert "): it is loopback (" in answer.message
    assert up.connections == 0


async def test_a_tenant_may_go_where_the_others_may_not():
    scopes = (
        '[[scope]]\ntenant = "internal"\n[scope.egress]\nprivate = "allow"\n'
        '[[scope]]\ntenant = "narrow"\n[scope.egress]\nprivate = "allow"\nallow = ["https://api.example"]\n'
    )
    async with upstream(always(b"fine")) as up:
        with reloadable(PRIVATE + scopes) as daemon:
            async with daemon.connect() as client:
                for _ in range(2):
                    assert (await get(client, up.origin, "internal")).body == "fine"
                    is_denied(await get(client, up.origin), up.origin, "it is loopback (127.0.0.0/8)")
                    answer = await get(client, up.origin, "narrow")
                    assert answer.message == f"egress denies {up.origin}: it is not in egress.allow"
    assert up.connections == 1


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("location", "place", "why"),
    [
        ("http://169.254.169.254/latest", "http://169.254.169.254", "it is cloud metadata (169.254.169.254)"),
        ("//0xa9fea9fe/", "http://169.254.169.254", "it is cloud metadata (169.254.169.254)"),
        ("https://[fd00:ec2::254]/", "https://[fd00:ec2::254]", "it is cloud metadata (fd00:ec2::254)"),
    ],
)
async def test_a_redirect_inside_is_not_followed(location: str, place: str, why: str):
    async with upstream(always(status=302, headers=[("Location", location)])) as up:
        with reloadable(allowing("127.0.0.1/32")) as daemon:
            async with daemon.connect() as client:
                is_denied(await get(client, up.origin), place, why)
    assert len(up.requests) == 1


async def test_what_is_denied_costs_neither_tokens_nor_the_circuit():
    limit = '[policy.rate_limit]\nper_tenant = "2/h"\n'
    scope = '[[scope]]\norigin = "http://127.0.0.1:*"\n[scope.egress]\nprivate = "allow"\n'
    async with upstream(always(b"fine")) as up:
        with reloadable(PRIVATE + limit + scope) as daemon:
            async with daemon.connect() as client:
                for number in range(10):
                    host = ("localhost", "127.0.0.2")[number % 2]
                    answer = await get(client, f"http://{host}:{up.port}")
                    assert answer.error_class is ErrorClass.PERMANENT
                for _ in range(2):
                    assert (await get(client, up.origin)).body == "fine"
                assert (await get(client, up.origin)).error_class is ErrorClass.RATE_LIMITED
            assert "circuit opened" not in daemon.running.log


async def kept_and_then_closed(daemon: Reloadable, up: Upstream, opened: list[WireClient]) -> None:
    """Connections that were opened while they might be are of no use when they may not."""
    for client in opened:
        for _ in range(2):
            assert (await get(client, up.origin)).body == "fine"
    kept, asked = up.connections, len(up.requests)
    await daemon.reload('[policy.egress]\ndeny = ["127.0.0.0/8"]\n')
    for client in opened:
        answer = await get(client, up.origin)
        assert answer.message == f'egress denies {up.origin}: it is in "127.0.0.0/8" of egress.deny'
        answer = await get(client, f"http://localhost:{up.port}")
        assert " of egress.deny" in answer.message or "cannot connect" in answer.message  # ::1 is not denied here
    assert (up.connections, len(up.requests)) == (kept, asked)
    await daemon.reload("")
    for client in opened:
        assert (await get(client, up.origin)).body == "fine"


@pytest.mark.unmeasured
async def test_a_reload_is_for_connections_too_that_are_kept():
    async with upstream(always(b"fine")) as up:
        with reloadable() as daemon:
            async with clients(daemon, 1) as opened:
                await kept_and_then_closed(daemon, up, opened)


@pytest.mark.unmeasured
async def test_all_workers_deny_alike():
    async with upstream(always(b"fine")) as up:
        with workers(PRIVATE, number=2) as daemon:
            async with clients(daemon, 6) as opened:
                for client in opened:
                    is_denied(await get(client, up.origin), up.origin, "it is loopback (127.0.0.0/8)")
                    assert "): it is loopback (" in (await get(client, f"http://localhost:{up.port}")).message
                assert up.connections == 0
                await daemon.reload("")
                await kept_and_then_closed(daemon, up, opened)


async def test_behind_a_proxy_names_are_judged_and_tunnelled_to_their_address():
    """The proxy stands at a loopback address itself, which nobody judges."""
    tunnels: list[str] = []

    async def tunnelling(peer: Peer) -> None:
        request = await peer.request()
        if request is None:
            return
        tunnels.append(f"{request.method} {request.target}")
        host, _, port = request.target.rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as behind, trio.open_nursery() as nursery:
            await peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
            nursery.start_soon(pump, peer.stream, behind, nursery.cancel_scope)
            nursery.start_soon(pump, behind, peer.stream, nursery.cancel_scope)

    hosts = answering(lambda request: {"body": (request.header("host") or "").encode()})
    async with upstream(hosts) as up, upstream(tunnelling) as proxy:
        with reloadable(allowing("127.0.0.1/32", "::1"), http_proxy=proxy.origin) as daemon:
            async with daemon.connect() as client:
                assert (await get(client, f"http://127.1:{up.port}")).body == f"127.0.0.1:{up.port}"
                answer = await get(client, "http://169.254.169.254/")
                is_denied(answer, "http://169.254.169.254", "it is cloud metadata (169.254.169.254)")
                assert tunnels == [f"CONNECT 127.0.0.1:{up.port}"]
                answer = await get(client, "http://no-such-host.invalid/")
                assert answer.message.startswith("HTTP request failed: DNS lookup of no-such-host.invalid:80 failed: ")
                assert answer.message.endswith("; egress rules about addresses need it")


async def pump(source: trio.abc.Stream, sink: trio.abc.Stream, both: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some():
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    both.cancel()


async def test_where_rules_go_by_names_a_host_header_names_no_other_place():
    async with upstream(always(b"fine")) as up:
        with reloadable(f"[policy.egress]\nallow = ['{up.origin}']\n") as daemon:
            async with daemon.connect() as client:
                for headers, allowed in [
                    ({}, True),
                    ({"Host": up.address}, True),
                    ({"Host": up.address.upper()}, True),
                    ({"Host": "internal.example"}, False),
                ]:
                    answer = await client.execute({"url": up.origin, "headers": headers})
                    assert (answer.error_class is ErrorClass.SUCCESS) == allowed, answer
                assert answer.message == (
                    f"egress denies {up.origin}: the request's Host is another, and rules go by that"
                )
            # Without such rules it is the client's to choose.
            await daemon.reload(PRIVATE + "allow = ['127.0.0.0/8']\n")
    assert len(up.requests) == 3


async def test_without_rules_a_client_names_any_host():
    async with upstream(answering(lambda request: {"body": (request.header("host") or "").encode()})) as up:
        with reloadable() as daemon:
            async with daemon.connect() as client:
                answer = await client.execute({"url": up.origin, "headers": {"Host": "other.example"}})
                assert answer.body == "other.example"
