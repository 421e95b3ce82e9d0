"""``vastar-runtime config``: looks at the configuration; the daemon need not run."""

import os
import re
import sys
from importlib.resources import files

import click
import msgspec
from msgspec.structs import asdict

from vastar_runtime import config as settings
from vastar_runtime.config.quoting import quoted, shown_path
from vastar_runtime.config.state import forgetful_budgets
from vastar_runtime.config.text import plain, toml
from vastar_runtime.config.values import write_value
from vastar_runtime.errors import InvalidRequest, RequestError

from .exit_codes import ExitCode
from .holding import holding
from .options import config_option, json_option
from .printing import counted, json_line

_TENANT_HELP = 'The client\'s tenant_id; SDK clients that set none have "default".  [default: a client without one]'
_FILES_TIMEOUT_S = 2.0  # a disk that answers takes a millisecond
_RUNNING = "A running daemon goes by what it read at its start or its last reload"


class _Check(msgspec.Struct, frozen=True, kw_only=True):
    """What ``check --json`` prints.

    Attributes:
        file: absolute; None: there is none.
        settings: keys that the file sets, those of its scopes included.
        mistakes: as without --json.
        notes: what is no mistake of the file, and keeps a daemon from starting on this machine, or from reading a key
            there, or gives one to others, or has it forget its budgets.
    """

    valid: bool
    file: str | None
    settings: int
    scopes: int
    mistakes: list[str]
    notes: list[str]


