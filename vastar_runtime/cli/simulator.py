"""``vastar-runtime simulator``."""

import contextlib
import logging
import math
import resource
import signal
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeVar

import click
import trio

from vastar_runtime.errors import ConfigError, StartupError
from vastar_runtime.simulator.existing_config import ExistingConfig, read
from vastar_runtime.simulator.faults import Fault, FaultError, parse
from vastar_runtime.simulator.request import MAX_MODEL_CHARS
from vastar_runtime.simulator.serve import serve
from vastar_runtime.simulator.settings import DEFAULT_TOKENS_PER_SECOND, SimulatorSettings

from .options import complete_file
from .standard_descriptors import FIRST_OTHER

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 4545
DEFAULT_LOG_LEVEL = "warning"

# Slower than any pace worth a demonstration: a piece every 100 seconds, ten minutes before the first.
MIN_TOKENS_PER_SECOND = 0.01
MAX_TOKENS_PER_SECOND = 1_000_000
MAX_FIRST_TOKEN_MS = 600_000
MAX_SEED = 2**63 - 1

# Each is looked through for every request.
MAX_MODELS = 1000

_T = TypeVar("_T")


def _complete_directory(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def _finite(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    """No NaN, which is within every range."""
    if math.isnan(value):
        raise click.BadParameter("nan is no number")
    return value


def _pace(context: click.Context, parameter: click.Parameter, value: float) -> float:
    value = _finite(context, parameter, value)
    if 0 < value < MIN_TOKENS_PER_SECOND:
        raise click.BadParameter(f"{value} is neither 0 nor at least {MIN_TOKENS_PER_SECOND}")
    return value


def _fault(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Fault | None:
    try:
        return None if value is None else parse(value)
    except FaultError as error:
        raise click.BadParameter(str(error)) from error


@click.command(
    short_help="Answer as the APIs of OpenAI, Azure and Anthropic do.",
    epilog="Example: vastar-runtime simulator --port 4545 --require-key sk-test --responses ./zresponse",
)
@click.option("--host", metavar="ADDRESS", help=f"Address or name to listen on.  [default: {DEFAULT_HOST}]")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Port; 0: any free one.  [default: {DEFAULT_PORT}]")
@click.option("--require-key", metavar="KEY", help="Answer 401 unless the client sends this key.")
@click.option(
    "--model",
    "models",
    metavar="NAME",
    multiple=True,
    help="A model that exists; repeatable. Others then get 404.  [default: every name exists]",
)
@click.option(
    "--responses",
    metavar="DIR",
    shell_complete=_complete_directory,
    help="Answer with the *.md files of this directory; they are read again when they change.",
)
@click.option("--echo", is_flag=True, help="Answer with what the user said last.")
@click.option("--rai", is_flag=True, help="Answer chat completions as the RAI endpoint simulator does.")
@click.option(
    "--tokens-per-second",
    metavar="NUMBER",
    default=DEFAULT_TOKENS_PER_SECOND,
    show_default=True,
    type=click.FloatRange(0, MAX_TOKENS_PER_SECOND),
    callback=_pace,
    help="Pieces of a stream in a second; 0: no pauses.",
)
@click.option(
    "--first-token-ms",
    metavar="MS",
    default=0,
    show_default=True,
    type=click.IntRange(0, MAX_FIRST_TOKEN_MS),
    help="Time before the first piece, or before a whole answer, in milliseconds.",
)
@click.option(
    "--jitter",
    metavar="SHARE",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    callback=_finite,
    help="Make each pause longer or shorter by up to this share of it.",
)
@click.option(
    "--seed",
    metavar="NUMBER",
    type=click.IntRange(0, MAX_SEED),
    help="Make jitter, and faults that happen to a share of requests, the same in every run.",
)
@click.option(
    "--fault",
    metavar="FAULT",
    callback=_fault,
    help="What goes wrong with every request, as in the header X-Simulate: status=503, latency=500ms, cut-after=5, …",
)
@click.option(
    "--config",
    "config_path",
    metavar="FILE",
    shell_complete=complete_file,
    help="A config.yml of the RAI endpoint simulator; options win over it, and what has no effect is said.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help=f"What is said on standard error; info: each request.  [default: {DEFAULT_LOG_LEVEL}]",
)
@click.option("--ready-fd", type=click.IntRange(min=FIRST_OTHER), hidden=True)
def simulator(
    host: str | None,
    port: int | None,
    config_path: str | None,
    log_level: str | None,
    ready_fd: int | None,
    **options: Any,
) -> None:
    """Answer as the APIs of OpenAI, Azure and Anthropic do, from a few texts, without network or key.

    Chat completions, responses, messages, embeddings and models. Tools are called when they must be, or when the
    question mentions them. The models simulate-quota and simulate-unknown answer with the API's errors.
    """
    try:
        file = ExistingConfig() if config_path is None else read(config_path)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    settings = _settings(options, file)
    for line in file.unused:
        click.echo(line, err=True)
    level = log_level or file.log_level or DEFAULT_LOG_LEVEL
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    _raise_descriptor_limit()
    address = (_first(host, file.host, DEFAULT_HOST), _first(port, file.port, DEFAULT_PORT))
    failure = trio.run(_run, *address, settings, ready_fd)
    if failure is not None:
        raise click.ClickException(failure)


def _raise_descriptor_limit() -> None:
    """As many clients as may be: each connection is a descriptor, and the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Where it may not be raised, there are fewer.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _first(*values: _T | None) -> _T:
    return next(value for value in values if value is not None)


def _settings(options: dict[str, Any], file: ExistingConfig) -> SimulatorSettings:
    """Raises click.UsageError for options that cannot be together or have no sense."""
    require_key, models, responses = options["require_key"], options["models"], options["responses"]
    if require_key is not None and not require_key.strip():
        raise click.BadParameter("the key is empty, so that no client could have it", param_hint="--require-key")
    if len(models) > MAX_MODELS or not all(0 < len(model) <= MAX_MODEL_CHARS for model in models):
        raise click.BadParameter(
            f"at most {MAX_MODELS} names of 1 to {MAX_MODEL_CHARS} characters", param_hint="--model"
        )
    for model in models:
        # An argument of other bytes has half a surrogate pair for each.
        if any("\ud800" <= char <= "\udfff" for char in model):
            raise click.BadParameter(f"{model!r} is no UTF-8, so that no answer could name it", param_hint="--model")
    if options["echo"] and responses is not None:
        raise click.UsageError("--echo and --responses exclude each other: an answer has one source")
    if responses is None and not options["echo"]:
        if file.database is not None:
            raise click.UsageError(
                f"{file.database}: source: database is not served here: write its answers as *.md files into a folder "
                "and name that with --responses DIR, or say source: file"
            )
        responses = file.folder
    return SimulatorSettings(**options | {"responses": responses})


async def _run(host: str, port: int, settings: SimulatorSettings, ready_fd: int | None) -> str | None:
    """Serves until a signal; returns why when it cannot (what is raised here leaves the nursery in a group)."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
            try:
                url = await nursery.start(serve, host, port, settings)
            except StartupError as error:
                nursery.cancel_scope.cancel()
                return str(error)
            try:
                _announce(url, ready_fd)
            except OSError as error:
                nursery.cancel_scope.cancel()
                return f"cannot announce {url}: {error.strerror}"
    return None


async def _cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


def _announce(url: str, ready_fd: int | None) -> None:
    click.echo(f"Simulator listening on {url} (Ctrl-C stops it)")
    if ready_fd is not None:
        with open(ready_fd, "w", encoding="utf-8") as ready:
            ready.write(f"{url}\n")
