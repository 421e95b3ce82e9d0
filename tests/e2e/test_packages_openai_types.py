"""What the simulator answers, held against the types of the official ``openai`` package."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import openai.types.responses as response_types
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from package_stories import checked, data_of, simulator_thread

from vastar_runtime.simulator import responses_api
from vastar_runtime.simulator.reply import Reply, ToolCall

ASKED: Any = {"model": "any", "messages": [{"role": "user", "content": "Hello, what is a deadline?"}]}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
RESPONSES_TOOL = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}


def test_every_object_is_of_the_packages_type_and_no_field_is_unknown() -> None:
    def ask(path: str, **fields: Any) -> Any:
        answer = httpx2.post(f"{url}/v1{path}", json=fields) if fields else httpx2.get(f"{url}/v1{path}")
        assert answer.status_code == 200, answer.text
        if not fields.get("stream"):
            return answer.json()
        return data_of(event.encode() for event in answer.text.split("\n\n") if event not in ("", "data: [DONE]"))

    with simulator_thread() as url:
        for more in ({}, {"tools": [TOOL], "tool_choice": "required"}, {"max_tokens": 5}):
            checked(ChatCompletion, ask("/chat/completions", **ASKED, **more))
            for chunk in ask("/chat/completions", **ASKED, **more, stream=True):
                checked(ChatCompletionChunk, chunk)
        checked(CreateEmbeddingResponse, ask("/embeddings", model="any", input="Hello", encoding_format="float"))
        for model in ask("/models")["data"]:
            checked(Model, model)


def test_every_response_is_of_the_packages_type_and_no_field_is_unknown() -> None:
    form = {"type": "json_schema", "name": "place", "schema": PARAMETERS}
    more = {
        "tools": [RESPONSES_TOOL],
        "tool_choice": {"type": "function", "name": "weather"},
        "text": {"format": form},
        "metadata": {"a": "b"},
        "user": "someone",
        "reasoning": {"effort": "low", "summary": "auto"},
        "max_tool_calls": 3,
        "service_tier": "flex",
        "safety_identifier": "someone",
        "prompt_cache_key": "key",
    }
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [more["tool_choice"]]}
    said = Reply(text="It is warm — 東京.", prompt_tokens=3, completion_tokens=6)
    called = Reply(
        text="", tool_calls=(ToolCall("weather", '{"city":"Bandung"}'),), prompt_tokens=3, completion_tokens=6
    )
    for reply in (said, called, msgspec.structs.replace(said, is_cut=True)):
        for fields in ({}, more, more | {"tool_choice": allowed}):
            body = msgspec.json.encode({"model": "any", "input": "Hello"} | fields)
            answer = responses_api.answer(responses_api.parse(body), reply)
            checked(response_types.Response, answer.as_json())
            for event in data_of(answer.as_events()):
                checked(response_types.ResponseStreamEvent, event)
