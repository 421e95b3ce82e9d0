"""What ``status`` tells of a daemon that holds requests back, and in what words."""

from __future__ import annotations

import json
import re

import pytest
import trio
from reloadable_daemon import ask, json_of, reloadable
from upstream import Peer, always, upstream
from wire_client import WireClient

from connector_sdk.wire import (
    ErrorClass,
)

pytestmark = pytest.mark.unmeasured

SECRET = "s3cr3t"
FIRST_FAILURE = "[policy.retry]\nmax_retries = 0\n[policy.circuit_breaker]\nconsecutive_failures = 1\n"


class Failing:
    """Answers /fails with 503, keeps /held until the end, and answers the others."""

    def __init__(self) -> None:
        self.held = 0
        self.another_came = trio.Event()

    async def __call__(self, peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            if request.target.startswith("/held"):
                self.held += 1
                self.another_came.set()
                self.another_came = trio.Event()
                await peer.gone()
            else:
                await peer.respond(status=503 if request.target.startswith("/fails") else 200)


async def admission(client: WireClient) -> dict[str, object]:
    policies = (await ask(client, "statistics"))["policies"]
    assert isinstance(policies["admission"], dict)
    return policies["admission"]


def held_back(stdout: str) -> list[str]:
    """The lines of status under "Held back:"."""
    above, _, below = stdout.partition("   Held back:\n")
    assert above.startswith("Running\n")
    lines = below.splitlines()
    assert lines, stdout
    assert all(line.startswith("      ") for line in lines)
    return [line.strip() for line in lines]


async def test_everything_that_can_hold_a_request_back_has_its_line():
    failing = Failing()
    async with upstream(failing) as up, upstream(always()) as limited:
        settings = f"""
[admission]
max_concurrent = 3
[policy.retry]
max_retries = 0
[policy.circuit_breaker]
consecutive_failures = 1
open_ms = 300000
[[scope]]
tenant = "probing"
circuit_breaker.open_ms = 1
[[scope]]
tenant = "rated"
rate_limit.per_tenant = "1/h"
[[scope]]
tenant = "rated here"
origin = "{up.origin}"
rate_limit.per_tenant_and_origin = "1/min"
[[scope]]
origin = "{limited.origin}"
rate_limit.per_origin = "1/h"
[[scope]]
tenant = "busy"
concurrency.max_per_tenant = 1
"""
        with reloadable(settings) as daemon:
            async with daemon.connect() as client, daemon.connect() as holding:

                async def get(url: str, tenant: str) -> ErrorClass:
                    return (await client.execute({"url": url}, tenant_id=tenant)).error_class

                for tenant, url in [("rated", up.origin), ("rated here", up.origin), ("anybody", limited.origin)]:
                    assert await get(url, tenant) is ErrorClass.SUCCESS
                    assert await get(url, tenant) is ErrorClass.RATE_LIMITED
                    assert await get(url, tenant) is ErrorClass.RATE_LIMITED
                for tenant in ("unlucky", "probing"):
                    assert await get(f"{up.origin}/fails", tenant) is ErrorClass.SUCCESS  # a 503 is an answer

                # The probe, the busy tenant's request and one more have all the places; two more wait for one.
                while not failing.held:
                    came = failing.another_came
                    probe = await holding.begin({"url": f"{up.origin}/held"}, tenant_id="probing")
                    async with trio.open_nursery() as nursery:

                        async def refused(asked: int, nursery: trio.Nursery) -> None:
                            answer = await holding.answer()
                            assert (answer.request_id, answer.error_class) == (asked, ErrorClass.TRANSIENT)
                            nursery.cancel_scope.cancel()

                        nursery.start_soon(refused, probe, nursery)
                        await came.wait()
                        nursery.cancel_scope.cancel()
                for number, tenant in enumerate(("busy", "anybody"), 2):
                    await holding.begin({"url": f"{up.origin}/held"}, tenant_id=tenant)
                    while (await admission(client))["running"] != number:
                        pass
                for _ in range(2):
                    await holding.begin({"url": up.origin}, tenant_id="busy")
                while (await admission(client))["waiting"] != 2:
                    pass

                shown = await daemon.command("status")
                as_json = json_of(await daemon.command("status", "--json"))

        assert shown.returncode == 0
        assert shown.stderr == ""
        lines = [re.sub(r"\d+ ms$", "N ms", line) for line in held_back(shown.stdout)]
        assert lines[:2] == [
            "admission.max_concurrent of 3 is reached; waiting: 2",
            "concurrency.max_per_tenant of 1 is reached by tenant 'busy'; waiting: 2",
        ]
        rest = ": 2 refused, next in N ms"
        assert lines[2:5] == [  # the latest first
            f"rate_limit.per_origin of 1/h is used up for origin '{limited.origin}'{rest}",
            f"rate_limit.per_tenant_and_origin of 1/min is used up for tenant 'rated here' and origin '{up.origin}'"
            + rest,
            f"rate_limit.per_tenant of 1/h is used up for tenant 'rated'{rest}",
        ]
        assert sorted(lines[5:]) == [
            f"circuit half-open for '{up.origin}', tenant 'probing': 1 failures in a row, "
            "the last: status 503; a probe is under way",
            f"circuit open for '{up.origin}', tenant 'unlucky': 1 failures in a row, "
            "the last: status 503; next probe in N ms",
        ]

        policies = as_json["statistics"]["policies"]
        assert policies["admission"]["running"] == policies["admission"]["max_concurrent"] == 3
        [busy] = [tenant for tenant in policies["admission"]["tenants"] if tenant["limit"] is not None]
        assert busy == {"tenant_id": "busy", "running": 1, "waiting": 2, "limit": 1}
        kinds = [limit["limit"] for limit in policies["rate_limit"]["refusing"]]
        assert kinds == ["rate_limit.per_origin", "rate_limit.per_tenant_and_origin", "rate_limit.per_tenant"]
        states = {circuit["tenant_id"]: circuit["state"] for circuit in policies["circuit_breaker"]["circuits"]}
        assert states == {"unlucky": "open", "probing": "half-open"}
        assert as_json["statistics"]["pool"]["active"] == 3


async def test_what_is_lifted_is_no_longer_told():
    async with upstream(always()) as up:
        with reloadable('[policy.rate_limit]\nper_tenant = "1/h"\n') as daemon:
            async with daemon.connect() as client:
                assert (await daemon.command("status")).stdout.endswith("   Held back: nothing\n")
                await client.get(up.origin)
                assert (await client.get(up.origin)).error_class is ErrorClass.RATE_LIMITED
                assert len(held_back((await daemon.command("status")).stdout)) == 1


async def test_nothing_secret_is_told():
    async with upstream(always(SECRET.encode(), status=503, headers=[("X-Secret", SECRET)])) as up:
        with reloadable(FIRST_FAILURE) as daemon:
            async with daemon.connect() as client:
                url = f"http://{SECRET}:{SECRET}@{up.address}/{SECRET}?{SECRET}={SECRET}#{SECRET}"
                for _ in range(2):
                    await client.execute(
                        {"url": url, "headers": {"Authorization": SECRET}, "body": SECRET},
                        workspace_id=SECRET,
                        trace_id=SECRET,
                    )
                for arguments in (["status"], ["status", "--json"]):
                    shown = await daemon.command(*arguments)
                    assert "status 503" in shown.stdout
                    assert SECRET not in shown.stdout + shown.stderr


HOSTILE = "evil'\"\r\n   Held back: nothing\x1b[2J\x7f\x9b2J\x85\u2028\u202e"


async def test_the_name_of_a_tenant_neither_forges_a_line_nor_drives_the_terminal():
    settings = f'{FIRST_FAILURE}[policy.rate_limit]\nper_tenant = "2/h"\n'
    async with upstream(always(status=503)) as up:
        with reloadable(settings) as daemon:
            async with daemon.connect() as client:
                for url in (up.origin, f"{up.origin.replace('127.0.0.1', 'localhost')}", up.origin):
                    await client.execute({"url": url}, tenant_id=HOSTILE)
                shown = await daemon.command("status")
                lines = held_back(shown.stdout)
                assert len(lines) == 3
                assert all(line.isprintable() for line in lines)
                assert all(repr(HOSTILE) in line for line in lines)
                as_json = (await daemon.command("status", "--json")).stdout
                assert as_json.rstrip("\n").isprintable()
                [limit] = json.loads(as_json)["statistics"]["policies"]["rate_limit"]["refusing"]
                assert limit["tenant_id"] == HOSTILE


async def test_a_thousand_open_circuits_of_tenants_with_long_names_still_fit_an_answer():
    async with upstream(always(status=503)) as up:
        with reloadable(FIRST_FAILURE) as daemon:
            async with daemon.connect() as client:
                for number in range(300):
                    tenant = f"{number:04}" + "\x01" * 252
                    assert (await client.execute({"url": up.origin}, tenant_id=tenant)).status == 503
                lines = held_back((await daemon.command("status")).stdout)
                assert len(lines) == 101
                assert lines[-1] == "200 more circuits are not closed"
