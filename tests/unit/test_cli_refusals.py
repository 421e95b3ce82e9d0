"""What holds requests back, as ``status`` says it, from the snapshots of the stages themselves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from vastar_runtime.cli.refusals import refusals
from vastar_runtime.config.policy import Rate
from vastar_runtime.policies.admission_statistics import TenantAdmission
from vastar_runtime.policies.circuit import State
from vastar_runtime.policies.circuit_breaker import CircuitStatistics
from vastar_runtime.policies.pipeline import Pipeline, PipelineStatistics
from vastar_runtime.policies.rate_limit import RefusingLimit

# What drives a terminal or forges a line: C0, DEL, C1, line separators, and what turns text around.
HOSTILE = "a\r\n   Held back: nothing\x1b[2J\x00\x7f\x9b2J\x85\u2028\u2029\u202e\ufeff"


def snapshot(**stages: Any) -> dict[str, Any]:
    """What the daemon's JSON says when only these stages hold anything back."""
    idle = Pipeline(clock=lambda: 0.0).statistics()
    statistics = msgspec.structs.replace(
        idle, **{name: msgspec.structs.replace(getattr(idle, name), **changes) for name, changes in stages.items()}
    )
    assert isinstance(statistics, PipelineStatistics)
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(statistics))
    return decoded


def said(**stages: Any) -> list[str]:
    return list(refusals(snapshot(**stages)))


def tenant(tenant_id: str = "acme", **changes: Any) -> TenantAdmission:
    return TenantAdmission(**{"tenant_id": tenant_id, "running": 2, "waiting": 3, "limit": 2} | changes)


def limit(name: str, **changes: Any) -> RefusingLimit:
    default = {"tenant_id": None, "origin": None, "rate": Rate(5, 3600), "burst": 5, "refused": 7, "next_in_ms": 90}
    return RefusingLimit(**{"limit": f"rate_limit.{name}"} | default | changes)


def circuit(state: State = State.OPEN, **changes: Any) -> CircuitStatistics:
    default = {
        "tenant_id": "acme",
        "origin": "http://h:81",
        "state": state,
        "failures": 5,
        "last_reason": "status 503",
        "next_probe_in_ms": 29_000,
        "times_opened": 1,
    }
    return CircuitStatistics(**default | changes)


def test_a_runtime_that_holds_nothing_back_has_nothing_to_say() -> None:
    assert said() == []


def test_what_is_busy_and_below_its_limit_is_not_held_back() -> None:
    assert said(admission={"running": 9, "max_concurrent": 10}) == []
    assert said(admission={"tenants": (tenant(running=1, waiting=0), tenant(limit=None))}) == []


def test_all_places_taken() -> None:
    assert said(admission={"running": 10, "max_concurrent": 10, "waiting": 4}) == [
        "admission.max_concurrent of 10 is reached; waiting: 4"
    ]
    assert len(said(admission={"running": 11, "max_concurrent": 10})) == 1  # a reload took one away


def test_all_places_of_a_tenant_taken() -> None:
    assert said(admission={"tenants": (tenant(), tenant("", running=3, waiting=0))}) == [
        "concurrency.max_per_tenant of 2 is reached by tenant 'acme'; waiting: 3",
        "concurrency.max_per_tenant of 2 is reached by tenant ''; waiting: 0",
    ]


@pytest.mark.parametrize(
    ("refusing", "line"),
    [
        (limit("per_tenant", tenant_id="acme"), "rate_limit.per_tenant of 5/h is used up for tenant 'acme'"),
        (
            limit("per_origin", origin="http://h:81", rate=Rate(2, 60)),
            "rate_limit.per_origin of 2/min is used up for origin 'http://h:81'",
        ),
        (
            limit("per_tenant_and_origin", tenant_id="", origin="http://h:81", rate=Rate(1, 1)),
            "rate_limit.per_tenant_and_origin of 1/s is used up for tenant '' and origin 'http://h:81'",
        ),
        (
            limit("per_tenant"),
            "rate_limit.per_tenant of 5/h is used up for all that are too many to be told apart",
        ),
    ],
)
def test_a_rate_limit_that_is_used_up(refusing: RefusingLimit, line: str) -> None:
    assert said(rate_limit={"refusing": (refusing,)}) == [f"{line}: 7 refused, next in 90 ms"]


@pytest.mark.parametrize(
    ("found", "beginning", "end"),
    [
        (circuit(), "circuit open for ", "next probe in 29000 ms"),
        (circuit(next_probe_in_ms=0), "circuit open for ", "a probe is due"),
        (circuit(State.HALF_OPEN, next_probe_in_ms=0), "circuit half-open for ", "a probe is under way"),
    ],
)
def test_a_circuit_that_is_not_closed(found: CircuitStatistics, beginning: str, end: str) -> None:
    assert said(circuit_breaker={"not_closed": 1, "circuits": (found,)}) == [
        f"{beginning}'http://h:81', tenant 'acme': 5 failures in a row, the last: status 503; {end}"
    ]


def test_the_circuits_that_are_not_listed_are_counted() -> None:
    lines = said(circuit_breaker={"not_closed": 1000, "circuits": (circuit(),)})
    assert lines[1:] == ["999 more circuits are not closed"]


def test_all_stages_come_in_their_order() -> None:
    lines = said(
        admission={"running": 1, "max_concurrent": 1, "tenants": (tenant(),)},
        rate_limit={"refusing": (limit("per_tenant", tenant_id="acme"),)},
        circuit_breaker={"not_closed": 1, "circuits": (circuit(),)},
    )
    assert [line.split()[0] for line in lines] == [
        "admission.max_concurrent",
        "concurrency.max_per_tenant",
        "rate_limit.per_tenant",
        "circuit",
    ]


def test_names_and_reasons_of_others_neither_forge_a_line_nor_drive_a_terminal() -> None:
    lines = said(
        admission={"tenants": (tenant(HOSTILE),)},
        rate_limit={"refusing": (limit("per_tenant_and_origin", tenant_id=HOSTILE, origin=HOSTILE),)},
        circuit_breaker={
            "not_closed": 1,
            "circuits": (circuit(tenant_id=HOSTILE, origin=HOSTILE, last_reason=HOSTILE),),
        },
    )
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines), lines
    assert all("Held back" in line for line in lines)  # it is there, as what it is


def test_a_long_name_and_a_long_reason_are_cut() -> None:
    [line] = said(
        circuit_breaker={"not_closed": 1, "circuits": (circuit(tenant_id="t" * 10**6, last_reason="r" * 10**6),)}
    )
    assert len(line) < 600
    assert "t" * 64 + "…" in line
