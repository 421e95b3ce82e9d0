"""Where ``request`` writes the answer: standard output, or a file that is opened when there is something to write."""

import contextlib
import errno
import math
import os
import stat
import sys
import time
from collections.abc import Iterable
from http import HTTPStatus
from types import TracebackType
from typing import BinaryIO, Self

from .ending import forget
from .exit_codes import CommandFailed, ExitCode
from .printing import printable

STDOUT = "-"
_BUFFER_BYTES = 64 * 1024
# As far as curl looks for a NUL, before it takes a body for text.
_JUDGED_BYTES = 2000
_MAX_LINE_CHARACTERS = 65_536
_LOOK_AGAIN_S = 0.02


class Output:
    """A context manager; what was written is there when it is left, also by an exception.

    Args:
        path: a file, STDOUT, or None: standard output, where no binary body goes to a terminal.
        is_prompt: every piece is passed on at once.
        stdout: the stream that stands for standard output; None: it is closed.
        is_terminal: whether somebody looks at it.

    Attributes:
        ends_at: of ``time.monotonic``; until then a named pipe may wait for its reader.
    """

    def __init__(self, path: str | None, *, is_prompt: bool, stdout: BinaryIO | None, is_terminal: bool) -> None:
        self.path = None if path == STDOUT else path
        self.is_prompt = is_prompt or (self.path is None and is_terminal)
        self.body_bytes = 0
        self.ends_at = math.inf
        self._stdout = stdout
        self._is_terminal = is_terminal and self.path is None
        self._to_judge = _JUDGED_BYTES if self._is_terminal and path is None else 0
        self._file: BinaryIO | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0

    @property
    def is_in_file(self) -> bool:
        """A file holds what there was to be written; one that is only named may be as it was."""
        return self._file is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.flush()
        except CommandFailed:
            if error is None:
                raise
        finally:
            if self._file is not None:
                self._file.close()

    def check(self) -> None:
        """See, before anything is sent, that the output could be written.

        Raises:
            CommandFailed: it could not.
        """
        if self.path is None:
            if self._stdout is None:
                raise self._failure("it is closed")
            return
        directory = os.path.dirname(self.path) or "."
        if os.path.isdir(self.path):
            raise self._failure(os.strerror(errno.EISDIR))
        if os.path.lexists(self.path):
            if not os.access(self.path, os.W_OK) and os.path.exists(self.path):
                raise self._failure(_why_not(self.path))
        elif not os.path.isdir(directory):
            raise self._failure(f"there is no directory {directory}")
        elif not os.access(directory, os.W_OK | os.X_OK):
            raise self._failure(_why_not(directory))

    def head(self, status_code: int, headers: Iterable[tuple[str, str]]) -> None:
        """Write the head of the answer; arguments as for ``head_lines``.

        Raises:
            CommandFailed: it cannot be written.
        """
        lines = head_lines(status_code, headers)
        if self._is_terminal:
            lines = [printable(line, _MAX_LINE_CHARACTERS) for line in lines]
        self._write("".join(f"{line}\r\n" for line in [*lines, ""]).encode("utf-8", "surrogateescape"))

    def body(self, piece: bytes) -> None:
        """Write a piece of the body.

        Raises:
            CommandFailed: it cannot be written, or is not fit for a terminal.
        """
        if self._to_judge > 0:
            if b"\0" in piece[: self._to_judge]:
                raise CommandFailed(
                    ExitCode.NOT_WRITTEN,
                    "the body is binary, which would garble the terminal; write it to a file with -o FILE, "
                    "or to the terminal all the same with -o -",
                )
            self._to_judge -= len(piece)
        self._write(piece)
        self.body_bytes += len(piece)

    def flush(self) -> None:
        """Pass on what is held.

        Raises:
            CommandFailed: it cannot be written.
        """
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self._pass_on(b"".join(held))

    def begin(self) -> None:
        """There is an answer: from now on the file is this answer's, however little of it comes.

        Raises:
            CommandFailed: the file cannot be opened; TIMEOUT, it is a pipe that nobody reads.
        """
        if self.path is None or self._file is not None:
            return
        try:
            while (file := _opened(self.path)) is None:
                if time.monotonic() >= self.ends_at:
                    raise self._failure("it is a pipe, and nobody opened it to read in time", ExitCode.TIMEOUT)
                time.sleep(_LOOK_AGAIN_S)  # nothing tells when somebody opens a pipe
        except (OSError, ValueError) as error:
            raise self._failure(_reason(error)) from error
        self._file = file

    def _write(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self.is_prompt or self._held_bytes >= _BUFFER_BYTES:
            self.flush()

    def _pass_on(self, data: bytes) -> None:
        self.begin()
        stream = self._file or self._stdout
        if stream is None:
            raise self._failure("it is closed")
        left = memoryview(data)
        try:
            while left:
                taken = stream.write(left)  # an unbuffered stream may take a part
                if taken is None:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                left = left[taken:]
            stream.flush()
        except BrokenPipeError as error:
            forget(sys.stdout)
            raise CommandFailed(ExitCode.NOT_WRITTEN, "") from error  # head(1) has what it wanted
        except OSError as error:
            if self._file is None:
                forget(sys.stdout)
            raise self._failure(_reason(error)) from error

    def _failure(self, reason: str, exit_code: ExitCode = ExitCode.NOT_WRITTEN) -> CommandFailed:
        where = "the output" if self.path is None else self.path
        return CommandFailed(exit_code, f"cannot write {where}: {reason}")


def checked_output(path: str | None, *, is_prompt: bool) -> Output:
    """An output of this process; arguments as for ``Output``.

    Raises:
        CommandFailed: it could not be written.
    """
    stdout = sys.stdout
    output = Output(
        path,
        is_prompt=is_prompt,
        stdout=None if stdout is None else stdout.buffer,
        is_terminal=stdout is not None and stdout.isatty(),
    )
    output.check()
    return output


def head_lines(status_code: int, headers: Iterable[tuple[str, str]]) -> list[str]:
    """The head of an answer, as HTTP/1.1 has it, without line ends and the empty line.

    Args:
        headers: (name, value), as they came.
    """
    phrase = ""
    with contextlib.suppress(ValueError):
        phrase = HTTPStatus(status_code).phrase
    return [f"HTTP/1.1 {status_code} {phrase}".rstrip(), *(f"{name}: {value}" for name, value in headers)]


def _opened(path: str) -> BinaryIO | None:
    """A file to write; None: a named pipe that nobody reads yet, for which open(2) would wait without end."""
    try:
        # Unbuffered: a failed write must not come back when it is closed.
        file = open(path, "wb", buffering=0, opener=_without_waiting)  # noqa: SIM115 - closed by Output.__exit__
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(os.stat(path).st_mode):
            return None
        raise
    os.set_blocking(file.fileno(), True)
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def _why_not(path: str) -> str:
    """Why access(2) says that it may not be written; Python does not pass its errno on."""
    with contextlib.suppress(OSError):  # that it may not even be asked is a reason of its own
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return os.strerror(errno.EROFS)
    return os.strerror(errno.EACCES)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
