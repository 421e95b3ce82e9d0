"""On which line of a TOML text each key stands, which tomllib does not tell.

The text need not be valid: scanning ends where it is not, and tomllib tells what is wrong.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from .settings import KeyPath

# tomllib's time grows with the square of the parts of one key: 500,000 of them would take it hours.
MAX_DOTS = 100

# No possessive quantifiers: those of Python before 3.11.3 are broken. Each loop below has one way only to go on, so
# that it takes no longer where it fails.
_BASIC = r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_LITERAL = r"'[^'\n]*'"
_PART = re.compile(rf"[ \t]*([A-Za-z0-9_-]+|{_BASIC}|{_LITERAL})[ \t]*")
_BLANK = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
# A string of several lines may end with up to two quotes of its own before the three that close it. One that is not
# closed is no empty string with more after it: each try at it goes to the end of the text.
_PIECE = re.compile(
    r'"""[^"\\]*(?:(?:\\.|"{1,2}(?!"))[^"\\]*)*"{3,5}'
    r"|'''[^']*(?:'{1,2}(?!')[^']*)*'{3,5}"
    rf"|(?!\"\"\"){_BASIC}|(?!'''){_LITERAL}|#[^\n]*|[\[\]{{}}\n]|[^\"'#\[\]{{}}\n]+",
    re.DOTALL,
)


class Statement(NamedTuple):
    """A header, or a key with its value.

    Attributes:
        line: where it begins, counted from 1.
        opening: "[[" or "[" of a header, "" of a key.
        path: of the table or the key; that of a "[[" without its index.
    """

    line: int
    opening: str
    path: KeyPath


class TooManyDots(Exception):
    """One key, or one value outside of its strings, holds more than MAX_DOTS dots.

    Attributes:
        line: counted from 1.
    """

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) where each key and each table begins; keys within an inline table are not in it.

    Raises:
        TooManyDots: see there.
    """
    return _Scan(text).run()


def repeated(text: str, line: int) -> tuple[Statement, Statement, KeyPath] | None:
    """The last statement up to a line, an earlier one of the same key or table, and the path of that.

    None: no earlier one is about it.

    Raises:
        TooManyDots: see there.
    """
    scan = _Scan(text)
    lines = scan.run()
    until = [statement for statement in scan.statements if statement.line <= line]
    if not until:
        return None
    here = until[-1]
    by_line = {statement.line: statement for statement in until}
    for length in range(len(here.path), 0, -1):
        path = here.path[:length]
        first = lines.get(path, here.line)
        if first < here.line:
            return here, by_line[first], path
    return None


class _NoToml(Exception):
    pass


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._line = 1
        self._lines: dict[KeyPath, int] = {}
        self._lengths: dict[KeyPath, int] = {}  # of arrays of tables
        self.statements: list[Statement] = []

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        try:
            for opening in self._statements():
                if opening:
                    table = self._header(opening)
                else:
                    self.statements.append(Statement(self._line, "", self._place(table, self._key())))
                    self._take("=")
                    self._skip_value()
        except _NoToml:
            pass
        return self._lines

    def _statements(self) -> Iterator[str]:
        """Goes to the next one: "[[" or "[" of a header, "" of a key."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            assert blank is not None
            self._move(blank.end())
            if self._at == len(self._text):
                return
            yield next(mark for mark in ("[[", "[", "") if self._text.startswith(mark, self._at))

    def _header(self, opening: str) -> KeyPath:
        self._take(opening)
        parts = self._key()
        if opening == "[":
            path = self._place((), parts)
            self.statements.append(Statement(self._line, opening, path))
        else:
            array = (*self._place((), parts[:-1]), parts[-1])
            length = self._lengths.get(array, 0)
            self._lengths[array] = length + 1
            path = (*array, length)
            self.statements.append(Statement(self._line, opening, array))
            self._lines.setdefault(array, self._line)
            self._lines[path] = self._line
        self._take("]" * len(opening))
        return path

    def _place(self, table: KeyPath, parts: list[str]) -> KeyPath:
        """The path of a key below a table; what is in an array of tables belongs to its last one."""
        path = table
        for part in parts:
            path = (*path, part)
            self._lines.setdefault(path, self._line)
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        return path

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            part = _PART.match(self._text, self._at)
            if part is None:
                raise _NoToml
            if len(parts) > MAX_DOTS:
                raise TooManyDots(self._line)
            parts.append(_unquoted(part[1]))
            self._at = part.end()
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _skip_value(self) -> None:
        depth = dots = 0
        line = self._line
        while self._at < len(self._text):
            found = _PIECE.match(self._text, self._at)
            if found is None:
                raise _NoToml
            piece = found[0]
            if piece == "\n" and depth <= 0:
                return
            if piece in "[{":
                depth += 1
            elif piece in "]}":
                depth -= 1
            elif piece[0] not in "\"'#":
                dots += piece.count(".")
                if dots > MAX_DOTS:
                    raise TooManyDots(line)
            self._move(found.end())

    def _take(self, mark: str) -> None:
        if not self._text.startswith(mark, self._at):
            raise _NoToml
        self._at += len(mark)

    def _move(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to


def _unquoted(part: str) -> str:
    if part[0] == "'":
        return part[1:-1]
    if part[0] != '"':
        return part
    if "\\" not in part:
        return part[1:-1]
    import tomllib  # 10 ms that a start without a file does not take

    try:
        return str(tomllib.loads(f"key = {part}")["key"])
    except tomllib.TOMLDecodeError as error:
        raise _NoToml from error
