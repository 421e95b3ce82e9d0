"""``vastar-runtime usage``: what the requests of the last days used, from the file that daemons write."""

import os
import re
import shutil
import sys
import time
from datetime import UTC, datetime

import click
import msgspec

from vastar_runtime import config
from vastar_runtime.config.paths import given_path
from vastar_runtime.config.permissions import nearest_existing, user_name
from vastar_runtime.config.quoting import quoted, shown_path
from vastar_runtime.config.state import no_place, usage_path
from vastar_runtime.errors import ConfigError, StartupError
from vastar_runtime.metering.report import By, Group, Report, first_hour, read_report
from vastar_runtime.metering.usage_file import UsageFileError

from .options import complete_file, config_option, json_option
from .printing import json_line
from .usage_table import decimal, table

_MOST_SHOWN = 50
_MOST_IN_JSON = 10_000
_COLUMNS = 80
_MAX_COLUMNS = 160
_SECONDS = {"d": 86_400, "h": 3_600, "min": 60}
_AGO = re.compile(r"([0-9]{1,6})(d|h|min)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class _Group(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints of one group; the cost is a decimal number of the currency."""

    name: str
    requests: int
    estimated_requests: int
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    cost: str


class _Printed(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints.

    Attributes:
        file: None: usage is not kept.
        since: the beginning of the first hour that counts.
        more_groups: how many there are that are not listed; they are in the total.
    """

    file: str | None
    since: str
    by: str
    tenant: str | None
    currency: str
    groups: list[_Group]
    more_groups: int
    total: _Group


def since_unix_s(text: str, now_unix_s: float) -> float:
    """The time that ``--since`` names: a day of UTC, or so long ago.

    Raises:
        ValueError: it names none.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0.0, now_unix_s - int(ago[1]) * _SECONDS[ago[2]])
    if _DATE.fullmatch(text) is None:
        raise ValueError(f"{quoted(text)} is neither a date nor a duration; write 2026-11-01, 7d, 24h or 90min")
    try:
        return max(0.0, datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise ValueError(f"{quoted(text)} is no day of the calendar") from error


def _since(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    try:
        return first_hour(since_unix_s(text, time.time()))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(
    short_help="Show what requests used: how many, their tokens and cost.",
    epilog="Example: vastar-runtime usage --since 7d --by tenant",
)
@config_option
@click.option("--tenant", "tenant_id", metavar="ID", help="Of this tenant alone.  [default: of all]")
@click.option(
    "--since",
    "since_hour",
    metavar="DATE|DURATION",
    default="30d",
    show_default=True,
    callback=_since,
    help="From this day on (2026-11-01, UTC), or for so long (7d, 24h, 90min); in whole hours.",
)
@click.option(
    "--by",
    "by_name",
    type=click.Choice([by.value for by in By]),
    default=By.MODEL.value,
    show_default=True,
    help="What a line is about; days are those of UTC.",
)
@json_option
@click.option(
    "--file",
    "file_path",
    metavar="PATH",
    shell_complete=complete_file,
    help="The file that usage is kept in.  [default: the one that the configuration says]",
)
def usage(
    config_path: str | None,
    tenant_id: str | None,
    since_hour: int,
    by_name: str,
    as_json: bool,
    file_path: str | None,
) -> None:
    """Show what requests used: how many they were, their tokens, and what those cost.

    The daemon need not run. What it counted in the last second may be missing.
    """
    examined = config.examine(config_path=config_path)
    path = given_path("--file", file_path) if file_path is not None else _configured_file(examined)
    by = By(by_name)
    most = _MOST_IN_JSON if as_json else _MOST_SHOWN
    report = None
    if path is not None:
        try:
            report = read_report(path, since_hour=since_hour, by=by, tenant_id=tenant_id, most_groups=most)
        except UsageFileError as error:
            if file_path is None:
                raise
            raise error.named_by("--file") from error
    currency = examined.settings.usage.currency
    if as_json:
        printed = _printed(report or Report(), path, since_hour, by, tenant_id, currency)
        click.echo(json_line(printed))
    elif path is None:
        click.echo("Usage is not kept: [usage] file is none")
    elif report is None:
        click.echo(f"No usage yet: {shown_path(path)} does not exist{_prospects(path, is_given=file_path is not None)}")
    else:
        _print(report, path, by, tenant_id, since_hour, currency)


def _configured_file(examined: config.Examined) -> str | None:
    """The file that the daemon keeps usage in, whatever is wrong with other settings; None: in none.

    Raises:
        StartupError: that cannot be told.
    """
    for mistake in examined.mistakes:
        if mistake.key[:1] in ((), ("usage",)):
            raise ConfigError(f"{mistake.text} (or say where usage is kept: --file)")
    path = usage_path(examined.settings, os.environ)
    if path is None and examined.settings.usage.file == "auto":
        raise StartupError(f"no variable says where usage is kept ({no_place(os.environ)}); say it with --file")
    return path


def _prospects(path: str, *, is_given: bool) -> str:
    """What is to come of a file that there is none of yet. A daemon may be another user's."""
    nearest = nearest_existing(os.path.dirname(path))
    another = "name another with --file" if is_given else "name another file in [usage]"
    if not os.path.isdir(nearest):
        return f", and no daemon can make it: {shown_path(nearest)} is no directory; {another}"
    if not os.access(nearest, os.W_OK | os.X_OK):
        daemon = f"a daemon of {user_name(os.geteuid())}"
        return f", and {daemon} cannot make it: {shown_path(nearest)} may not be written; {another}"
    return "; the daemon writes it as requests come"


def _print(report: Report, path: str, by: By, tenant_id: str | None, since_hour: int, currency: str) -> None:
    if sys.stdout is None:  # closed: nobody is to be told
        return
    period = f"since {_time(since_hour):%Y-%m-%d %H:%M} UTC"
    whose = "" if tenant_id is None else f" of tenant {quoted(tenant_id)}"
    source = f"From {shown_path(path)}"  # which is another daemon's, perhaps
    if not report.groups:
        _echo([f"No usage{whose} {period}", source])
        return
    columns = min(shutil.get_terminal_size((_COLUMNS, 24)).columns, _MAX_COLUMNS) if sys.stdout.isatty() else _COLUMNS
    lines = table(report, by=by, currency=currency, columns=columns, is_unicode=_is_unicode())
    _echo([f"Usage{whose} {period}", source, "", *lines])


def _echo(lines: list[str]) -> None:
    text = "\n".join(lines)
    if not _is_unicode():
        text = text.encode("ascii", "replace").decode()
    click.echo(text)


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


def _time(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * 3600, UTC)


def _printed(
    report: Report, path: str | None, since_hour: int, by: By, tenant_id: str | None, currency: str
) -> _Printed:
    return _Printed(
        file=path,
        since=f"{_time(since_hour):%Y-%m-%dT%H:%M:%SZ}",
        by=by.value,
        tenant=tenant_id,
        currency=currency,
        groups=[_printed_group(group) for group in report.groups],
        more_groups=report.more,
        total=_printed_group(report.total),
    )


def _printed_group(group: Group) -> _Group:
    fields = msgspec.structs.asdict(group)
    return _Group(cost=decimal(fields.pop("cost_nano")), **fields)
