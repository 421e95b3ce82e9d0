"""The official ``openai`` package and the simulator: every story goes the same directly and through the daemon."""

from __future__ import annotations

import ipaddress
import math
from typing import Any

import msgspec
import openai
import pydantic
import pytest
from openai_suite import ASKED, HELLO, suite
from package_stories import (
    Suite,
    Way,
    failure,
    got,
    items_of,
    opened,
    plain,
    told,
)

__all__ = ["suite"]  # the fixture

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
NAMED = {"type": "function", "name": "weather"}
RESPONSES_TOOL: Any = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}


class Place(pydantic.BaseModel):
    id: pydantic.UUID4
    network: ipaddress.IPv4Network
    name: str
    inhabitants: int
    districts: list[str]


# --- chat ---


def test_a_chat_whole_and_streamed(suite: Suite) -> None:
    async def story(client: Any) -> Any:
        raw = await got(client.chat.completions.with_raw_response.create(**ASKED))
        whole = await got(raw.parse())
        assert whole._request_id
        chunks = await items_of(await got(client.chat.completions.create(**ASKED, stream=True)))
        counted = await items_of(
            await got(client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
        )
        async with opened(client.chat.completions.stream(**ASKED)) as stream:
            await items_of(stream)
            final = await got(stream.get_final_completion())
        short = await got(client.chat.completions.create(**ASKED, max_completion_tokens=5))
        stopped = await got(client.chat.completions.create(**ASKED, stop=[" "]))
        return plain([raw.headers["content-type"], whole, chunks, counted, final, short, stopped])

    content_type, whole, chunks, counted, final, short, stopped = suite.told(story)
    assert content_type == "application/json"
    text = whole["choices"][0]["message"]["content"]
    assert len(text.split()) > 30
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == text
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "stop"]
    assert (counted[-1]["choices"], counted[-1]["usage"]) == ([], whole["usage"])
    assert len(counted) == len(chunks) + 1
    assert final["choices"][0]["message"]["content"] == text
    assert (short["choices"][0]["finish_reason"], short["usage"]["completion_tokens"]) == ("length", 5)
    assert stopped["choices"][0]["message"]["content"] == text.partition(" ")[0]


