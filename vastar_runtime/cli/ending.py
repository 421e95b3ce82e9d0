"""How every command ends that does not end well: one line on standard error, and an exit code of the table."""

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TextIO

import click
from click.exceptions import NoArgsIsHelpError

from connector_sdk.errors import ConnectorException
from vastar_runtime.errors import StartupError

from .exit_codes import CommandFailed, ExitCode, exit_code_of
from .printing import printable

# Paths of 4,096 bytes and a sentence around them.
_MAX_CHARACTERS = 10_000
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@contextmanager
def ending() -> Iterator[None]:
    """Turn the errors of a command, run with ``standalone_mode=False``, into its end.

    Raises:
        SystemExit: with the exit code, once the line is written.
    """
    try:
        yield
    except NoArgsIsHelpError as error:
        tell(error.format_message())  # no mistake: who asks for nothing gets the help
        sys.exit(ExitCode.USAGE)
    except click.ClickException as error:
        say(_words(error))
        sys.exit(error.exit_code)
    except (StartupError, ConnectorException) as error:
        if str(error):  # there is none where nobody reads
            say(str(error))
        sys.exit(exit_code_of(error))
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
    tell(f"Error: {printable(_in_one_line(message), _MAX_CHARACTERS)}")


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


def _in_one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip())
