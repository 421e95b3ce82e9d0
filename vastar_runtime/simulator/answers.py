"""What the simulator says, and how it counts and cuts it. Pure functions of their arguments."""

import hashlib
import importlib.resources
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import chain, groupby

from .request import Message


def _marks() -> str:
    """Whatever belongs to the character before it, for a class of a regular expression.

    Combining marks, the joiner of emoji, their skin tones. Marks beyond these two ranges do not exist.
    """
    points = chain(range(0x300, 0x1F000), range(0xE0100, 0xE01F0))
    marks = [point for point in points if unicodedata.category(chr(point))[0] == "M"]
    # Of neighbours the difference from their number is the same.
    runs = (list(run) for _, run in groupby(enumerate(marks), key=lambda item: item[1] - item[0]))
    return "".join(f"{chr(run[0][1])}-{chr(run[-1][1])}" for run in runs) + "\u200d\U0001f3fb-\U0001f3ff"


# One piece is one event, which is made, encoded and sent as a whole.
MAX_PIECE_CHARS = 10_000
# A longer word is several. No other thread goes on while one match is made.
_MOST = f"{{0,{MAX_PIECE_CHARS}}}+"

_MARK = _marks()
# What follows a joiner is one with it, as in a family of emoji. Here and below "+" after a repetition keeps it from
# noting, at every step, where it could go back to: nothing that follows can fail.
_TAIL = rf"(?:[{_MARK}]|(?<=\u200d)\S){_MOST}"
_FLAG = "[\U0001f1e6-\U0001f1ff]"
# Scripts that are written without white space between words.
_UNSPACED = "\u0e00-\u0edf\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"

# An approximation: a word or a single punctuation mark is one token. Real tokenizers cut long words into several
# tokens, so their counts are higher by roughly a third for English and by more for other scripts.
_TOKEN = re.compile(rf"\w{_TAIL}(?:\w{_TAIL}){_MOST}|(?:{_FLAG}{{2}}|[^\w\s]){_TAIL}")
_ASCII_TOKEN = re.compile(rf"\w\w{_MOST}|[^\w\s]")  # the same, four times as fast
_TOKEN_OR_SPACE = re.compile(rf"{_TOKEN.pattern}|\s+")
_PIECE = re.compile(
    rf"(?:(?:[{_UNSPACED}][{_MARK}]*+){{1,2}}+\s*+|[^\s{_UNSPACED}]++\s*+|\s++)"
    # A mark after white space stands on that.
    rf"(?:[{_MARK}]++[^\s{_UNSPACED}]*+\s*+){_MOST}"
)


def load_texts() -> tuple[str, ...]:
    """The texts in ``texts/*.md``, in the order of their file names."""
    folder = importlib.resources.files(__package__) / "texts"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".md")), key=lambda file: file.name)
    return tuple(file.read_text(encoding="utf-8").strip() for file in files)


def choose(messages: Sequence[Message], texts: Sequence[str]) -> str:
    """The one of ``texts`` for a conversation: always the same one for the same roles and texts."""
    digest = hashlib.sha256()
    for message in messages:
        for part in (message.role, message.text):
            encoded = part.encode()
            # The length keeps "a" + "bc" apart from "ab" + "c".
            digest.update(b"%d:%b" % (len(encoded), encoded))
    return texts[int.from_bytes(digest.digest()) % len(texts)]


def answer(messages: Sequence[Message], texts: Sequence[str]) -> str:
    """The text for a conversation, told to whom asked it.

    When the conversation has a history, the first sentence says how many earlier messages arrived; instructions
    (roles system and developer) are not counted as such.
    """
    text = choose(messages, texts)
    earlier = sum(message.role not in ("system", "developer") for message in messages[:-1])
    if not earlier:
        return text
    return f"I have read the {earlier} earlier {'message' if earlier == 1 else 'messages'} here.\n\n{text}"


def count_tokens(text: str) -> int:
    """The number of words and punctuation marks: an approximation of what a real tokenizer counts."""
    return sum(1 for _ in _tokens(text))


def cut(text: str, max_tokens: int) -> str:
    """The beginning of ``text`` that has ``max_tokens`` tokens (at least 1), or all of it when it has no more."""
    end = 0
    for number, token in enumerate(_tokens(text)):
        if number == max_tokens:
            return text[:end]
        end = token.end()
    return text


def _tokens(text: str) -> Iterator[re.Match[str]]:
    return (_ASCII_TOKEN if text.isascii() else _TOKEN).finditer(text)


def split_words(text: str) -> Iterator[str]:
    """``text`` in pieces that end after white space, so that no word is divided; joined they are ``text`` again.

    What is written without white space, such as Chinese, is divided after every second character, a character being
    one with its marks. A word of more than MAX_PIECE_CHARS is divided there.
    """
    return _pieces(_PIECE, text)


def split_tokens(text: str) -> Iterator[str]:
    """``text`` in its tokens and the white space between them: for JSON, which has no white space to split at."""
    return _pieces(_TOKEN_OR_SPACE, text)


def _pieces(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """One after the other: a list of all has many times the size of the text."""
    for match in pattern.finditer(text):
        piece = match.group()
        for begin in range(0, len(piece), MAX_PIECE_CHARS):
            yield piece[begin : begin + MAX_PIECE_CHARS]


def split_bytes(text: str, most: int) -> Iterator[str]:
    """``text`` in pieces of at most ``most`` bytes of UTF-8 (at least 4), none of which divides a code point."""
    data = text.encode()
    begin = 0
    while begin < len(data):
        end = min(begin + most, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # the middle of a character
            end -= 1
        yield data[begin:end].decode()
        begin = end
