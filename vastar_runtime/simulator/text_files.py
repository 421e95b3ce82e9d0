"""Text files of a user's, of whatever kind lies at their path: reading one ends soon and takes bounded memory."""

from vastar_runtime.regular_file import NotRegular, read_regular_file


class UnreadableFile(Exception):
    """A file that is not read: ``str()`` is the cause, for the end of a line that names the file."""


def read_text(path: str, max_bytes: int) -> str:
    """The text in a file, without the mark that editors on Windows begin one with.

    Raises:
        UnreadableFile: it is missing, closed to this user, no regular file, too large, or no UTF-8.
    """
    try:
        file = read_regular_file(path, max_bytes)
    except NotRegular as error:
        raise UnreadableFile("is a directory" if error.is_directory else "it is no regular file") from error
    except OSError as error:
        raise UnreadableFile((error.strerror or str(error)).lower()) from error
    if file.is_cut:
        raise UnreadableFile(f"it has more than {max_bytes} bytes")
    try:
        return file.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(f"it is no UTF-8 text (line {line}, byte 0x{error.object[error.start]:02x})") from error
