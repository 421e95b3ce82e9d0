"""What the answer to a request says it used of a language model. Pure.

Told by the answer's ``usage``, wherever the known APIs write it; where there is none, or the answer breaks off before
it, estimated from the request and from the text that came.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from vastar_runtime.errors import UpstreamError
from vastar_runtime.http.decoding import MAX_STEP_BYTES, BodyDecoder, encodings_to_undo

from .asked import Asked
from .event_stream import EventStream
from .tally import Tally
from .whole_body import WholeBody

# What one piece may become: 8 MiB of JSON take some 20 ms, as events twice as long. A stream of events shrinks to a
# sixtieth when it is compressed as a whole, and to a tenth as it comes.
MAX_DECODED_BYTES = 8 * 1024 * 1024
MAX_EXPANSION = 128
_ALWAYS_DECODED_BYTES = 256 * 1024

# White space, and the bytes of a byte order mark, that may stand before a body.
_BEFORE_A_BODY = b" \t\r\n\xef\xbb\xbf"


class Used(msgspec.Struct, frozen=True):
    """The tokens of one request.

    Attributes:
        model: as the answer says, else as asked; printable.
        prompt_tokens: all of the prompt, cached parts included.
        cached_prompt_tokens: of those, what was read from the provider's cache.
        is_estimated: any of the numbers is our estimate.
    """

    model: str
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    is_estimated: bool


class _Body(Protocol):
    def feed(self, piece: bytes) -> None: ...
    def tally(self) -> Tally: ...


class Meter:
    """Reads one answer beside its delivery. Nothing that it is fed makes it raise.

    Args:
        asked: what the request asks for.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._status_code = 0  # of the final answer, when it has come
        self._body: _Body | None = None  # when its first byte has told of what kind it is
        self._decoder: BodyDecoder | None = None
        self._is_at_end = True

    def head(self, status_code: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """The head of the answer; of another answer, where the request was sent again.

        Args:
            headers: with names in lower case.
        """
        if status_code < 200:
            return
        self._status_code = status_code
        self._body = None
        encodings = b",".join([value for name, value in headers if name == b"content-encoding"]).decode("latin-1")
        undo = encodings_to_undo(encodings)
        self._decoder = None if undo is None else BodyDecoder(undo, "the upstream")
        # A body in an encoding that is not known here is not read.
        self._is_at_end = undo is None and any(
            encoding.strip().lower() not in ("", "identity") for encoding in encodings.split(",")
        )

    def feed(self, piece: bytes) -> None:
        """The next piece of the body, as it is on the way to the client."""
        if self._is_at_end:
            return
        if self._decoder is not None:
            self._decode(piece, self._decoder)
        elif self._body is not None:
            self._body.feed(piece)
        else:
            self._begin(piece)

    def used(self) -> Used:
        """What the request has used, as far as that is known now; also after the answer broke off."""
        asked = self._asked
        if not self._status_code:
            return Used(asked.model, asked.prompt_tokens, 0, 0, True)
        tally = Tally() if self._body is None else self._body.tally()
        model = tally.model or asked.model
        prompt, completion = tally.prompt_tokens, tally.completion_tokens
        if not 200 <= self._status_code < 300:  # nothing was done, unless it says so
            return Used(model, prompt or 0, tally.cached_prompt_tokens, completion or 0, False)
        text = tally.text_tokens
        if asked.max_completion_tokens == 0 and completion is None:
            text = 0
            prompt = tally.total_tokens if prompt is None else prompt
            completion = None if prompt is None else 0
        is_estimated = prompt is None or completion is None or text > 0
        if prompt is None:
            prompt = asked.prompt_tokens
        if completion is not None:
            completion += text
        else:
            if asked.max_completion_tokens is not None:
                text = min(text, asked.max_completion_tokens)
            completion = max(text, tally.least_completion_tokens)
        return Used(model, prompt, tally.cached_prompt_tokens, completion, is_estimated)

    def _begin(self, piece: bytes) -> None:
        """The first byte tells the kind: not all servers say so in Content-Type."""
        piece = piece.lstrip(_BEFORE_A_BODY)
        if piece:
            self._body = WholeBody() if piece.startswith(b"{") else EventStream()
            self._body.feed(piece)

    def _decode(self, piece: bytes, decoder: BodyDecoder) -> None:
        """Decode a piece up to a limit, so that a compressed bomb costs little."""
        left = min(_ALWAYS_DECODED_BYTES + MAX_EXPANSION * len(piece), MAX_DECODED_BYTES)
        try:
            for step in decoder.feed(piece):
                left -= len(step) or MAX_STEP_BYTES  # an empty one stands for work in a layer of several
                if left < 0:
                    self._is_at_end = True
                    return
                if self._body is not None:
                    self._body.feed(step)
                else:
                    self._begin(step)
        except UpstreamError:  # whoever delivers the body finds the same, and says so
            self._is_at_end = True
