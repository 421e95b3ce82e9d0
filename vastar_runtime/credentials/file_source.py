"""A secret in a file, which others replace or write anew while it is used."""

from __future__ import annotations

from vastar_runtime.config.quoting import shown_path

from .file_reading import Reading, Signature
from .source import Source

# What was written longer ago is no half of something that is being written. (Who writes one half of a file, and the
# other much later, cannot be told from one who has written all of it.)
SETTLED_S = 0.25
# For so long another write may leave the file's times as they are: some file systems count in steps of 2 s.
CERTAIN_S = 2.5


class FileSource(Source):
    """A file. New content is used once it can be a secret and has been the same for a while; until then the old one is.

    Args:
        path: absolute.

    Attributes:
        known: of the content that need not be read again; None: it is to be read.
    """

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name, "file")
        self.path = path
        self.known: Signature | None = None
        self._unconfirmed: Reading | None = None

    @property
    def is_unread(self) -> bool:
        """Nothing is known of it yet."""
        return self._secret is None and self.problem is None

    def saw(self, reading: Reading) -> None:
        """What was found, at a look that came some time after the one before."""
        before, self._unconfirmed = self._unconfirmed, None
        self.known = None
        if reading.secret is None:
            self._unconfirmed = reading
            # With a secret in use, it may be that somebody is just writing the next one.
            if self._secret is None or (before is not None and before.secret is None):
                self._lacks(f"{self._place} {reading.problem}")
        elif (
            reading.secret == self._secret
            or reading.age_s >= SETTLED_S
            or (before is not None and (before.secret, before.signature) == (reading.secret, reading.signature))
        ):
            self._has(reading.secret)
            self.known = reading.signature if reading.age_s >= CERTAIN_S else None
        else:
            self._unconfirmed = reading

    def failed(self, problem: str) -> None:
        """It could not be looked at.

        Args:
            problem: goes on after the path.
        """
        self.known = self._unconfirmed = None
        self._lacks(f"{self._place} {problem}")

    @property
    def _place(self) -> str:
        return f"the file {shown_path(self.path)}"
