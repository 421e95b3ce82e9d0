"""What holds requests back in a daemon now, in lines for a person, from the snapshot that it gives of itself."""

from collections.abc import Iterator
from typing import Any

from vastar_runtime.config.policy import Rate
from vastar_runtime.policies.allowance import shown_amount

from .printing import printable

_MAX_NAME_CHARACTERS = 64
_MOST_LISTED = 100  # as the stages' own snapshots have it
_MAX_REASON_CHARACTERS = 256


def refusals(policies: dict[str, Any]) -> Iterator[str]:
    """One line for each circuit that is not closed and each limit that refuses or queues.

    Args:
        policies: ``PipelineStatistics``, as JSON gives it.
    """
    yield from _admission(policies["admission"])
    yield from _spending(policies["spending"])
    yield from _rate_limits(policies["rate_limit"])
    yield from _circuits(policies["circuit_breaker"])


def budgets(policies: dict[str, Any]) -> Iterator[str]:
    """One line for each budget that was asked for lately: how much of it is used.

    Args:
        policies: as for ``refusals``.
    """
    spending = policies["spending"]
    for standing in spending["standings"]:
        allowance = standing["allowance"]
        name, tenant_id, _ = allowance["key"]
        if name.startswith("token_limit."):
            continue
        unit = "tokens" if allowance["unit"] == "tokens" else printable(spending["currency"], _MAX_NAME_CHARACTERS)
        used, reserved, limit = (
            shown_amount(amount, allowance["unit"])
            for amount in (standing["used"], standing["reserved"], allowance["limit"])
        )
        under_way = f", {reserved} reserved" if standing["reserved"] else ""
        whose = "" if tenant_id is None else f" of tenant {_quoted(tenant_id)}"
        yield f"Budget {printable(name, _MAX_NAME_CHARACTERS)!r}{whose}: {used} of {limit} {unit} used{under_way}"


def _admission(admission: dict[str, Any]) -> Iterator[str]:
    most = admission["max_concurrent"]
    if most is not None and admission["running"] >= most:
        yield f"admission.max_concurrent of {most} is reached; waiting: {admission['waiting']}"
    for tenant in admission["tenants"]:
        limit = tenant["limit"]
        if limit is not None and tenant["running"] >= limit:
            who = _quoted(tenant["tenant_id"])
            yield f"concurrency.max_per_tenant of {limit} is reached by tenant {who}; waiting: {tenant['waiting']}"
    yield from _more(admission["tenants"], "tenants")


def _spending(spending: dict[str, Any]) -> Iterator[str]:
    for allowance in spending["refusing"]:
        unit = "tokens" if allowance["unit"] == "tokens" else printable(spending["currency"], _MAX_NAME_CHARACTERS)
        limit, used, reserved = (
            shown_amount(allowance[key], allowance["unit"]) for key in ("limit", "used", "reserved")
        )
        name = printable(allowance["name"], _MAX_NAME_CHARACTERS)
        what = name if name.startswith("token_limit.") else f"budget {name!r}"
        yield (
            f"{what} of {limit} {unit} is used up for {_whom(allowance)}: {used} used, {reserved} reserved, "
            f"{allowance['refused']} refused, next in {allowance['next_in_ms']} ms"
        )
    yield from _more(spending["refusing"], "budgets and token limits that refuse")


def _whom(limit: dict[str, Any]) -> str:
    whose = [f"tenant {_quoted(limit['tenant_id'])}"] if limit["tenant_id"] is not None else []
    whose += [f"origin {_quoted(limit['origin'])}"] if limit["origin"] is not None else []
    return " and ".join(whose) or "all that are too many to be told apart"


def _rate_limits(rate_limit: dict[str, Any]) -> Iterator[str]:
    for limit in rate_limit["refusing"]:
        rate = Rate(**limit["rate"])
        yield (
            f"{limit['limit']} of {rate} is used up for {_whom(limit)}: {limit['refused']} refused, "
            f"next in {limit['next_in_ms']} ms"
        )
    yield from _more(rate_limit["refusing"], "limits that refuse")


def _circuits(circuit_breaker: dict[str, Any]) -> Iterator[str]:
    circuits = circuit_breaker["circuits"]
    for circuit in circuits:
        state = circuit["state"]
        when = f"next probe in {circuit['next_probe_in_ms']} ms" if circuit["next_probe_in_ms"] else "a probe is due"
        if state == "half-open":
            when = "a probe is under way"
        reason = printable(circuit["last_reason"], _MAX_REASON_CHARACTERS)
        yield (
            f"circuit {state} for {_quoted(circuit['origin'])}, tenant {_quoted(circuit['tenant_id'])}: "
            f"{circuit['failures']} failures in a row, the last: {reason}; {when}"
        )
    if circuit_breaker["not_closed"] > len(circuits):
        yield f"{circuit_breaker['not_closed'] - len(circuits)} more circuits are not closed"


def _more(listed: list[Any], what: str) -> Iterator[str]:
    if len(listed) >= _MOST_LISTED:
        yield f"perhaps more: of {what} a daemon lists no more than {_MOST_LISTED}"


def _quoted(name: str) -> str:
    """A name that a client chose."""
    return repr(name if len(name) <= _MAX_NAME_CHARACTERS else f"{name[:_MAX_NAME_CHARACTERS]}…")
