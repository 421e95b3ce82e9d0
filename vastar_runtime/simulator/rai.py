"""The chat completions of the existing RAI endpoint simulator, as its clients know them.

The body is not checked and the answer is always a stream: pieces of 10 bytes, a new id with every chunk, no role, no
finish reason, a chunk with the usage, no ``[DONE]``. Unlike there, no piece divides a character.
"""

import random
import string
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from . import answers, completion
from .api_error import ApiError
from .reply import Asked, Reply
from .request import Message

PIECE_BYTES = 10

_ID_CHARS = string.ascii_letters + string.digits

# The same in every chunk of every answer.
_CREATED = 1_735_278_816
_MODEL = "gpt-4o-2024-08-06"
_FINGERPRINT = "fp_d28bcae782"


def asked(body: bytes) -> Asked:
    """The conversation in any body: of a chat completion request, or else the body as one question."""
    messages: Sequence[Message]
    try:
        messages = completion.parse(body).asked.messages
    except ApiError:
        messages = [Message("user", body.decode(errors="replace"))]
    return Asked(messages=messages)


def as_events(reply: Reply) -> Iterator[bytes]:
    """The stream."""
    for piece in answers.split_bytes(reply.text, PIECE_BYTES):
        choice = {"index": 0, "delta": {"content": piece}, "logprobs": None, "finish_reason": None}
        yield _chunk([choice], None)
    yield _chunk([], completion.usage(reply.prompt_tokens, reply.completion_tokens))


def _chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
    chunk = {
        "id": "chatcmpl-Ai" + "".join(random.choices(_ID_CHARS, k=30)),
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": _MODEL,
        "system_fingerprint": _FINGERPRINT,
        "choices": choices,
        "usage": usage,
    }
    return b"data: %b\n\n" % msgspec.json.encode(chunk)
