"""``vastar-runtime chat``."""

import os
import sys
from urllib.parse import urlsplit

import click

from connector_sdk.client import RuntimeClient
from connector_sdk.config import RuntimeConfig
from connector_sdk.errors import ConnectorException
from connector_sdk.openai import AsyncConversation, AsyncOpenAIConnector, UsageTracker
from connector_sdk.openai_environment import settings_from_environment
from connector_sdk.price_table import Price
from vastar_runtime import config
from vastar_runtime.config.origins import glob, parse_pattern, split_origin

from .chat_input import Questions
from .chat_session import ChatSession
from .client_settings import client_settings, reached
from .ending import replace_what_cannot_be_shown, tell
from .exit_codes import CommandFailed, ExitCode
from .options import config_option, socket_option
from .printing import printable

# A person takes a longer silence for a fault.
_LONG_WAIT_S = 2
_MAX_REASON_CHARACTERS = 500

_HELP = """Have a conversation with a model, through the daemon.

Answers come as the model writes them, each with all that was said before it. Ctrl-C ends an answer, and nothing else;
at the prompt, a second one or Ctrl-D ends the conversation. /help lists its commands.

Which API it is, and with which key, the variables say that the SDK's from_env() reads: OPENAI_API_KEY,
OPENAI_BASE_URL, OPENAI_MODEL, AZURE_OPENAI_ENDPOINT and those that belong to it, USE_SIMULATOR. Without any of them it
is the simulator at http://localhost:4545. Without a key none is sent; the daemon may add one.

From a file or a pipe, each line is a question. The exit code is then that of the first that failed, as
vastar-runtime request has it.
"""


def _checked(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """A text that can be sent: Python has bytes that are no UTF-8 as halves of characters."""
    try:
        (text or "").encode()
    except UnicodeEncodeError as error:
        raise click.BadParameter("it is not UTF-8") from error
    return text


@click.command(
    help=_HELP,
    epilog='Example: vastar-runtime chat --model gpt-4o-mini --system "Answer in one sentence."',
)
@click.option(
    "--model",
    metavar="NAME",
    callback=_checked,
    help="Which model answers.  [env var: OPENAI_MODEL; default: gpt-4o-mini]",
)
@click.option("--system", metavar="TEXT", callback=_checked, help="What the model is told before everything else.")
@click.option(
    "--base-url",
    metavar="URL",
    callback=_checked,
    help="Where the API is; it gets OPENAI_API_KEY.  [default: see above]",
)
@click.option(
    "--max-history-tokens",
    metavar="N",
    type=click.IntRange(min=1),
    help="Of what was said, send at most so many tokens, about; the oldest is forgotten.  [default: send everything]",
)
@click.option(
    "--tenant",
    "tenant_id",
    metavar="ID",
    default="default",
    show_default=True,
    callback=_checked,
    help="On whose behalf.",
)
@config_option
@socket_option
def chat(
    model: str | None,
    system: str | None,
    base_url: str | None,
    max_history_tokens: int | None,
    tenant_id: str,
    config_path: str | None,
    socket_path: str | None,
) -> None:
    if sys.stdin is None or sys.stdout is None:
        raise CommandFailed(ExitCode.NOT_WRITTEN, "a conversation needs a standard input and a standard output")
    replace_what_cannot_be_shown(sys.stdout, sys.stderr)
    settings = settings_from_environment(os.environ, base_url=base_url or "")
    daemon, doubt = client_settings(config_path, socket_path, tenant_id)
    tracker = UsageTracker(_Prices(config_path, settings.base_url).price_of)
    connector = AsyncOpenAIConnector.from_settings(
        settings, config=daemon, usage_tracker=tracker, on_retry=_tell_of_long_wait
    )
    try:
        conversation = AsyncConversation(connector, model, system=system, max_history_tokens=max_history_tokens)
    except ConnectorException as error:  # all of these are the command line's
        raise CommandFailed(ExitCode.USAGE, error.message) from error
    _see_that_it_runs(daemon, doubt)
    session = ChatSession(conversation, connector, tracker, Questions(sys.stdin, sys.stdout), sys.stdout, daemon)
    sys.exit(session.run())


def _tell_of_long_wait(error: ConnectorException, wait_s: float) -> None:
    if wait_s > _LONG_WAIT_S:
        reason = printable(" ".join(error.message.split()), _MAX_REASON_CHARACTERS)
        tell(f"Asking again in {wait_s:.0f} s: {reason}")


def _see_that_it_runs(daemon: RuntimeConfig, doubt: str) -> None:
    client = RuntimeClient(daemon)
    try:
        reached(client.connect, daemon, doubt)
    except ConnectorException as error:
        message = f"{error.message}; {doubt}" if doubt else error.message
        raise CommandFailed(ExitCode.FAILED, message) from error
    finally:
        client.close()


class _Prices:
    """What the daemon's configuration says that models of this API cost, in the order of its file."""

    def __init__(self, config_path: str | None, base_url: str) -> None:
        examined = config.examine(config_path=config_path)
        settings = examined.settings
        # What could be read of the prices holds; a file that was named, and prices that cannot be read, are told of.
        of_prices = [
            mistake.text
            for mistake in examined.mistakes
            if mistake.key[:1] in ((), ("price",), ("usage",)) and not (mistake.is_forbidden and config_path is None)
        ]
        if of_prices:
            more = f" (and {len(of_prices) - 1} more)" if len(of_prices) > 1 else ""
            tell(f"Costs may be unknown: {of_prices[0]}{more}")
        self._currency = settings.usage.currency
        origin = _origin(base_url)
        self._prices = [
            price
            for price in settings.prices
            if price.origin is None or parse_pattern(price.origin).matches(split_origin(origin))
        ]

    def price_of(self, model: str) -> Price | None:
        """The first that fits; None: none does."""
        for price in self._prices:
            if glob(price.model, model):
                cached = price.cached_prompt_per_million
                return Price(
                    _decimal(price.prompt_per_million),
                    _decimal(price.completion_per_million),
                    self._currency,
                    None if cached is None else _decimal(cached),
                )
        return None


def _decimal(amount: float) -> str:
    return f"{amount:.12f}"


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url.lower())
    except ValueError:
        return ""  # the daemon will say what is wrong with it
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
