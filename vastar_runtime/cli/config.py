"""``vastar-runtime config``: looks at the configuration; the daemon need not run."""

import sys
from importlib.resources import files

import click
import msgspec

from vastar_runtime import config as settings
from vastar_runtime.config.quoting import quoted, shown_path
from vastar_runtime.config.text import plain, toml
from vastar_runtime.config.values import write_value
from vastar_runtime.errors import InvalidRequest

from .options import config_option

_HELP = {"help_option_names": ["-h", "--help"]}


class _Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One key, as ``explain --json`` prints it; the value as the file has it."""

    key: str
    value: bool | int | float | str
    source: str


@click.group(context_settings=_HELP, epilog="Example: vastar-runtime config check --config ./runtime.toml")
def config() -> None:
    """Check, show and explain the configuration."""


@config.command(context_settings=_HELP, epilog="Example: vastar-runtime config check --config ./runtime.toml")
@config_option
def check(config_path: str | None) -> None:
    """Check the file and the VASTAR_* variables.

    Prints what is wrong, one line each. Exit code: 0 when nothing is, else 1.
    """
    examined = settings.examine(config_path=config_path)
    for mistake in examined.mistakes:
        click.echo(mistake.text)
    if examined.mistakes:
        sys.exit(1)
    if examined.file is None:
        click.echo(f"No file ({settings.DEFAULT_CONFIG_PATH} does not exist): the defaults hold")
        return
    count = len(examined.settings.scopes)
    click.echo(f"{shown_path(examined.file)} is valid: {count} {'scope' if count == 1 else 'scopes'}")


@config.command(context_settings=_HELP, epilog="Example: vastar-runtime config show --config ./runtime.toml")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(config_path: str | None, as_json: bool) -> None:
    """Print all settings in effect.

    As a file that could be loaded, with the VASTAR_* variables applied and the defaults written out.
    """
    examined = settings.examine(config_path=config_path)
    tree = examined.valid()
    if as_json:
        click.echo(msgspec.json.encode(plain(tree)))
        return
    over = [source for source in dict.fromkeys(examined.sources.values()) if source.startswith("VASTAR_")]
    origin = "Built-in defaults" if examined.file is None else f"From {shown_path(examined.file)}"
    click.echo(f"# {origin}{', with ' + ', '.join(over) + ' over it' if over else ''}\n")
    click.echo(toml(tree), nl=False)


@config.command(
    context_settings=_HELP,
    epilog="Example: vastar-runtime config explain --tenant batch --url https://api.openai.com/v1/models",
)
@config_option
@click.option("--tenant", "tenant_id", metavar="ID", default="", help="The client's tenant_id.  [default: none]")
@click.option("--url", metavar="URL", required=True, help="The request's URL, or its origin.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each key, in an array.")
def explain(config_path: str | None, tenant_id: str, url: str, as_json: bool) -> None:
    """Print what holds for a request, and where it is set.

    Key by key, with the file's line; "default" is the built-in one.
    """
    from vastar_runtime.http.url import parse_url

    try:
        origin = str(parse_url(url).origin)
    except InvalidRequest as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
    examined = settings.examine(config_path=config_path)
    policies = settings.Policies(examined.valid())
    effects = [
        _Effect(
            key=f"{effect.stage}.{effect.key}",
            value=write_value(effect.key, effect.value),
            source=examined.sources.get(effect.setting, "default"),
        )
        for effect in policies.explain(tenant_id, origin)
    ]
    if as_json:
        click.echo(msgspec.json.encode(effects))
        return
    click.echo(f"{f'Tenant {quoted(tenant_id)}' if tenant_id else 'No tenant'}, origin {origin}\n")
    rows = [(effect.key, _shown(effect.value), effect.source) for effect in effects]
    key_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for key, value, source in rows:
        click.echo(f"{key:{key_width}}  {value:{value_width}}  {source}")


@config.command(context_settings=_HELP, epilog="Example: vastar-runtime config example > /etc/vastar/runtime.toml")
def example() -> None:
    """Print a file with every setting explained."""
    text = files("vastar_runtime.config").joinpath("example.toml").read_text(encoding="utf-8")
    click.echo(text, nl=False)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
