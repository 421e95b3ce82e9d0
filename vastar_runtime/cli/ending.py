"""How every command ends that does not end well: one line on standard error, and an exit code of the table."""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.exceptions import NoArgsIsHelpError

from connector_sdk.errors import ConnectorException
from vastar_runtime.errors import StartupError

from .exit_codes import ExitCode, exit_code_of

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
        error.show()  # no mistake: who asks for nothing gets the help
        sys.exit(ExitCode.USAGE)
    except click.ClickException as error:
        say(_words(error))
        sys.exit(error.exit_code)
    except (StartupError, ConnectorException) as error:
        if str(error):  # there is none where nobody reads
            say(str(error))
        sys.exit(exit_code_of(error))
    except click.Abort:
        click.echo("Interrupted", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        say(f"the output cannot be written: {error.strerror}")
        sys.exit(ExitCode.NOT_WRITTEN)


def say(message: str) -> None:
    """The line of an error, on standard error."""
    from .asking import printable

    click.echo(f"Error: {printable(_in_one_line(message), _MAX_CHARACTERS)}", err=True)


def _words(error: click.ClickException) -> str:
    """What click says in three lines; values that are wrong say themselves what is to be done."""
    message = error.format_message()
    is_value = isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter)
    if is_value or not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    return f"{_in_one_line(message).removesuffix('.')}; see: {error.ctx.command_path} --help"


def _in_one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip())
