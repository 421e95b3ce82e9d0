"""The stream of ``POST /v1/messages``: its events in the API's order.

Source: Anthropic API reference, "Streaming messages".
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import msgspec

from . import answers


def as_events(begun: dict[str, Any], ended: dict[str, Any], inputs: tuple[str, ...]) -> Iterator[bytes]:
    """Server-sent events, from the two states of a message: without its content, and whole.

    Args:
        inputs: of its tool_use blocks, as JSON.
    """
    yield _event("message_start", message=begun)
    yield _event("ping")
    unsent = iter(inputs)
    for index, block in enumerate(ended["content"]):
        if block["type"] == "text":
            empty, pieces = block | {"text": ""}, _text_deltas(block["text"])
        else:
            empty, pieces = block | {"input": {}}, _input_deltas(next(unsent))
        yield _event("content_block_start", index=index, content_block=empty)
        for delta in pieces:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    delta = {"stop_reason": ended["stop_reason"], "stop_sequence": ended["stop_sequence"]}
    yield _event("message_delta", delta=delta, usage={"output_tokens": ended["usage"]["output_tokens"]})
    yield _event("message_stop")


def _text_deltas(text: str) -> Iterator[dict[str, str]]:
    for words in answers.split_words(text):
        yield {"type": "text_delta", "text": words}


def _input_deltas(json: str) -> Iterator[dict[str, str]]:
    for piece in chain([""], answers.split_tokens(json)):
        yield {"type": "input_json_delta", "partial_json": piece}


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind} | fields))
