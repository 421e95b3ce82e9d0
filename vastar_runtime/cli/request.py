"""``vastar-runtime request``: one HTTP request through the daemon, in curl's words."""

import sys
from typing import TypeVar

import click

from connector_sdk.errors import ConnectorException
from connector_sdk.wire.timeout import timeout_ms
from vastar_runtime.errors import StartupError

from . import request_input
from .client_settings import client_settings
from .ending import say
from .exit_codes import CommandFailed, ExitCode, exit_code_of, table
from .options import complete_file, config_option, json_option, socket_option
from .request_exchange import Asked, Exchange
from .request_input import METHODS, Data
from .request_mistakes import RequestCommand
from .request_output import STDOUT, checked_output

_HELP = f"""Make an HTTP request through the daemon, with curl's options.

The answer's body goes to standard output as it comes, whatever its status is. Redirects are followed, retries and
limits are the daemon's. With --json, one object tells how it ended, whatever ended it.

\b
Exit codes:
{table()}
"""


def _timeout_ms(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    if (milliseconds := timeout_ms(text)) is None:
        raise click.BadParameter(f"{text!r} is no number of seconds above 0")
    return milliseconds


_Text = TypeVar("_Text", str, str | None)


def _unicode(_context: click.Context, parameter: click.Parameter, text: _Text) -> _Text:
    if text is not None and (stray := request_input.stray_byte(text)) is not None:
        advice = f"; write it as %{stray[2:].upper()}" if parameter.name == "url" else ""
        raise click.BadParameter(f"it is no UTF-8 text (byte {stray}){advice}")
    return text


@click.command(
    cls=RequestCommand,
    help=_HELP,
    epilog="Example: vastar-runtime request --data-json @chat.json http://127.0.0.1:4545/v1/chat/completions",
)
@click.argument("url", callback=_unicode)
@click.option(
    "-X",
    "--request",
    "method",
    metavar="METHOD",
    callback=_unicode,
    shell_complete=lambda _context, _parameter, text: [name for name in METHODS if name.startswith(text.upper())],
    help="The method.  [default: GET; with data POST; with --head HEAD]",
)
@click.option(
    "-H",
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    help="A header; 'NAME;' is one without a value, 'Content-Type:' leaves out the one that data would add.",
)
@click.option(
    "-d",
    "--data",
    "text",
    metavar="TEXT|@FILE|-",
    multiple=True,
    help="Body as a form's; of a file without line ends; - is standard input. Several are joined with &.",
)
@click.option("--data-raw", "raw", metavar="TEXT", multiple=True, help="As -d; @ and - mean themselves.")
@click.option("--data-binary", "binary", metavar="TEXT|@FILE|-", multiple=True, help="As -d; files as they are.")
@click.option(
    "--data-json",
    "json_text",
    metavar="TEXT|@FILE|-",
    multiple=True,
    help="Body as it is, with Content-Type and Accept application/json (curl's --json).",
)
@click.option("-u", "--user", metavar="NAME:PASSWORD", help="Send these as Authorization: Basic.")
@click.option("-I", "--head", "is_head", is_flag=True, help="Ask for the head alone, and print it.")
@click.option("-i", "--include", "includes_head", is_flag=True, help="Print the head before the body.")
@click.option(
    "-o",
    "--output",
    "output_path",
    metavar="FILE",
    shell_complete=complete_file,
    help="Write to this file; - is standard output, binary bodies to a terminal, too.",
)
@click.option(
    "-N",
    "--stream",
    "--no-buffer",
    "is_prompt",
    is_flag=True,
    help="Write each piece at once. Event streams, and whatever goes to a terminal, are written so in any case; else "
    "64 KiB at a time.",
)
@click.option("-f", "--fail", "fails_with_status", is_flag=True, help="Exit with 22 at a status of 400 or above.")
@click.option("-L", "--location", is_flag=True, expose_value=False, help="Follow redirects, as is done without it.")
@click.option("-s", "--silent", is_flag=True, help="Say nothing of errors; the exit code does.")
@click.option("-S", "--show-error", "shows_error", is_flag=True, help="With -s: say errors all the same.")
@click.option(
    "-v", "--verbose", "is_verbose", is_flag=True, help="Say on standard error what is sent, received, and when."
)
@json_option
@click.option(
    "--tenant",
    "tenant_id",
    metavar="ID",
    default="default",
    show_default=True,
    callback=_unicode,
    help="On whose behalf.",
)
@click.option(
    "-m",
    "--timeout",
    "--max-time",
    "timeout_ms",
    metavar="SECONDS",
    callback=_timeout_ms,
    help="For all of it, the body too.  [env var: VASTAR_TIMEOUT; default: 60]",
)
@config_option
@socket_option
def request(
    url: str,
    method: str | None,
    headers: tuple[str, ...],
    text: tuple[str, ...],
    raw: tuple[str, ...],
    binary: tuple[str, ...],
    json_text: tuple[str, ...],
    user: str | None,
    is_head: bool,
    includes_head: bool,
    output_path: str | None,
    is_prompt: bool,
    fails_with_status: bool,
    silent: bool,
    shows_error: bool,
    is_verbose: bool,
    as_json: bool,
    tenant_id: str,
    timeout_ms: int | None,
    config_path: str | None,
    socket_path: str | None,
) -> None:
    if as_json and (includes_head or is_prompt or output_path == STDOUT):
        raise click.UsageError("--json prints one object, which has the head in it: it goes without -i, -N and -o -")
    asked = Asked(
        includes_head=(includes_head or is_head) and not as_json,
        fails_with_status=fails_with_status,
        is_silent=silent and not shows_error,
        is_verbose=is_verbose,
        as_json=as_json,
    )
    exchange = Exchange(asked)
    failure: StartupError | ConnectorException | None = None
    # It must be there before anything is sent.
    report_output = checked_output(None, is_prompt=True) if as_json else None
    try:
        outbound = request_input.build(
            method,
            url,
            headers=headers,
            data=((Data.TEXT, text), (Data.RAW, raw), (Data.BINARY, binary), (Data.JSON, json_text)),
            user=user,
            is_head=is_head,
            stdin=None if sys.stdin is None else sys.stdin.buffer,
        )
        settings, doubt = client_settings(config_path, socket_path, tenant_id, timeout_ms)
        exchange.run(outbound, settings, checked_output(output_path, is_prompt=is_prompt), doubt=doubt)
    except (StartupError, ConnectorException) as error:
        failure = error
    except KeyboardInterrupt:
        if report_output is not None:
            exchange.report(CommandFailed(ExitCode.INTERRUPTED, "interrupted")).write(report_output)
        raise
    if report_output is not None:
        exchange.report(failure).write(report_output)
    if failure is not None:
        if str(failure) and not asked.is_silent:
            say(str(failure))
        sys.exit(exit_code_of(failure))
