"""How every command ends that does not end well: one line on standard error, an exit code of the table, and JSON where
that was asked for."""

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TextIO

import click
from click.exceptions import NoArgsIsHelpError

from connector_sdk.errors import ConnectorException
from vastar_runtime.errors import StartupError

from .exit_codes import CommandFailed, ExitCode, exit_code_of
from .json_failure import Failure
from .printing import json_line, printable

# Paths of 4,096 bytes and a sentence around them.
_MAX_CHARACTERS = 10_000
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@contextmanager
def ending(wants_json: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn the errors of a command, run with ``standalone_mode=False``, into its end.

    Args:
        wants_json: whether a failure is to be an object on standard output, too; asked only when there is one.

    Raises:
        SystemExit: with the exit code, once the line is written.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # as standard error has it from the start
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except NoArgsIsHelpError as error:
        tell(error.format_message())  # no mistake: who asks for nothing gets the help
        sys.exit(ExitCode.USAGE)
    except click.ClickException as error:
        _fail(_words(error), error.exit_code, wants_json)
    except (StartupError, ConnectorException) as error:
        _fail(str(error), exit_code_of(error), wants_json)
    except click.Abort:
        tell("Interrupted")
        sys.exit(ExitCode.INTERRUPTED)
    except OSError as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # click could not even end the line of its ^C
            forget(sys.stderr)
            sys.exit(ExitCode.INTERRUPTED)
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        forget(sys.stdout)
        say(f"the output cannot be written: {error.strerror}")
        sys.exit(ExitCode.NOT_WRITTEN)


@contextmanager
def broken_pipes() -> Iterator[None]:
    """Inside of what click runs, which would end a command with 1 whose reader has gone.

    Raises:
        CommandFailed: NOT_WRITTEN, without words: head(1) has what it wanted.
    """
    try:
        yield
    except BrokenPipeError as error:
        forget(sys.stdout)
        raise CommandFailed(ExitCode.NOT_WRITTEN, "") from error


def say(message: str) -> None:
    """The line of an error, on standard error."""
    tell(f"Error: {_shown(message)}")


def _fail(message: str, exit_code: int, wants_json: Callable[[], bool]) -> NoReturn:
    if message:  # there is none where nobody reads
        say(message)
        if wants_json():
            failure = Failure(error=_shown(message), exit_code=exit_code)
            try:
                click.echo(json_line(failure))
            except OSError:
                forget(sys.stdout)
    sys.exit(exit_code)


def tell(line: str) -> None:
    """A line on standard error, if that can be written: what is said beside a command's work changes nothing of it,
    nor of its exit code."""
    try:
        click.echo(line, err=True)
    except OSError:  # there is no place left where it could be told
        forget(sys.stderr)


def replace_what_cannot_be_shown(*streams: TextIO | None) -> None:
    """Somebody else's words (an answer, a path) may hold what a terminal's encoding has no character for."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def unwind_when_terminated() -> None:
    """SIGTERM and SIGHUP end this program as an exception does: its files are removed, and its children ended."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)


def forget(stream: TextIO | None) -> None:
    """What could not be written would be tried again when Python ends, and fail once more, in words of its own."""
    with suppress(OSError, ValueError, AttributeError):  # none that has a descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        finally:
            os.close(nowhere)


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _words(error: click.ClickException) -> str:
    """What click says in three lines; values that are wrong say themselves what is to be done."""
    message = error.format_message()
    is_value = isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter)
    if is_value or not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    return f"{_in_one_line(message).removesuffix('.')}; see: {error.ctx.command_path} --help"


def _shown(message: str) -> str:
    return printable(_in_one_line(message), _MAX_CHARACTERS)


def _in_one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip())
