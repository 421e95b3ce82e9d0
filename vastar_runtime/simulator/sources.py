"""Where the answers' texts come from: the shipped set, a directory, or the question itself."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from vastar_runtime.config.quoting import shown_path
from vastar_runtime.errors import StartupError

from . import answers
from .request import Message
from .settings import SimulatorSettings
from .text_files import UnreadableFile, read_text

MAX_FILES = 1000
MAX_FILE_BYTES = 1 << 20
MAX_ALL_BYTES = 16 << 20

# One with more files is looked at no more often: a thousand cost some milliseconds. With few, each answer looks first.
FEW_FILES = 64
LOOK_EVERY_S = 0.5

_log = logging.getLogger(__name__)

# Of each file the name, and what changes when it is written or replaced.
_State = tuple[tuple[str, int, int, int], ...]


class Source(Protocol):
    """Gives an answer its text."""

    def text_for(self, messages: Sequence[Message]) -> str:
        """The same one for the same conversation, as long as the texts are the same. Any thread may ask."""


def source_of(settings: SimulatorSettings) -> Source:
    """The source that was chosen.

    Raises:
        StartupError: there are no texts in the directory, or it cannot be read.
    """
    if settings.echo:
        return Echo()
    return Shipped() if settings.responses is None else Directory(settings.responses)


class Shipped:
    """The texts that come with the simulator; they say how much of a history arrived."""

    def __init__(self) -> None:
        self._texts = answers.load_texts()

    def text_for(self, messages: Sequence[Message]) -> str:
        return answers.answer(messages, self._texts)


class Echo:
    """What the user said last; nothing when no user said anything."""

    def text_for(self, messages: Sequence[Message]) -> str:
        return next((message.text for message in reversed(messages) if message.role == "user"), "")


class Directory:
    """The ``*.md`` files of a directory, as they are now.

    While they cannot be read, those that were read before go on being the answers, and the log says why, once.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Read them.

        Args:
            path: of the directory.
            clock: seconds.

        Raises:
            StartupError: there are none, or they cannot be read.
        """
        self._path = path
        self._clock = clock
        self._looked_at = clock()
        self._looking = threading.Lock()
        self._complaint = ""
        try:
            self._state = self._look()
            self._texts = self._read(self._state)
        except UnreadableFile as error:
            raise StartupError(
                f"no answers in {shown_path(path)}: {error}; name a directory of *.md files with --responses"
            ) from error

    def text_for(self, messages: Sequence[Message]) -> str:
        # Who comes while another one looks is answered with what there is.
        pause_s = LOOK_EVERY_S if len(self._state) > FEW_FILES else 0.0
        if self._clock() - self._looked_at >= pause_s and self._looking.acquire(blocking=False):
            try:
                self._refresh()
                self._looked_at = self._clock()
            finally:
                self._looking.release()
        return answers.choose(messages, self._texts)

    def _refresh(self) -> None:
        try:
            state = self._look()
            if state != self._state:
                self._texts = self._read(state)
                self._state = state
                _log.info("answers: %d texts read again from %s", len(self._texts), shown_path(self._path))
        except UnreadableFile as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("answers stay as they were: in %s %s", shown_path(self._path), error)
        else:
            self._complaint = ""

    def _look(self) -> _State:
        try:
            with os.scandir(self._path) as entries:
                found = []
                for entry in entries:
                    # Hidden ones are no texts: an editor has a .#a.md, which leads nowhere, while it has an a.md open.
                    if entry.name.endswith(".md") and not entry.name.startswith("."):
                        status = _status(entry)
                        found.append((entry.name, status.st_mtime_ns, status.st_size, status.st_ino))
                        if len(found) > MAX_FILES:
                            raise UnreadableFile(f"it has more than {MAX_FILES} *.md files")
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) else None
            raise UnreadableFile((cause or str(error)).lower()) from error
        # In the order of their names: the same question gets the same answer wherever the directory lies.
        return tuple(sorted(found))

    def _read(self, state: _State) -> tuple[str, ...]:
        texts = []
        size = 0
        for name, *_ in state:
            try:
                text = read_text(os.path.join(self._path, name), MAX_FILE_BYTES).strip()
            except UnreadableFile as error:
                raise UnreadableFile(f"{shown_path(name)} cannot be read: {error}") from error
            size += len(text.encode())
            if size > MAX_ALL_BYTES:
                raise UnreadableFile(f"its *.md files have more than {MAX_ALL_BYTES} bytes")
            if text:
                texts.append(text)
        if not texts:
            raise UnreadableFile("it has no *.md file with a text in it")
        return tuple(texts)


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise UnreadableFile(f"{shown_path(entry.name)} cannot be read: {cause}") from error
