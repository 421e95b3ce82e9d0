"""How many tokens a text has, about, without a tokenizer."""

from __future__ import annotations

ASCII_PER_TOKEN = 3
_NOT_ASCII = bytes(range(0x80, 0x100))


def estimated_tokens(text: str) -> int:
    """A third of its ASCII characters, and each other character: rather too many than too few.

    English has 4 to 4.5 characters a token, so that this is a third to a half too many; for code and JSON it is about
    right; for other scripts, where a token is one to four characters, up to four times too many. Too few it is for
    the rarest scripts, emoji of several parts, and long runs of symbols or digits. Who needs the true number gives
    ``Conversation`` a tokenizer: ``count_tokens=lambda text: len(encoding.encode(text))``.
    """
    others = 0 if text.isascii() else len(text) - len(text.encode(errors="surrogatepass").translate(None, _NOT_ASCII))
    return others + -(-(len(text) - others) // ASCII_PER_TOKEN)
