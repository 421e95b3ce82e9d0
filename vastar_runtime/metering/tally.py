"""What one answer has told of its usage so far, and how much text it brought. Pure."""

from __future__ import annotations

import msgspec

from .estimate import tokens_of_ascii
from .members import NOTHING, decoded, number

# Beyond it JSON numbers are not exact everywhere (RFC 8259, section 6); nobody has used as many.
MAX_TOLD_TOKENS = 2**53


class _Details(msgspec.Struct, frozen=True, gc=False):
    cached_tokens: msgspec.Raw = NOTHING


class Usage(msgspec.Struct, frozen=True, gc=False):
    """The ``usage`` object in the dialects of OpenAI (chat; responses) and Anthropic, each member as it stands in the
    text: one of a wrong type must not cost the others."""

    prompt_tokens: msgspec.Raw = NOTHING
    completion_tokens: msgspec.Raw = NOTHING
    total_tokens: msgspec.Raw = NOTHING
    prompt_tokens_details: msgspec.Raw = NOTHING
    prompt_cache_hit_tokens: msgspec.Raw = NOTHING  # DeepSeek's name
    input_tokens: msgspec.Raw = NOTHING
    output_tokens: msgspec.Raw = NOTHING
    input_tokens_details: msgspec.Raw = NOTHING
    cache_creation_input_tokens: msgspec.Raw = NOTHING
    cache_read_input_tokens: msgspec.Raw = NOTHING


USAGE = msgspec.json.Decoder(Usage)
_DETAILS = msgspec.json.Decoder(_Details)


class Tally:
    """The numbers of one answer. Of each what is told last holds: some servers tell the sum so far with every event.

    Attributes:
        model: as the answer says, printable; "" when it has not said.
        completion_tokens: as told last; None when it has not told.
        least_completion_tokens: told at the start, when there is little of it yet.
        total_tokens: as told last, where the prompt and the completion were not; None when it has not told.
        is_by_size: all that is known of the text is the size of what it came in.
        is_unfinished: the answer says that its completion is still to come.
        tells_no_completion: its dialect tells of none, as that of embeddings.
    """

    __slots__ = (
        "_ascii_characters",
        "_cache_read",
        "_cache_written",
        "_cached",
        "_input",
        "_prompt",
        "_text_events",
        "_text_tokens",
        "completion_tokens",
        "is_by_size",
        "is_unfinished",
        "least_completion_tokens",
        "model",
        "tells_no_completion",
        "total_tokens",
    )

    def __init__(self) -> None:
        self.model = ""
        self.completion_tokens: int | None = None
        self.least_completion_tokens = 0
        self.total_tokens: int | None = None
        self.is_by_size = False
        self.is_unfinished = False
        self.tells_no_completion = False
        self._prompt: int | None = None
        self._input: int | None = None
        self._cache_written = 0
        self._cache_read = 0
        self._cached = 0
        self._forget_text()

    @property
    def prompt_tokens(self) -> int | None:
        """All of the prompt; None when it has not told. Anthropic's input_tokens are without what was read from the
        cache, or written to it; the cache members go with them alone."""
        if self._prompt is not None:
            return self._prompt
        return None if self._input is None else self._input + self._cache_written + self._cache_read

    @property
    def cached_prompt_tokens(self) -> int:
        return min(max(self._cached, self._cache_read), self.prompt_tokens or 0)

    @property
    def text_tokens(self) -> int:
        """An estimate of the text that came since the completion was told last; at least one for each event."""
        return max(self._text_events, tokens_of_ascii(self._ascii_characters) + self._text_tokens)

    def add_text(self, text: str) -> None:
        """The text of an event."""
        if text:
            self._text_events += 1
            size = len(text)
            if text.isascii():
                self._ascii_characters += size
            else:
                ascii_characters = len(text.encode("ascii", "ignore"))
                self._ascii_characters += ascii_characters
                self._text_tokens += size - ascii_characters

    def add_unread(self, tokens: int) -> None:
        """Text that cannot be read, and its estimate."""
        self._text_events += 1
        self._text_tokens += tokens

    def add_unread_bytes(self, size: int) -> None:
        """A part of the answer that is not looked at."""
        self._ascii_characters += size

    def tell(self, usage: Usage, *, is_start: bool = False) -> None:
        """What a ``usage`` object says.

        Args:
            is_start: it came before the text; the completion in it is not the last word.
        """
        self._tell_prompt(usage)
        self._tell_cache(usage)
        completion = _told(usage.completion_tokens)
        if completion is None:
            completion = _told(usage.output_tokens)
        if completion is None:
            self.total_tokens, prompt = _told(usage.total_tokens), _told(usage.prompt_tokens)
            if self.total_tokens is not None and prompt is not None:  # embeddings have no other members
                completion = max(0, self.total_tokens - prompt)
                self.tells_no_completion = not completion
        if completion is None:
            return
        if is_start:
            self.least_completion_tokens = completion
        elif completion or not self.text_tokens:
            self.completion_tokens = completion
            self._forget_text()
        elif self.completion_tokens is None:  # a server that writes 0 beside a text has not counted
            self.completion_tokens = 0

    def _tell_prompt(self, usage: Usage) -> None:
        prompt, read = _told(usage.prompt_tokens), _told(usage.input_tokens)
        # No prompt is empty. Some translators of one dialect into another write 0 at one of a stream's two ends.
        if prompt is not None and (prompt or self._prompt is None):
            self._prompt = prompt
        if read is not None and (read or self._input is None):
            self._input = read

    def _tell_cache(self, usage: Usage) -> None:
        written, read = _told(usage.cache_creation_input_tokens), _told(usage.cache_read_input_tokens)
        if written is not None:
            self._cache_written = written
        if read is not None:
            self._cache_read = read
        for details in (usage.prompt_tokens_details, usage.input_tokens_details):
            inner = None if details is NOTHING else decoded(_DETAILS, details)
            cached = None if inner is None else _told(inner.cached_tokens)
            if cached is not None:
                self._cached = cached
        hit = _told(usage.prompt_cache_hit_tokens)
        if hit is not None:
            self._cached = hit

    def _forget_text(self) -> None:
        self._text_events = 0
        self._ascii_characters = 0
        self._text_tokens = 0  # of other characters


def _told(member: msgspec.Raw) -> int | None:
    return number(member, MAX_TOLD_TOKENS)