class _Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One key, as ``explain --json`` prints it; the value as the file has it."""

    key: str
    value: bool | int | float | str | list[str]
    source: str


@click.group(epilog="Example: vastar-runtime config check --config ./runtime.toml")
def config() -> None:
    """Check, show and explain the configuration."""


@config.command(epilog="Example: vastar-runtime config check --config ./runtime.toml")
@config_option
@json_option
def check(config_path: str | None, as_json: bool) -> None:
    """Check the file and the VASTAR_* variables.

    Prints what is wrong, one line each. Exit code: 0 when nothing is, else 1.
    """
    examined = settings.examine(config_path=config_path)
    mistakes = [mistake.text for mistake in examined.mistakes]
    # The file may be meant for another machine.
    missing = settings.missing_group(examined.settings.listen, examined.sources)
    notes = [] if missing is None else [f"{missing}: no daemon starts here with it"]
    notes += _of_credentials(examined.settings)
    notes += forgetful_budgets(examined.settings, os.environ)
    if as_json:
        result = _Check(
            valid=not mistakes,
            file=examined.file,
            settings=examined.settings_in_file,
            scopes=len(examined.settings.scopes),
            mistakes=mistakes,
            notes=notes,
        )
        click.echo(json_line(result))
    else:
        for text in mistakes or [_valid(examined)]:
            click.echo(text)
        for note in notes:
            click.echo(f"Note: {note}")
    if mistakes:
        sys.exit(ExitCode.FAILED)


@config.command(epilog="Example: vastar-runtime config show --config ./runtime.toml")
@config_option
@json_option
def show(config_path: str | None, as_json: bool) -> None:
    """Print all settings, as file and variables have them now.

    The output could be loaded as a file; VASTAR_* variables are applied and defaults written out. A running daemon
    goes by what it read at its start or its last reload.
    """
    examined = settings.examine(config_path=config_path)
    tree = examined.valid()
    if as_json:
        click.echo(json_line(plain(tree)))
        return
    click.echo(f"# {_origin(examined)}\n# {_RUNNING}\n")
    click.echo(toml(tree), nl=False)


@config.command(
    epilog="Example: vastar-runtime config explain --tenant batch --url https://api.openai.com/v1/models",
)
@config_option
@click.option("--tenant", "tenant_id", metavar="ID", default="", help=_TENANT_HELP)
@click.option("--url", metavar="URL", required=True, help="The request's URL, or its origin.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each key, in an array.")
def explain(config_path: str | None, tenant_id: str, url: str, as_json: bool) -> None:
    """Print what holds for a request, and where it is set.

    Key by key, with the file's line; "default" is the built-in one. A running daemon goes by what it read at its start
    or its last reload.
    """
    from vastar_runtime.http.url import parse_url

    try:
        origin = parse_url(url).origin.without_root
    except InvalidRequest as error:
        raise click.BadParameter(f"{error}{_url_hint(url)}", param_hint="--url") from error
    examined = settings.examine(config_path=config_path)
    tree = examined.valid()
    effects = [
        _Effect(
            key=f"{stage}.{key}",
            value=write_value(key, value),
            source=examined.sources.get(setting, "default"),
        )
        for stage, key, value, setting in (
            *(settings.Effect("admission", *item, ("admission", item[0])) for item in asdict(tree.admission).items()),
            *settings.Policies(tree).explain(tenant_id, origin),
        )
    ]
    effects.append(_Effect(key="egress", value=_verdict(tree, tenant_id, origin), source="by these rules"))
    effects += [
        _Effect(key=table.key, value=table.value, source=examined.sources[table.setting])
        for table in holding(tree, tenant_id, origin)
    ]
    if as_json:
        click.echo(json_line(effects))
        return
    click.echo(f"{f'Tenant {quoted(tenant_id)}' if tenant_id else 'No tenant'}, origin {origin}")
    click.echo(f"{_origin(examined)}\n{_RUNNING}\n")
    rows = [(effect.key, _shown(effect.value), effect.source) for effect in effects]
    key_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for key, value, source in rows:
        click.echo(f"{key:{key_width}}  {value:{value_width}}  {source}")


@config.command(epilog="Example: vastar-runtime config example > /etc/vastar/runtime.toml")
def example() -> None:
    """Print a file with every setting explained."""
    text = files("vastar_runtime.config").joinpath("example.toml").read_text(encoding="utf-8")
    click.echo(text, nl=False)


def _of_credentials(tree: settings.Settings) -> list[str]:
    """Of their files that this user may not read, or others may: in the words of ``doctor``."""
    if not any(credential.file for credential in tree.credentials):
        return []
    from .doctor_checks.bounded import TookTooLong, within
    from .doctor_checks.credential_files import notes

    try:
        return within(_FILES_TIMEOUT_S, lambda: notes(tree.credentials))
    except TookTooLong as error:
        return [f"the credentials' files: {error}"]


def _verdict(tree: settings.Settings, tenant_id: str, origin: str) -> str:
    """Whether a request may go there, as far as that can be told without a lookup."""
    from vastar_runtime.policies.egress import address_guard

    try:
        guard = address_guard(settings.Policies(tree).policy_for(tenant_id, origin).egress, origin)
    except RequestError as error:
        return error.message
    return "allowed" if guard is None else "allowed, if its address is"


def _valid(examined: settings.Examined) -> str:
    if examined.file is None:
        return f"No file ({settings.DEFAULT_CONFIG_PATH} does not exist): the defaults hold"
    path = shown_path(examined.file)
    if not examined.settings_in_file:
        return f"{path} is valid and sets nothing: the defaults hold"
    scopes = counted(len(examined.settings.scopes), "scope")
    return f"{path} is valid: {counted(examined.settings_in_file, 'setting')}, {scopes}"


def _origin(examined: settings.Examined) -> str:
    """Where what is shown comes from."""
    over = [source for source in dict.fromkeys(examined.sources.values()) if source.startswith("VASTAR_")]
    origin = "No file: the built-in defaults" if examined.file is None else f"From {shown_path(examined.file)}"
    return f"{origin}{', with ' + ', '.join(over) + ' over it' if over else ''}"


def _url_hint(url: str) -> str:
    """What to write instead of what is no URL, as the rest of a sentence."""
    from vastar_runtime.http.url import parse_url

    if "@" in url:  # not quoted: what stands there may be a password
        return ""
    if "*" in url:
        return "; a pattern is no URL: name one host, such as https://api.openai.com"
    if "://" in url:
        return ""
    place = re.split(r"[/?#\\]", url, maxsplit=1)[0]
    try:
        parse_url(f"https://{place}")
    except InvalidRequest:
        return ""
    return f"; write https://{place}"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
