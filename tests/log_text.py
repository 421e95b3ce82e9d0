"""The log of a test."""

import io


class LogText(io.StringIO):
    """Has every line at once."""

    def write_later(self, line: object) -> None:
        self.write(str(line))