def test_a_tool_is_called_and_what_it_returned_is_talked_about(suite: Suite) -> None:
    async def story(client: Any) -> Any:
        offer: Any = ASKED | {"tools": [TOOL], "tool_choice": "required"}
        whole = await got(client.chat.completions.create(**offer))
        async with opened(client.chat.completions.stream(**offer)) as stream:
            await items_of(stream)
            streamed = await got(stream.get_final_completion())
        message = whole.choices[0].message
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "31 degrees"}
        history = [*HELLO, message.to_dict(), result]
        text = await got(client.chat.completions.create(model="large", messages=history, tools=[TOOL]))
        chunks = await items_of(
            await got(client.chat.completions.create(model="large", messages=history, tools=[TOOL], stream=True))
        )
        return plain([whole, streamed, text, chunks])

    whole, streamed, text, chunks = suite.told(story)
    (choice,) = whole["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], call["function"]["name"]) == ("tool_calls", "weather")
    assert set(msgspec.json.decode(call["function"]["arguments"])) == {"city"}
    (streamed_call,) = streamed["choices"][0]["message"]["tool_calls"]
    assert streamed_call["function"]["arguments"] == call["function"]["arguments"]
    said = text["choices"][0]["message"]["content"]
    assert said
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == said


def test_a_text_of_the_form_that_was_asked_for(suite: Suite) -> None:
    async def story(client: Any) -> Any:
        chat = await got(client.chat.completions.parse(**ASKED, response_format=Place))
        response = await got(client.responses.parse(model="large", input="A place.", text_format=Place))
        return [chat.choices[0].message.parsed, response.output_parsed]

    assert [type(place) for place in suite.told(story)] == [Place, Place]


def test_a_history_of_the_real_api_goes_on_and_only_the_tools_that_are_allowed_are_called(suite: Suite) -> None:
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot say."}]}
    # As the API returns it, to be sent with the next request.
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}], "status": None}
    asked = {"role": "user", "content": "What is the weather now?"}
    other: Any = {"type": "function", "function": {"name": "now", "description": "What time it is."}}
    only_now = {"mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}]}

    async def story(client: Any) -> Any:
        chat, responses = client.chat.completions, client.responses
        history: Any = {"model": "large", "messages": [*HELLO, refused, asked]}
        alone = await got(chat.create(**history))
        called = await got(
            chat.create(
                **history, tools=[TOOL, other], tool_choice={"type": "allowed_tools", "allowed_tools": only_now}
            )
        )
        items: Any = {"model": "large", "input": [*HELLO, thought, refused, asked]}
        answered = await got(
            responses.create(
                **items,
                tools=[RESPONSES_TOOL, NAMED | {"name": "now"}],
                tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [NAMED]},
            )
        )
        no_json = await failure(
            lambda: responses.create(**items, text={"format": {"type": "json_object"}}), openai.BadRequestError
        )
        return plain([alone, called, answered, no_json])

    alone, called, answered, no_json = suite.told(story)
    (call,) = called["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "now"
    assert called["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"] + 6
    assert [item["name"] for item in answered["output"]] == ["weather"]
    assert answered["tool_choice"]["mode"] == "auto"
    assert (no_json["param"], "the word 'json'" in no_json["body"]["message"]) == ("input", True)


# --- the other resources ---


def test_embeddings_are_near_for_texts_that_are_alike(suite: Suite) -> None:
    texts = ["the cat sat on the mat", "the cat sat on a mat", "quarterly revenue of insurance companies"]

    async def story(client: Any) -> Any:
        packed = await got(client.embeddings.create(model="large", input=texts))
        floats = await got(client.embeddings.create(model="large", input=texts, encoding_format="float"))
        small = await got(client.embeddings.create(model="large", input=texts[0], dimensions=8))
        return plain([packed, floats, small])

    packed, floats, small = suite.told(story)
    cat, alike, other = (data["embedding"] for data in packed["data"])
    assert math.dist(cat, alike) < math.dist(cat, other)
    assert [value for data in floats["data"] for value in data["embedding"]] == pytest.approx([*cat, *alike, *other])
    assert (packed["usage"], len(small["data"][0]["embedding"])) == (floats["usage"], 8)


def test_the_models(suite: Suite) -> None:
    async def story(client: Any) -> Any:
        return plain([await items_of(client.models.list()), await got(client.models.retrieve("small"))])

    listed, small = suite.told(story)
    assert [model["object"] for model in listed] == ["model", "model"]
    assert small in listed


def test_responses_whole_and_streamed(suite: Suite) -> None:
    asked: Any = {"model": "large", "input": "Hello, what is a deadline?", "instructions": "Be brief."}

    async def story(client: Any) -> Any:
        whole = await got(client.responses.create(**asked))
        events = await items_of(await got(client.responses.create(**asked, stream=True)))
        async with opened(client.responses.stream(**asked)) as stream:
            await items_of(stream)
            final = await got(stream.get_final_response())
        assert whole.output_text == final.output_text
        short = await got(client.responses.create(**asked, max_output_tokens=16))
        cut = await items_of(await got(client.responses.create(**asked, max_output_tokens=16, stream=True)))
        return plain([whole, events, whole.output_text, short, cut[-1]])

    whole, events, text, short, cut = suite.told(story)
    assert len(text.split()) > 30
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == text
    assert events[-1]["response"] == whole
    assert (short["status"], short["usage"]["output_tokens"]) == ("incomplete", 16)
    assert (cut["type"], cut["response"]["incomplete_details"]) == (
        "response.incomplete",
        {"reason": "max_output_tokens"},
    )


def test_responses_that_call_a_tool(suite: Suite) -> None:
    asked: Any = {"model": "large", "tools": [RESPONSES_TOOL]}

    async def story(client: Any) -> Any:
        whole = await got(client.responses.create(**asked, input="How warm is it?", tool_choice="required"))
        async with opened(
            client.responses.stream(
                **asked, input="How warm is it?", tool_choice={"type": "function", "name": "weather"}
            )
        ) as stream:
            events = await items_of(stream)
            final = await got(stream.get_final_response())
        call = whole.output[0]
        history = [{"role": "user", "content": "How warm is it?"}, call.to_dict()]
        history.append({"type": "function_call_output", "call_id": call.call_id, "output": "31 degrees"})
        text = await got(client.responses.create(**asked, input=history))
        return plain([whole, events, final, text, text.output_text])

    whole, events, final, text, said = suite.told(story)
    (call,) = whole["output"]
    assert (call["type"], call["name"]) == ("function_call", "weather")
    assert [item["arguments"] for item in final["output"]] == [call["arguments"]]
    deltas = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call["arguments"]
    assert (text["status"], said != "") == ("completed", True)


def test_an_azure_deployment(suite: Suite) -> None:
    def client(way: Way) -> Any:
        kind = openai.AsyncAzureOpenAI if way.is_async else openai.AzureOpenAI
        return kind(
            azure_endpoint=suite.url,
            api_key="sk-right",
            api_version="2024-02-15-preview",
            max_retries=0,
            # Of its own: the package hangs hooks on it.
            http_client=way.open(),
        )

    async def story(client: Any) -> Any:
        asked: Any = {"model": "small", "messages": HELLO}
        whole = await got(client.chat.completions.create(**asked))
        chunks = await items_of(await got(client.chat.completions.create(**asked, stream=True)))
        vectors = await got(client.embeddings.create(model="small", input="Hello"))
        listed, small = await items_of(client.models.list()), await got(client.models.retrieve("small"))
        await got(client.close())
        return plain([whole, chunks, vectors, small in listed])

    whole, chunks, _, is_listed = told(story, [(way, client(way)) for way in suite.ways])
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert is_listed
