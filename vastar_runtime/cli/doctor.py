"""``vastar-runtime doctor``."""

import os
import sys
import time
from collections.abc import Iterable, Iterator

import click
import msgspec

from .doctor_checks.bounded import Look
from .doctor_checks.circumstances import Circumstances, look
from .doctor_checks.finding import Finding, State, not_checked
from .doctor_checks.plan import Report, examine, result
from .doctor_checks.workshop import Workshop
from .ending import replace_what_cannot_be_shown, unwind_when_terminated
from .exit_codes import ExitCode
from .options import config_option, json_option, log_option, socket_option
from .printing import counted, json_line

# Two processes are started, on a loaded machine perhaps, and asked twice.
REQUEST_TIMEOUT_S = 15.0
_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "red", State.NOT_CHECKED: "cyan"}
_STATE_WIDTH = max(len(state.value) for state in State)


class _Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One finding, as ``--json`` prints it; ``remedy`` and ``command`` are null where there is none."""

    family: str
    name: str
    state: str
    found: str
    remedy: str | None
    command: str | None


class _Result(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints. ``healthy``: there is no problem."""

    healthy: bool
    problems: int
    warnings: int
    not_checked: int
    checks: list[_Checked]


@click.command(epilog="Example: vastar-runtime doctor")
@config_option
@socket_option
@log_option
@click.option(
    "--tenant", "tenant_id", metavar="ID", default="default", show_default=True, help="Tenant of the two requests."
)
@click.option("--without-request", is_flag=True, help="Send no request.")
@json_option
def doctor(
    config_path: str | None,
    socket_path: str | None,
    log_path: str,
    tenant_id: str,
    without_request: bool,
    as_json: bool,
) -> None:
    """Look for what is wrong, and say for each what to do.

    Checks Python, variables, configuration, socket, daemon, files, the TLS trust store and proxies, and sends two
    requests to a simulator that it starts: through the daemon, where they count as any others do, or through one of
    its own if none runs. Beyond this machine it only opens a TCP connection to a proxy that is set, and sends nothing.
    Changes nothing, and ends within half a minute, whatever hangs. Exit code: 0 no problem (there may be warnings), 1
    there is one.
    """
    replace_what_cannot_be_shown(sys.stdout)
    unwind_when_terminated()
    seen = look(os.environ, config_path=config_path, socket_path=socket_path, log_path=log_path, tenant_id=tenant_id)
    with Workshop() as workshop:
        reports = _reports(seen, None if without_request else workshop)
        problems = _print_json(reports) if as_json else _print(reports)
    sys.exit(ExitCode.FAILED if problems else ExitCode.OK)


def _reports(seen: Circumstances, workshop: Workshop | None) -> Iterator[Report]:
    """
    Args:
        workshop: for the requests; None: send none.
    """
    yield from examine(seen)
    if workshop is None:
        yield Report("Request", [not_checked("request", "--without-request was given")])
        return

    def send() -> list[Finding]:
        # Late, and under the check's own roof: an installation that is broken may lack what a request takes.
        from .doctor_checks.request import check_request

        return list(check_request(seen, workshop))

    sent = Look(send)
    yield Report("Request", result("request", sent, time.monotonic() + REQUEST_TIMEOUT_S))


def _print(reports: Iterable[Report]) -> int:
    """The number of problems."""
    counts = dict.fromkeys(State, 0)
    has_colour = _has_colour()
    for report in reports:
        if report.findings:
            click.echo(report.title)
        for finding in report.findings:
            counts[finding.state] += 1
            state = f"{finding.state.value:{_STATE_WIDTH}}"
            if has_colour:
                state = click.style(state, fg=_COLOURS[finding.state])
            click.echo(f"   {state}  {finding.name}: {finding.found}", color=has_colour)
            remedy = ": ".join(part for part in (finding.remedy, finding.command) if part)
            if remedy:
                click.echo(f"   {'':{_STATE_WIDTH}}  -> {remedy}")
    summary = [counted(counts[State.PROBLEM], "problem"), counted(counts[State.WARNING], "warning")]
    click.echo(f"{', '.join(summary)}, {counts[State.NOT_CHECKED]} not checked, {counts[State.OK]} ok")
    return counts[State.PROBLEM]


def _print_json(reports: Iterable[Report]) -> int:
    """The number of problems."""
    checks = [
        _Checked(
            family=report.title,
            name=finding.name,
            state=finding.state.name.lower(),
            found=finding.found,
            remedy=finding.remedy or None,
            command=finding.command,
        )
        for report in reports
        for finding in report.findings
    ]
    problems, warnings, unchecked = (
        sum(check.state == state.name.lower() for check in checks)
        for state in (State.PROBLEM, State.WARNING, State.NOT_CHECKED)
    )
    done = _Result(healthy=not problems, problems=problems, warnings=warnings, not_checked=unchecked, checks=checks)
    click.echo(json_line(done))
    return problems


def _has_colour() -> bool:
    if sys.stdout is None:  # closed: the exit code says it all the same
        return False
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
