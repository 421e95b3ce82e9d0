"""Keys that only the daemon has: injected, rotated; and the real openai package without one of its own."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
from pathlib import Path

import httpx2
import openai
import pytest
import trio
import trustme
from planted_credential import BOTH, SECRET, credential
from reloadable_daemon import ask, reloadable
from upstream import Peer, Upstream, always, upstream
from wire_client import WireClient

from connector_sdk import RuntimeConfig, RuntimeTransport
from connector_sdk.wire import ErrorClass


class Asking:
    """Answers 200 to whoever has one of the keys, and 401 to others; tells what it was shown."""

    def __init__(self, *keys: str) -> None:
        self.keys = set(keys)
        self.shown: list[str | None] = []

    async def __call__(self, peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            shown = request.header("authorization")
            self.shown.append(shown)
            is_known = shown is not None and shown.removeprefix("Bearer ") in self.keys
            await peer.respond(b"fine" if is_known else b"who are you?", status=200 if is_known else 401)


async def get(client: WireClient, up: Upstream, **parameters: object):
    return await client.execute({"url": up.origin, **parameters})


@BOTH
async def test_a_request_without_a_key_is_given_one_and_keeps_its_own_unless_it_is_overridden(workers: int) -> None:
    asking = Asking(SECRET)
    async with upstream(asking) as up:
        with reloadable(credential(up.origin, "env = 'KEY'"), "--workers", str(workers), KEY=SECRET) as daemon:
            async with daemon.connect() as client:
                for _ in range(3):
                    assert (await get(client, up)).status == 200
                assert (await get(client, up, headers={"Authorization": "Bearer own"})).status == 401
                await daemon.reload(credential(up.origin, "env = 'KEY'", "override = true"))
                assert (await get(client, up, headers={"Authorization": "Bearer own"})).status == 200
                other = await client.execute({"url": up.origin.replace("127.0.0.1", "127.0.0.2")})
                assert other.error_class is ErrorClass.TRANSIENT  # nobody is there; and no key was looked for
        assert asking.shown == [f"Bearer {SECRET}"] * 3 + ["Bearer own", f"Bearer {SECRET}"]


async def test_tenants_and_headers_are_as_the_file_says() -> None:
    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            await peer.respond((request.header("x-api-key") or "none").encode())

    async with upstream(script) as up:
        text = credential(up.origin, "env = 'KEY'", "header = 'X-Api-Key'\ntenants = ['team-*']")
        with reloadable(text, KEY=SECRET) as daemon:
            async with daemon.connect() as client:
                assert (await client.execute({"url": up.origin}, tenant_id="team-a")).body == SECRET
                assert (await client.execute({"url": up.origin}, tenant_id="other")).body == "none"


async def test_no_key_goes_along_with_a_redirect_to_another_origin_nor_back_from_there(tmp_path: Path) -> None:
    home = Asking(SECRET)

    async def abroad(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            seen.append(request.header("authorization"))
            await peer.respond(status=302, headers=[("Location", f"{back.origin}/home")])

    seen: list[str | None] = []

    async def leaving(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            if request.target == "/home":
                seen.append(request.header("authorization"))
                await peer.respond(b"home")
            elif request.target == "/within":
                seen.append(request.header("authorization"))
                await peer.respond(status=307, headers=[("Location", "/away")])
            else:
                seen.append(request.header("authorization"))
                await peer.respond(status=307, headers=[("Location", away.origin)])

    async with upstream(leaving) as back, upstream(abroad) as away:
        text = credential("http://127.0.0.1:*", "env = 'KEY'")
        with reloadable(text, KEY=SECRET) as daemon:
            async with daemon.connect() as client:
                answer = await client.execute({"url": f"{back.origin}/within"})
                assert answer.body == "home"
    assert seen == [f"Bearer {SECRET}", f"Bearer {SECRET}", None, None]
    assert home.shown == []


async def test_over_http_a_key_goes_to_this_machine_only(authority: trustme.CA, server_tls: ssl.SSLContext) -> None:
    """Not to a proxy, and not over the address that a name for this machine has been given somewhere else."""
    async with upstream(always(b"proxied")) as proxy, upstream(always(b"fine")) as up:
        text = credential("http://localhost:*", "env = 'KEY'")
        with reloadable(text, KEY=SECRET, http_proxy=proxy.origin) as daemon:
            async with daemon.connect() as client:
                answer = await client.execute({"url": f"http://localhost:{up.port}/"})
                assert answer.error_class is ErrorClass.PERMANENT
                assert answer.message.startswith(
                    "credential 'key' cannot be used: over http it is for this machine only"
                )
        assert proxy.requests == []
    async with upstream(Asking(SECRET), tls=server_tls) as up:
        with authority.cert_pem.tempfile() as trusted:
            text = credential("https://127.0.0.1:*", "env = 'KEY'")
            with reloadable(text, KEY=SECRET, SSL_CERT_FILE=trusted) as daemon:
                async with daemon.connect() as client:
                    assert (await get(client, up)).status == 200


@pytest.mark.unmeasured
@BOTH
async def test_a_file_is_rotated_under_load_without_a_failed_request(tmp_path: Path, workers: int) -> None:
    file = tmp_path / "key"
    file.write_text("key-0\n")
    asking = Asking("key-0")
    rotations = 6
    async with upstream(asking) as up:
        with reloadable(credential(up.origin, f"file = '{file}'"), "--workers", str(workers)) as daemon:
            statuses: list[int] = []
            is_used = {f"Bearer key-{number}": trio.Event() for number in range(rotations + 1)}

            async def load() -> None:
                async with daemon.connect() as client:
                    while True:
                        statuses.append((await get(client, up)).status)
                        is_used[asking.shown[-1] or ""].set()

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(load)
                for number in range(1, rotations + 1):
                    key = f"key-{number}"
                    asking.keys.add(key)  # as an API does: the old one is good for a while
                    if number % 2:
                        new = tmp_path / "new"
                        new.write_text(f"{key}\n")
                        os.replace(new, file)
                    else:  # in place, and in two steps
                        with open(file, "w") as writing:
                            writing.flush()
                            writing.write(f"{key}\n")
                    with trio.fail_after(20):
                        await is_used[f"Bearer {key}"].wait()
                nursery.cancel_scope.cancel()
            assert set(statuses) == {200}


async def test_a_command_s_output_is_the_key(tmp_path: Path) -> None:
    program = tmp_path / "print-key"
    program.write_text(f"#!/bin/sh\necho {SECRET}\necho {SECRET} >&2\n")
    program.chmod(0o700)
    async with upstream(Asking(SECRET)) as up:
        with reloadable(credential(up.origin, f"command = ['{program}']")) as daemon:
            async with daemon.connect() as client:
                assert (await get(client, up)).status == 200


async def test_a_key_that_cannot_be_had_is_said_to_whoever_asks_and_in_the_status(tmp_path: Path) -> None:
    async with upstream(always(b"fine")) as up:
        text = credential(up.origin, f"file = '{tmp_path / 'missing'}'")
        with reloadable(text) as daemon:
            async with daemon.connect() as client:
                answer = await get(client, up)
                assert answer.error_class is ErrorClass.PERMANENT
                assert answer.message.startswith(f"credential 'key' cannot be used: the file {tmp_path}/missing")
                status = await daemon.command("status")
                assert f"Credential 'key' cannot be used: the file {tmp_path}/missing" in status.stdout
                (tmp_path / "missing").write_text(SECRET)
                with trio.fail_after(20):
                    while (await get(client, up)).error_class is not ErrorClass.SUCCESS:
                        pass
        assert len(up.requests) == 1


async def test_a_key_does_not_go_where_the_client_s_own_host_header_leads() -> None:
    async with upstream(Asking(SECRET)) as up:
        with reloadable(credential(up.origin, "env = 'KEY'", "override = true"), KEY=SECRET) as daemon:
            async with daemon.connect() as client:
                for _ in range(2):  # on a new connection, and on a kept one
                    answer = await get(client, up, headers={"Host": "attacker.example"})
                    assert answer.error_class is ErrorClass.PERMANENT
                    assert answer.message == f"credential 'key' cannot be used: the request's Host is not {up.address}"
                    assert (await get(client, up, headers={"Host": up.address})).status == 200
        assert len(up.requests) == 2


async def test_a_command_that_hangs_takes_nothing_from_others_and_is_no_failure_of_the_upstream(tmp_path: Path) -> None:
    program = tmp_path / "hang"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    async with upstream(always(b"fine")) as up:
        text = credential(up.origin, f"command = ['{program}']") + "[policy.rate_limit]\nper_tenant = '2/h'\n"
        with reloadable(text) as daemon:
            async with daemon.connect() as client:
                for _ in range(6):
                    answer = await get(client, up, timeout_ms=100)
                    assert answer.error_class is ErrorClass.TIMEOUT
                    assert answer.message.endswith("while waiting for credential 'key'")
                found = await ask(client, "statistics")
                assert found["policies"]["circuit_breaker"]["circuits"] == []
                assert found["pool"] == {"active": 0, "waiting": 0, "idle": 0}
                # Nothing was sent, so all of the rate limit is there; a request with a key of its own waits for none.
                for _ in range(2):
                    assert (await get(client, up, headers={"Authorization": "own"})).status == 200
        assert len(up.requests) == 2


# --- the official package ---


def test_the_openai_package_with_no_key_of_its_own_gets_answers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vastar_runtime", "simulator", "--port", "0", "--require-key", SECRET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
        try:
            assert simulator.stdout is not None
            address = re.search(r"http://[^:]+:\d+", simulator.stdout.readline())
            assert address is not None
            origin = address[0]
            with reloadable(credential(origin, "env = 'KEY'", "override = true"), KEY=SECRET) as daemon:
                config = RuntimeConfig(socket_path=daemon.running.socket_path, use_tcp=False)
                question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Why use a connector?"}]}
                http = httpx2.Client(transport=RuntimeTransport(config=config))
                with openai.OpenAI(base_url=f"{origin}/v1", api_key="none", http_client=http) as client:
                    assert client.chat.completions.create(**question).choices[0].message.content
                    words = [
                        choice.delta.content or ""
                        for chunk in client.chat.completions.create(**question, stream=True)
                        for choice in chunk.choices
                    ]
                    assert "".join(words)
                with (
                    openai.OpenAI(base_url=f"{origin}/v1", api_key="none", max_retries=0) as direct,
                    pytest.raises(openai.AuthenticationError),
                ):
                    direct.chat.completions.create(**question)
        finally:
            simulator.terminate()
