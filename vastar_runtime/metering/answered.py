"""What the answer to a request says it used of a language model. Pure.

Told by the answer's ``usage``, wherever the known APIs write it; where there is none, or the answer breaks off before
it, estimated from the request and from the text that came.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from vastar_runtime.errors import UpstreamError
from vastar_runtime.http.decoding import BodyDecoder, encodings_to_undo

from .asked import Asked, Asking
from .estimate import tokens_of_ascii
from .event_stream import EventStream
from .tally import Tally
from .whole_body import WholeBody, usual

# Small pieces are kept until there are so many bytes of them: to read twenty events at once takes less time.
MAX_PENDING_BYTES = 8 * 1024
# What one piece may become. With events as they are it takes 4 ms to decode and read, and 12 ms with the worst ones. A
# stream of events shrinks to a tenth as it comes, and to a sixtieth when it is compressed as a whole.
MAX_DECODED_BYTES = 512 * 1024
MAX_EXPANSION = 32
_ALWAYS_DECODED_BYTES = 64 * 1024
_EMPTY_STEP_BYTES = 8 * 1024  # what such a step counts for; it stands for work in a layer of several

# White space, and the bytes of a byte order mark, that may stand before a body.
_BEFORE_A_BODY = b" \t\r\n\xef\xbb\xbf"


class Used(msgspec.Struct, frozen=True):
    """The tokens of one request.

    Attributes:
        model: as the answer says, else as asked; printable.
        prompt_tokens: all of the prompt, cached parts included.
        cached_prompt_tokens: of those, what was read from the provider's cache.
        is_estimated: any of the numbers is our estimate.
        lacks_completion: neither the request nor an answer tells of the completion, and it may be any: an assumption
            holds for each that was asked for, unless completion_tokens, what was seen of it, is more.
    """

    model: str
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    is_estimated: bool
    lacks_completion: bool = False


class _Body(Protocol):
    def feed(self, piece: bytes) -> None: ...
    def tally(self) -> Tally: ...


class Meter:
    """Reads one answer beside its delivery. Nothing that it is fed makes it raise.

    Args:
        asking: the request.
    """

    __slots__ = (
        "_asking",
        "_body",
        "_decoder",
        "_is_given_up",
        "_is_unreadable",
        "_pending",
        "_pending_bytes",
        "_status_code",
        "_unread_bytes",
        "_waiting_bytes",
    )

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._status_code = 0  # of the final answer, when it has come
        self._body: _Body | None = None  # when its first byte has told of what kind it is
        self._decoder: BodyDecoder | None = None
        self._is_unreadable = False
        self._is_given_up = False  # it may be any number of times as long as what came
        self._unread_bytes = 0
        self._waiting_bytes = 0  # of encoded data from which nothing has come yet

    def head(self, status_code: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """The head of the answer; of another answer, where the request was sent again.

        Args:
            headers: with names in lower case.
        """
        if status_code < 200:
            return
        self._status_code = status_code
        self._pending, self._pending_bytes = [], 0
        self._body = self._decoder = None
        self._is_unreadable = self._is_given_up = False
        self._unread_bytes = self._waiting_bytes = 0
        for name, _ in headers:
            if name == b"content-encoding":
                self._encoded(headers)
                return

    def feed(self, piece: bytes) -> None:
        """The next piece of the body, as it is on the way to the client. Small ones are read several at a time, but not
        what is encoded: where that breaks, what came before is still to be read."""
        if self._decoder is not None:
            self._read(piece)
            return
        self._pending.append(piece)
        self._pending_bytes += len(piece)
        if self._pending_bytes >= MAX_PENDING_BYTES:
            self._read_pending()

    def _read_pending(self) -> None:
        pieces, self._pending, self._pending_bytes = self._pending, [], 0
        self._read(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _read(self, piece: bytes) -> None:
        if self._decoder is None and self._body is not None:
            self._body.feed(piece)
        elif self._is_unreadable:
            self._unread_bytes += len(piece)
        elif self._decoder is not None:
            self._decode(piece, self._decoder)
        elif self._status_code:
            self._begin(piece)

    def used(self) -> Used:
        """What the request has used, as far as that is known now; also after the answer broke off."""
        if self._pending:
            told = self._told_at_once()
            if told is not None:
                return told
            self._read_pending()
        asked = self._asking.asked
        if not self._status_code:  # the provider may have worked on it all the same
            return _used_unseen(asked)
        tally = Tally() if self._body is None else self._body.tally()
        model = tally.model or asked.model
        prompt, completion = tally.prompt_tokens, tally.completion_tokens
        if self._status_code >= 400:  # nothing was done, unless it says so
            return Used(model, prompt or 0, tally.cached_prompt_tokens, completion or 0, False)
        text = tally.text_tokens + tokens_of_ascii(self._unread_bytes)
        if asked.max_completion_tokens == 0:  # what comes back may be long, and is none
            if tally.is_by_size or self._unread_bytes:
                text = 0
            if completion is None:
                prompt = tally.total_tokens if prompt is None else prompt
                completion = None if prompt is None else 0
        is_estimated = not prompt or completion is None or text > 0
        if completion is None:
            seen = max(text, tally.least_completion_tokens)
            if tally.is_unfinished or asked.answers_later or self._is_given_up:
                return _used_otherwise(asked, model, prompt, tally.cached_prompt_tokens, seen)
            completion = seen
        else:
            completion += text
        # No prompt is empty: a server that says so has not counted.
        return Used(model, prompt or asked.prompt_tokens, tally.cached_prompt_tokens, completion, is_estimated)

    def _told_at_once(self) -> Used | None:
        """Of an answer that came whole and tells all, whatever was asked."""
        if (
            len(self._pending) > 1
            or self._body is not None
            or self._is_unreadable
            or not 200 <= self._status_code < 400
        ):
            return None
        told = usual(self._pending[0])
        if told is None or not told.model:
            return None
        return Used(told.model, told.prompt_tokens, told.cached_prompt_tokens, told.completion_tokens, False)

    def _encoded(self, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        encodings = b",".join([value for name, value in headers if name == b"content-encoding"]).decode("latin-1")
        undo = encodings_to_undo(encodings)
        if undo is not None:
            self._decoder = BodyDecoder(undo, "the upstream")
        else:
            self._is_unreadable = any(
                encoding.strip().lower() not in ("", "identity") for encoding in encodings.split(",")
            )

    def _begin(self, piece: bytes) -> None:
        """The first byte tells the kind: not all servers say so in Content-Type."""
        piece = piece.lstrip(_BEFORE_A_BODY)
        if piece:
            self._body = WholeBody() if piece.startswith((b"{", b"[")) else EventStream()
            self._body.feed(piece)

    def _decode(self, piece: bytes, decoder: BodyDecoder) -> None:
        """Decode a piece up to a limit, so that a compressed bomb costs little. What cannot be decoded, and all that
        follows, counts by its size."""
        self._waiting_bytes += len(piece)
        left = min(_ALWAYS_DECODED_BYTES + MAX_EXPANSION * len(piece), MAX_DECODED_BYTES)
        steps = []
        try:
            for step in decoder.feed(piece):
                left -= len(step) or _EMPTY_STEP_BYTES
                if left < 0:
                    self._is_unreadable = self._is_given_up = True
                    break
                if step:
                    steps.append(step)
        except UpstreamError:  # whoever delivers the body finds the same, and says so
            self._is_unreadable = True
        if self._is_unreadable:
            self._unread_bytes = self._waiting_bytes
        elif steps:
            self._waiting_bytes = 0
        if steps:
            decoded = b"".join(steps)
            if self._body is not None:
                self._body.feed(decoded)
            else:
                self._begin(decoded)


def _used_unseen(asked: Asked) -> Used:
    allowed = asked.max_completion_tokens
    return Used(asked.model, asked.prompt_tokens, 0, allowed or 0, True, allowed is None)


def _used_otherwise(asked: Asked, model: str, prompt: int | None, cached: int, seen: int) -> Used:
    """There is more of a completion than can be seen in the answer."""
    allowed = asked.max_completion_tokens
    return Used(model, prompt or asked.prompt_tokens, cached, max(seen, allowed or 0), True, allowed is None)
