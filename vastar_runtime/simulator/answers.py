"""What the simulator says, and how it counts and cuts it. Pure functions of their arguments."""

import hashlib
import importlib.resources
import re
from collections.abc import Sequence

from .request import Message

# An approximation: a word or a single punctuation mark is one token. Real tokenizers cut long words into several
# tokens, so their counts are higher by roughly a third for English and by more for other scripts.
_TOKEN = re.compile(r"\w+|[^\w\s]")
_WORD_AND_SPACE = re.compile(r"\S+\s*|\s+")


def load_texts() -> tuple[str, ...]:
    """The texts in ``texts/*.md``, in the order of their file names."""
    folder = importlib.resources.files(__package__) / "texts"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".md")), key=lambda file: file.name)
    return tuple(file.read_text(encoding="utf-8").strip() for file in files)


def answer(messages: Sequence[Message], texts: Sequence[str]) -> str:
    """The answer to a conversation: always the same one for the same roles and texts.

    When the conversation has a history, the first sentence says how many earlier messages arrived; instructions
    (roles system and developer) are not counted as such.
    """
    digest = hashlib.sha256()
    for message in messages:
        for part in (message.role, message.text):
            encoded = part.encode()
            # The length keeps "a" + "bc" apart from "ab" + "c".
            digest.update(b"%d:%b" % (len(encoded), encoded))
    text = texts[int.from_bytes(digest.digest()) % len(texts)]
    earlier = sum(message.role not in ("system", "developer") for message in messages[:-1])
    if not earlier:
        return text
    return f"I have read the {earlier} earlier {'message' if earlier == 1 else 'messages'} here.\n\n{text}"


def count_tokens(text: str) -> int:
    """The number of words and punctuation marks: an approximation of what a real tokenizer counts."""
    return sum(1 for _ in _TOKEN.finditer(text))


def cut(text: str, max_tokens: int) -> str:
    """The beginning of ``text`` that has ``max_tokens`` tokens (at least 1), or all of it when it has no more."""
    tokens = list(_TOKEN.finditer(text))
    return text if len(tokens) <= max_tokens else text[: tokens[max_tokens - 1].end()]


def split_words(text: str) -> list[str]:
    """``text`` in pieces that end after white space, so that no word is divided; joined they are ``text`` again."""
    return _WORD_AND_SPACE.findall(text)
