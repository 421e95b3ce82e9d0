"""What is said in ``chat``: by a person at a terminal, or line by line from a file or a pipe."""

from typing import TextIO

from connector_sdk.errors import ConnectorException
from connector_sdk.wire.messages import ErrorClass

PROMPT = "> "
MAX_LINE_BYTES = 1024 * 1024
_READ_BYTES = 64 * 1024


class Questions:
    """Lines, one after another.

    Args:
        source: standard input.
        screen: standard output.

    Attributes:
        is_interactive: a person sits at a terminal, and sees what is written.
    """

    def __init__(self, source: TextIO, screen: TextIO) -> None:
        self.is_interactive = source.isatty() and screen.isatty()
        self._source = source
        if self.is_interactive:
            import readline  # noqa: F401 - input() uses it; where nobody types, it may write control sequences

    def next_line(self) -> str | None:
        """The next one, without its end; None: there is no more.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            ConnectorException: INVALID_REQUEST, it is no text, or too long; the one after it can be read.
        """
        if self.is_interactive:
            try:
                line = input(PROMPT)
                line.encode()  # in a locale without UTF-8, Python keeps other bytes as halves of characters
            except EOFError:
                return None
            except UnicodeError as error:
                raise _not_a_question("it is not UTF-8") from error
            return line
        data = self._source.buffer.readline(MAX_LINE_BYTES + 1)
        if not data:
            return None
        if len(data) > MAX_LINE_BYTES and not data.endswith(b"\n"):
            while (more := self._source.buffer.readline(_READ_BYTES)) and not more.endswith(b"\n"):
                pass
            raise _not_a_question(f"it has more than {MAX_LINE_BYTES:,} bytes")
        try:
            return data.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise _not_a_question("it is not UTF-8") from error


def _not_a_question(reason: str) -> ConnectorException:
    return ConnectorException(f"the line is no question: {reason}", ErrorClass.INVALID_REQUEST)
