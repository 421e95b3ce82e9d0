"""Answers of language models as the APIs send them, with what each says it used."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from vastar_runtime.metering.answered import Meter, Used
from vastar_runtime.metering.asked import Asked, Asking, begin_reading

ASKED = Asked("asked-for", 1000, None)


class Answer(NamedTuple):
    body: bytes
    used: Used


def read_asked(method: str, path: str, body: bytes) -> Asked | None:
    """What a request asks for, read at once; None when it is none to a language model."""
    asking = begin_reading(method, path, body)
    return None if asking is None else asking.asked


def used_of(
    pieces: Iterable[bytes], *, asked: Asked = ASKED, status_code: int = 200, encoding: str | None = None
) -> Used:
    meter = Meter(Asking.known(asked))
    meter.head(status_code, () if encoding is None else ((b"content-encoding", encoding.encode()),))
    for piece in pieces:
        meter.feed(piece)
    used = meter.used()
    assert meter.used() == used
    return used


def one_by_one(body: bytes) -> Iterable[bytes]:
    return (body[at : at + 1] for at in range(len(body)))


def events(*data: Any, named: bool = False, end: str = "\n") -> bytes:
    """Server-sent events, with the type of each in a line of its own where the API writes it."""
    lines = []
    for item in data:
        if named:
            lines.append(f"event: {item['type']}{end}")
        text = item if isinstance(item, str) else json.dumps(item, separators=(",", ":"), ensure_ascii=False)
        lines.append(f"data: {text}{end}{end}")
    return "".join(lines).encode()


def chunk(*deltas: dict[str, Any], usage: Any = None) -> dict[str, Any]:
    """One of a chat stream, with a choice for each delta."""
    choices = [
        {"index": index, "delta": delta, "logprobs": None, "finish_reason": None} for index, delta in enumerate(deltas)
    ]
    return {
        "id": "chatcmpl-9xYz",
        "object": "chat.completion.chunk",
        "created": 1722945392,
        "model": "gpt-4o-mini-2024-07-18",
        "system_fingerprint": "fp_48196bc67a",
        "choices": choices,
        "usage": usage,
    }


def told(model: str, prompt: int, cached: int, completion: int) -> Used:
    return Used(model, prompt, cached, completion, is_estimated=False)


CHAT_USAGE = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0},
}
RESPONSES_USAGE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 32},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 123,
}
ANTHROPIC_USAGE = {
    "input_tokens": 21,
    "cache_creation_input_tokens": 188,
    "cache_read_input_tokens": 5000,
    "cache_creation": {"ephemeral_5m_input_tokens": 188, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 393,
    "service_tier": "standard",
}
RESPONSE = {
    "id": "resp_67ccd3a9da748190",
    "object": "response",
    "created_at": 1741476777,
    "status": "completed",
    "error": None,
    "instructions": "Be brief.",
    "model": "gpt-4.1-2025-04-14",
    "output": [
        {
            "type": "message",
            "id": "msg_67ccd3acc8d48190",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "A park, with a boardwalk.", "annotations": []}],
        }
    ],
    "tools": [{"type": "function", "name": "report", "parameters": {"properties": {"usage": {"type": "object"}}}}],
    "usage": RESPONSES_USAGE,
    "metadata": {"usage": "none", "model": "of a car"},
}
MESSAGE = {
    "id": "msg_013Zva2CMHLNnjNjJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-20250514",
    "content": [{"type": "text", "text": "Hi! My name is Claude."}],
    "stop_reason": "end_turn",
    "usage": ANTHROPIC_USAGE,
}


def completion(message: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion",
        "created": 1741569952,
        "model": "gpt-4.1-2025-04-14",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}],
        **members,
    }


BODIES = {
    "chat": Answer(
        json.dumps(completion({"content": "Hello!", "refusal": None}, usage=CHAT_USAGE)).encode(),
        told("gpt-4.1-2025-04-14", 2006, 1920, 300),
    ),
    "chat, indented": Answer(
        json.dumps(completion({"content": "Hello!"}, usage=CHAT_USAGE), indent=2).encode(),
        told("gpt-4.1-2025-04-14", 2006, 1920, 300),
    ),
    "chat of DeepSeek": Answer(
        json.dumps(
            completion(
                {"content": "Hello!", "reasoning_content": "The user greets."},
                usage={
                    "prompt_tokens": 16,
                    "completion_tokens": 10,
                    "total_tokens": 26,
                    "prompt_cache_hit_tokens": 4,
                    "prompt_cache_miss_tokens": 12,
                },
            )
        ).encode(),
        told("gpt-4.1-2025-04-14", 16, 4, 10),
    ),
    "chat of a server without details": Answer(
        b'\n\n{"model":"llama","choices":[],"usage":{"completion_tokens":2,"prompt_tokens":3,'
        b'"prompt_tokens_details":null}}\n',
        told("llama", 3, 0, 2),
    ),
    "embeddings": Answer(
        b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.0023064255,-0.009327292]}],'
        b'"model":"text-embedding-ada-002","usage":{"prompt_tokens":8,"total_tokens":8}}',
        told("text-embedding-ada-002", 8, 0, 0),
    ),
    "responses": Answer(json.dumps(RESPONSE).encode(), told("gpt-4.1-2025-04-14", 36, 32, 87)),
    "Anthropic": Answer(json.dumps(MESSAGE).encode(), told("claude-sonnet-4-20250514", 5209, 5000, 393)),
    "Anthropic without a cache": Answer(
        json.dumps({**MESSAGE, "usage": {"input_tokens": 2095, "output_tokens": 503}}).encode(),
        told("claude-sonnet-4-20250514", 2095, 0, 503),
    ),
}

HELLO = [chunk({"content": "Hello"}), chunk({"content": " 世界"}), chunk({"content": ""}), chunk({})]

STREAMS = {
    "chat": Answer(
        events(chunk({"role": "assistant", "content": ""}), *HELLO, chunk(usage=CHAT_USAGE), "[DONE]"),
        told("gpt-4o-mini-2024-07-18", 2006, 1920, 300),
    ),
    "chat, CRLF": Answer(
        events(*HELLO, chunk(usage=CHAT_USAGE), "[DONE]", end="\r\n"),
        told("gpt-4o-mini-2024-07-18", 2006, 1920, 300),
    ),
    "chat, CR": Answer(
        events(*HELLO, chunk(usage=CHAT_USAGE), "[DONE]", end="\r"), told("gpt-4o-mini-2024-07-18", 2006, 1920, 300)
    ),
    "chat, without a space, after a byte order mark": Answer(
        b"\xef\xbb\xbf" + events(*HELLO, chunk(usage=CHAT_USAGE)).replace(b"data: ", b"data:"),
        told("gpt-4o-mini-2024-07-18", 2006, 1920, 300),
    ),
    "chat of Azure, with comments, and the end missing": Answer(
        b": keep-alive\n\n: keep-alive\n\n"
        + events(
            {"choices": [], "model": "", "prompt_filter_results": [{"prompt_index": 0}]},
            *HELLO,
            {**chunk({"content": "!"}), "usage": {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}},
        ).rstrip(b"\n"),
        told("gpt-4o-mini-2024-07-18", 5, 0, 4),
    ),
    "chat with the sum so far in every chunk": Answer(
        events(
            *[
                chunk({"content": word}, usage={"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 99})
                for count, word in enumerate(["One", " two", " three"], 1)
            ],
            "[DONE]",
        ),
        told("gpt-4o-mini-2024-07-18", 7, 0, 3),
    ),
    "responses": Answer(
        events(
            {"type": "response.created", "response": {**RESPONSE, "output": [], "usage": None}},
            {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "content": []}},
            {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "A park", "logprobs": []},
            {"type": "response.output_text.done", "item_id": "msg_1", "text": "A park"},
            {"type": "response.completed", "response": RESPONSE},
            named=True,
        ),
        told("gpt-4.1-2025-04-14", 36, 32, 87),
    ),
    "responses, incomplete": Answer(
        events(
            {"type": "response.function_call_arguments.delta", "delta": '{"city":'},
            {"type": "response.incomplete", "response": RESPONSE},
            named=True,
        ),
        told("gpt-4.1-2025-04-14", 36, 32, 87),
    ),
    "Anthropic": Answer(
        events(
            {
                "type": "message_start",
                "message": {**MESSAGE, "content": [], "usage": {**ANTHROPIC_USAGE, "output_tokens": 1}},
            },
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "ping"},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQBCg"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a'}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}},
            {"type": "message_stop"},
            named=True,
        ),
        told("claude-sonnet-4-20250514", 5209, 5000, 15),
    ),
    "Anthropic, with all of the usage at the end": Answer(
        events(
            {"type": "message_start", "message": {**MESSAGE, "usage": {"input_tokens": 0, "output_tokens": 0}}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": ANTHROPIC_USAGE},
            named=True,
        ),
        told("claude-sonnet-4-20250514", 5209, 5000, 393),
    ),
}
ANSWERS = {
    **{f"body: {name}": answer for name, answer in BODIES.items()},
    **{f"stream: {name}": answer for name, answer in STREAMS.items()},
}
