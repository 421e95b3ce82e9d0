"""``vastar-runtime status``."""

import os
import sys
from typing import Any

import click
import msgspec

from vastar_runtime import config
from vastar_runtime.errors import StartupError

from .asking import NOT_UNDERSTOOD, ask_runtime
from .exit_codes import ExitCode
from .options import config_option, json_option, socket_option
from .printing import json_line, printable
from .probe import ANSWER_TIMEOUT_S, Found, State, command, obstacle, probe, remedy
from .refusals import budgets, refusals
from .status_usage import print_usage_not_kept

_MAX_VERSION_CHARACTERS = 64
_MAX_PATH_CHARACTERS = 4096
_MOST_WORKERS = 64
_MOST_CREDENTIALS = 100
_MEANWHILE = {
    "open": "nothing of that is limited",
    "closed": "what has such a limit is refused",
    "local": "this daemon counts for itself",
}


class _Status(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints. ``running`` is null when the socket may not be asked, or who listens cannot be seen;
    ``statistics`` when the daemon does not tell this user; ``reason`` when there is no obstacle; ``uid``, whose the
    process is, when that cannot be told."""

    running: bool | None
    state: str
    reason: str | None
    pid: int | None
    uid: int | None
    version: str | None
    uptime_s: float | None
    active_requests: int | None
    draining: bool | None
    socket: str
    statistics: dict[str, Any] | None


@click.command(
    short_help="Say whether the daemon runs, and what it holds back.",
    epilog="Example: vastar-runtime status --json",
)
@config_option
@socket_option
@json_option
def status(config_path: str | None, socket_path: str | None, as_json: bool) -> None:
    """Say whether the daemon runs, and what holds requests back: circuits that are not closed, limits that refuse.

    Exit code: 0 it runs, 3 it does not, 1 something is wrong with it.
    """
    found = probe(config.load_socket_path(config_path=config_path, socket_path=socket_path))
    statistics, held_back, reason = _statistics(found)
    if as_json:
        click.echo(json_line(_summary(found, statistics)))
    else:
        _print(found)
        if statistics is not None:
            _print_workers(statistics.get("workers"), statistics.get("workers_wanted"))
            click.echo(f"   Configuration: {_configuration(statistics, command('reload', found.socket_path))}")
            _print_shared_limits(statistics.get("shared_limits"))
            _print_credentials(statistics.get("credentials"))
            _print_usage(statistics.get("usage_problem"))
            print_usage_not_kept(statistics)
            for line in budgets(statistics["policies"]):
                click.echo(f"   {line}")
            _print_refusals(held_back)
        elif reason:
            click.echo(f"   Limits and circuits: {reason}")
    match found.state:
        case State.RUNNING:
            sys.exit(ExitCode.OK)
        case State.NOT_RUNNING:
            sys.exit(ExitCode.NOT_RUNNING)
        case _:
            sys.exit(ExitCode.FAILED)


def _statistics(found: Found) -> tuple[dict[str, Any] | None, list[str], str]:
    """The daemon's snapshot of itself, and the lines for what it holds back; or why there is none."""
    if found.health is None or found.health.draining:
        return None, [], ""
    try:
        statistics = ask_runtime(found.socket_path, "statistics", ANSWER_TIMEOUT_S, dict[str, Any])
        return statistics, list(refusals(statistics["policies"])), ""
    except StartupError as error:
        return None, [], str(error)
    except (LookupError, TypeError):  # a daemon of another version, whose snapshot has another shape
        return None, [], f"the daemon on {found.socket_path} {NOT_UNDERSTOOD}"


def _summary(found: Found, statistics: dict[str, Any] | None) -> _Status:
    health = found.health
    running = {State.NOT_RUNNING: False, State.LEGACY: False, State.FORBIDDEN: None}
    if found.state is State.SILENT:
        running[State.SILENT] = None if found.pid is None else not found.is_foreign
    return _Status(
        running=running.get(found.state, True),
        state=found.state.value,
        reason=_reason(found) or None,
        pid=found.pid,
        uid=found.uid,
        version=health.version if health else None,
        uptime_s=health.uptime_ms / 1000 if health else None,
        active_requests=health.active_requests if health else None,
        draining=health.draining if health else None,
        socket=found.socket_path,
        statistics=statistics,
    )


def _reason(found: Found) -> str:
    """Why no daemon answers, and what to do; "": one does, or nothing is there."""
    is_well = found.health is not None or (found.state is State.NOT_RUNNING and not remedy(found))
    return "" if is_well else f"{obstacle(found)}{remedy(found)}"


def _configuration(statistics: dict[str, Any], reload: str) -> str:
    """Which file the daemon runs with, and whether that says something else by now, which this command applies."""
    path, read_at_s = statistics.get("config_file"), statistics.get("configured_at_unix_s")
    if not isinstance(path, str) or not isinstance(read_at_s, int | float):
        return "built-in defaults"
    hint = ""
    refused = statistics.get("reload_refused")
    try:
        if isinstance(refused, str):
            mistake = printable(refused, _MAX_PATH_CHARACTERS)
            hint = f" (as it was before: the last reload was refused; correct this, and reload: {mistake})"
        elif os.stat(path).st_mtime > read_at_s:
            hint = f" (changed since it was read; apply it with: {reload})"
    except FileNotFoundError:
        hint = " (gone since it was read)"
    except OSError as error:
        hint = f" (whether it changed since it was read cannot be seen: {error.strerror})"
    return f"{printable(path, _MAX_PATH_CHARACTERS)}{hint}"


def _print_workers(workers: Any, wanted: Any) -> None:
    """Where the daemon is more than one process."""
    if not isinstance(workers, list) or (len(workers) <= 1 and wanted in (1, None)):
        return
    pids = ", ".join(str(worker["pid"]) for worker in workers[:_MOST_WORKERS])
    are_missing = isinstance(wanted, int) and len(workers) < wanted
    click.echo(f"   Workers: {len(workers)}{f' of {wanted}' if are_missing else ''} (PIDs {pids})")
    if are_missing:
        click.echo("      the others have ended and are started again; the log says why they end")
    for worker in workers[:_MOST_WORKERS]:
        if not worker.get("answers", True):
            click.echo(f"      PID {worker['pid']} does not answer; if it goes on hanging: kill -9 {worker['pid']}")


def _print_shared_limits(shared: Any) -> None:
    if not isinstance(shared, dict):
        return
    place = printable(str(shared.get("address")), _MAX_PATH_CHARACTERS)
    if shared.get("reason") is None:
        click.echo(f"   Shared limits: in Redis at {place}")
        return
    reason = printable(str(shared["reason"]), _MAX_PATH_CHARACTERS)
    meanwhile = _MEANWHILE.get(str(shared.get("fail")), "its choice holds")
    click.echo(f"   Shared limits: Redis at {place} cannot be asked ({reason}); meanwhile {meanwhile}")


def _print_credentials(credentials: Any) -> None:
    """Those that something is wrong with."""
    if not isinstance(credentials, list):
        return
    for credential in credentials[:_MOST_CREDENTIALS]:
        problem = credential.get("problem")
        if problem or not credential.get("is_usable"):
            name = printable(str(credential.get("name")), _MAX_VERSION_CHARACTERS)
            state = "cannot be used" if not credential.get("is_usable") else "is an old one"
            why = printable(str(problem or "it is being fetched"), _MAX_PATH_CHARACTERS)
            click.echo(f"   Credential {name!r} {state}: {why}")


def _print_usage(problem: Any) -> None:
    if isinstance(problem, str):
        click.echo(f"   Usage: not written: {printable(problem, _MAX_PATH_CHARACTERS)}")


def _print_refusals(lines: list[str]) -> None:
    click.echo(f"   Held back: {'nothing' if not lines else ''}".rstrip())
    for line in lines:
        click.echo(f"      {line}")


def _print(found: Found) -> None:
    if found.state is State.NOT_RUNNING:
        click.echo(f"Not running: {obstacle(found)}{remedy(found)}")
    elif found.health is None:
        sentence = _reason(found)
        click.echo(f"{sentence[:1].upper()}{sentence[1:]}")
    else:
        health = found.health
        click.echo("Shutting down" if health.draining else "Running")
        click.echo(f"   PID: {found.pid or 'not visible from here'}")
        if found.owner:
            click.echo(f"   Owner: {found.owner}")
        click.echo(f"   Socket: {found.socket_path}")
        click.echo(f"   Version: {printable(health.version or 'not told', _MAX_VERSION_CHARACTERS)}")
        click.echo(f"   Uptime: {_duration(health.uptime_ms // 1000)}")
        click.echo(f"   Active requests: {health.active_requests}")


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    while len(parts) > 1 and not parts[0][0]:
        del parts[0]
    return " ".join(f"{count} {unit}" for count, unit in parts)
