"""``vastar-runtime simulator``."""

import signal
from collections.abc import AsyncIterator
from functools import partial

import click
import trio

from vastar_runtime.errors import StartupError
from vastar_runtime.simulator.app import DEFAULT_CHUNK_DELAY_MS
from vastar_runtime.simulator.serve import serve

# One chunk a minute is slower than any pace worth a demonstration.
MAX_CHUNK_DELAY_MS = 60_000


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vastar-runtime simulator --port 4545 --require-key sk-test",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address or name to listen on.")
@click.option("--port", default=4545, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: any free one.")
@click.option("--require-key", metavar="KEY", help="Answer 401 unless the client sends this bearer key.")
@click.option(
    "--chunk-delay-ms",
    default=DEFAULT_CHUNK_DELAY_MS,
    show_default=True,
    type=click.IntRange(0, MAX_CHUNK_DELAY_MS),
    help="Pause between two chunks of a stream, in milliseconds.",
)
@click.option("--ready-fd", type=click.IntRange(min=0), hidden=True)
def simulator(host: str, port: int, require_key: str | None, chunk_delay_ms: int, ready_fd: int | None) -> None:
    """Answer OpenAI chat completions from a few fixed texts, without network or key.

    The models simulate-quota and simulate-unknown answer with the API's errors.
    """
    if require_key is not None and not require_key.strip():
        raise click.BadParameter("the key is empty, so that no client could have it", param_hint="--require-key")
    failure = trio.run(_run, host, port, require_key, chunk_delay_ms, ready_fd)
    if failure is not None:
        raise click.ClickException(failure)


async def _run(host: str, port: int, require_key: str | None, chunk_delay_ms: int, ready_fd: int | None) -> str | None:
    """Serves until a signal; returns why when it cannot (what is raised here leaves the nursery in a group)."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
            try:
                url = await nursery.start(
                    partial(serve, host, port, require_key=require_key, chunk_delay_ms=chunk_delay_ms)
                )
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
