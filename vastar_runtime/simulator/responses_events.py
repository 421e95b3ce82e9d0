"""The stream of ``POST /v1/responses``: its events in the API's order, numbered.

Source: OpenAI API reference, "Streaming events" of responses.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from . import answers

_Event = tuple[str, dict[str, Any]]


def as_events(begun: dict[str, Any], ended: dict[str, Any]) -> Iterator[bytes]:
    """Server-sent events, from the two states of a response: without its output, and whole."""
    for number, (kind, fields) in enumerate(_events(begun, ended)):
        data = msgspec.json.encode({"type": kind, "sequence_number": number} | fields)
        yield b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _events(begun: dict[str, Any], ended: dict[str, Any]) -> Iterator[_Event]:
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for index, item in enumerate(ended["output"]):
        place = {"output_index": index}
        if item["type"] == "message":
            yield "response.output_item.added", place | {"item": item | {"status": "in_progress", "content": []}}
            yield from _text_events(item["content"][0], place | {"item_id": item["id"], "content_index": 0})
        else:
            yield "response.output_item.added", place | {"item": item | {"status": "in_progress", "arguments": ""}}
            yield from _argument_events(item["arguments"], place | {"item_id": item["id"]})
        yield "response.output_item.done", place | {"item": item}
    yield f"response.{ended['status']}", {"response": ended}


def _text_events(part: dict[str, Any], place: dict[str, Any]) -> Iterator[_Event]:
    yield "response.content_part.added", place | {"part": part | {"text": ""}}
    for words in answers.split_words(part["text"]):
        yield "response.output_text.delta", place | {"delta": words, "logprobs": []}
    yield "response.output_text.done", place | {"text": part["text"], "logprobs": []}
    yield "response.content_part.done", place | {"part": part}


def _argument_events(arguments: str, place: dict[str, Any]) -> Iterator[_Event]:
    for piece in answers.split_tokens(arguments):
        yield "response.function_call_arguments.delta", place | {"delta": piece}
    yield "response.function_call_arguments.done", place | {"arguments": arguments}
