"""``vastar-runtime demo``: three chat completions through a daemon of its own."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import click

from connector_sdk.config import RuntimeConfig
from connector_sdk.errors import ConnectorException
from connector_sdk.openai import ChatCompletionRequest, Message, OpenAIConnector
from connector_sdk.wire import ErrorClass
from vastar_runtime import config
from vastar_runtime.errors import StartupError

from .background import PROXY_VARIABLES, Child, end, open_log, private_environ, spawn, tail
from .ending import replace_what_cannot_be_shown, unwind_when_terminated
from .exit_codes import ExitCode
from .run import READY

_API_BASE_URL = "https://api.openai.com/v1"
_API_MODEL = "gpt-4o-mini"
_SIMULATOR_MODEL = "simulator"
_MAX_TOKENS = 300
_LOG_LINES = 15
_NEXT_LINE = "\n" + " " * len("   Answer:   ")

# A key this short would be given away by its last four characters.
_SHORTEST_SHOWN_KEY = 12


class _Upstream(NamedTuple):
    base_url: str
    api_key: str | None
    model: str
    description: str


@click.command(epilog="Example: vastar-runtime demo")
def demo() -> None:
    """Show the runtime at work, in three examples.

    Streaming, non-streaming, and a conversation with history, each with the time it took. Starts a daemon and a
    simulator of the OpenAI API on a private socket and port, and leaves nothing running. With OPENAI_API_KEY set (and
    OPENAI_BASE_URL, OPENAI_MODEL) it asks the real API.
    """
    replace_what_cannot_be_shown(sys.stdout)
    unwind_when_terminated()
    with tempfile.TemporaryDirectory(prefix="vastar-demo-") as directory:
        log_path = os.path.join(directory, "daemon.log")
        try:
            _run(directory, log_path)
        except (StartupError, ConnectorException) as error:
            click.echo(f"\nError: {error}", err=True)
            lines = tail(log_path, _LOG_LINES)
            click.echo("The daemon's log ends with:" if lines else "The daemon's log is empty.", err=True)
            for line in lines:
                click.echo(f"   {line}", err=True)
            sys.exit(ExitCode.FAILED)
        except KeyboardInterrupt:
            click.echo("\nInterrupted", err=True)
            sys.exit(ExitCode.INTERRUPTED)


def mask(api_key: str) -> str:
    """A key as it may be shown: ``sk-…abcd``; a short one not at all."""
    if len(api_key) < _SHORTEST_SHOWN_KEY:
        return "(too short to show)"
    return f"{'sk-' if api_key.startswith('sk-') else ''}…{api_key[-4:]}"


def _run(directory: str, log_path: str) -> None:
    begin = time.perf_counter()
    api_key = os.environ.get("OPENAI_API_KEY", "").strip()
    # The simulator is on this machine, where no proxy leads.
    environ = private_environ(os.environ, directory, drop=() if api_key else PROXY_VARIABLES)
    with ExitStack() as stack:
        if api_key:
            upstream = _api(api_key)
        else:
            upstream = stack.enter_context(_simulator(os.path.join(directory, "simulator.log"), environ))
        socket_path = config.load_socket_path({}, socket_path=os.path.join(directory, "vastar.sock"))
        daemon = stack.enter_context(_child(["run", "--socket", socket_path], log_path, environ))
        if daemon.line != READY:
            raise StartupError(daemon.line)
        click.echo("Vastar Connector Runtime, demo")
        click.echo(f"   Daemon:   PID {daemon.process.pid}, socket {socket_path}")
        click.echo(f"   Upstream: {upstream.description}")
        connector = stack.enter_context(
            OpenAIConnector(
                upstream.base_url,
                upstream.api_key,
                config=RuntimeConfig(socket_path=socket_path, use_tcp=False),
            )
        )
        for number, (name, example) in enumerate(_EXAMPLES, start=1):
            click.echo(f"\n{number}. {name}")
            example(connector, upstream.model)
    click.echo(
        f"\nAll {len(_EXAMPLES)} examples succeeded in {time.perf_counter() - begin:.2f} s, with start and stop."
    )


def _api(api_key: str) -> _Upstream:
    base_url = os.environ.get("OPENAI_BASE_URL", "").strip() or _API_BASE_URL
    model = os.environ.get("OPENAI_MODEL", "").strip() or _API_MODEL
    return _Upstream(base_url, api_key, model, f"{base_url}, model {model}, key {mask(api_key)}")


@contextmanager
def _simulator(log_path: str, environ: Mapping[str, str]) -> Iterator[_Upstream]:
    with _child(["simulator", "--port", "0"], log_path, environ) as child:
        description = f"simulator at {child.line} (with OPENAI_API_KEY set: the real API)"
        yield _Upstream(child.line, None, _SIMULATOR_MODEL, description)


@contextmanager
def _child(arguments: Sequence[str], log_path: str, environ: Mapping[str, str]) -> Iterator[Child]:
    log_fd = open_log(log_path)
    try:
        # Not detached: Ctrl-C and the end of the terminal reach it, too.
        child = spawn(arguments, log_fd, environ=environ, detached=False)
    except StartupError as error:
        raise StartupError(f"the {arguments[0]} command failed: {error}; {' '.join(tail(log_path, 1))}") from error
    finally:
        os.close(log_fd)
    try:
        yield child
    finally:
        end(child.process)


def _streaming(connector: OpenAIConnector, model: str) -> None:
    question = "What is streaming, in a few words?"
    _ask([Message("user", question)], connector.chat_completion_stream, model)


def _non_streaming(connector: OpenAIConnector, model: str) -> None:
    _ask([Message("user", "Why use a connector?")], lambda request: [connector.chat_completion(request)], model)


def _conversation(connector: OpenAIConnector, model: str) -> None:
    history: list[Message] = []
    for question in ("When should a request be tried again?", "And how long should it wait for an answer?"):
        history.append(Message("user", question))
        answer = _ask(history, connector.chat_completion_stream, model)
        history.append(Message("assistant", answer))


_EXAMPLES = (
    ("Streaming", _streaming),
    ("Non-streaming", _non_streaming),
    ("Conversation with history", _conversation),
)


def _ask(messages: Sequence[Message], complete: Callable[[ChatCompletionRequest], Iterable[str]], model: str) -> str:
    """Print the last question and the answer as it comes, and the time it took."""
    click.echo(f"   Question: {messages[-1].content}")
    click.echo("   Answer:   ", nl=False)
    request = ChatCompletionRequest(model, messages, max_tokens=_MAX_TOKENS)
    begin = time.perf_counter()
    pieces = []
    for piece in complete(request):
        click.echo(piece.replace("\n", _NEXT_LINE), nl=False)
        pieces.append(piece)
    click.echo(f"\n   Time:     {time.perf_counter() - begin:.2f} s")
    answer = "".join(pieces)
    if not answer.strip():
        raise ConnectorException("the model answered with an empty text", ErrorClass.PERMANENT)
    return answer
