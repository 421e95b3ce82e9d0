"""Looking at files in a thread, all of them in one go. One whose disk hangs holds up one thread, and no other file."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from .file_reading import Reading, look
from .file_source import FileSource

# Of threads that hang; beyond that files are not looked at, and what was read is used.
MAX_HANGING = 32


class FileLooks:
    """Looks at files."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(MAX_HANGING)
        self._hanging: dict[FileSource, _Round] = {}

    async def look_at(self, files: Iterable[FileSource], limit_s: float) -> None:
        """Read those that have changed.

        Args:
            limit_s: the file that takes longer is said to hang, and is left out until it does no more.
        """
        self._hanging = {file: hanging for file, hanging in self._hanging.items() if not hanging.has_ended}
        left = [file for file in files if file not in self._hanging]
        while left:
            looks = _Round(left)
            await self._look(looks, limit_s)
            # Behind one that hangs others may be as they should.
            left = looks.files[looks.files.index(looks.at) + 1 :] if looks.at in self._hanging else []

    async def _look(self, looks: _Round, limit_s: float) -> None:
        try:
            with trio.move_on_after(limit_s) as limit:
                await trio.to_thread.run_sync(looks.run, abandon_on_cancel=True, limiter=self._limiter)
        except RuntimeError as error:  # there can be no more threads
            for file in looks.files:
                file.failed(f"cannot be read: {error}")
            return
        finally:
            looks.is_abandoned = True
        for file, reading in tuple(looks.readings):
            file.saw(reading)
        if limit.cancelled_caught and looks.at is not None and not looks.has_ended:
            self._hanging[looks.at] = looks
            looks.at.failed(f"cannot be read: no answer within {limit_s:g} s")


class _Round:
    """One go.

    Attributes:
        at: the file that it is at.
        readings: of those that have changed.
        is_abandoned: nobody waits for it any more.
    """

    def __init__(self, files: list[FileSource]) -> None:
        self.files = files
        self.at: FileSource | None = None
        self.readings: list[tuple[FileSource, Reading]] = []
        self.is_abandoned = False
        self.has_ended = False
        self._looks = [(file, file.path, file.known) for file in files]

    def run(self) -> None:
        """In a thread: it touches nothing of the files' own."""
        try:
            for file, path, known in self._looks:
                if self.is_abandoned:
                    return
                self.at = file
                reading = look(path, known)
                if reading is not None:
                    self.readings.append((file, reading))
        finally:
            self.has_ended = True
