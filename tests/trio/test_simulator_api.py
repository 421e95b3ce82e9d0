"""What the simulator answers, over a real socket: completions, streams and errors."""

import json
import re
from typing import Any

import msgspec
import pytest
import trio
from simulator_client import COMPLETIONS, Answer, question, request_bytes, simulator

from vastar_runtime.simulator import completion
from vastar_runtime.simulator.body import MAX_BODY_BYTES
from vastar_runtime.simulator.reply import Reply, ToolCall

PATHS = [COMPLETIONS, "/test_completion"]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "default": "Bern"}},
            "required": ["city"],
        },
    },
}


def chunks_of(answer: Answer) -> list[Any]:
    *events, done = answer.events
    assert done == "[DONE]"
    return [json.loads(event) for event in events]


@pytest.mark.parametrize("path", PATHS)
async def test_a_question_is_answered_in_the_shape_of_the_api(path):
    async with simulator() as ask:
        answer = await ask(question("Hello there!", model="my-model"), path=path)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json) == {"id", "object", "created", "model", "choices", "system_fingerprint", "usage"}
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.json["id"].startswith("chatcmpl-")
    assert (answer.json["object"], answer.json["model"]) == ("chat.completion", "my-model")
    (choice,) = answer.json["choices"]
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "stop", "assistant")
    usage = answer.json["usage"]
    assert usage["prompt_tokens"] == 3
    assert usage["completion_tokens"] > 40
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_is_role_words_finish_usage_done_and_says_what_the_json_says(path):
    async with simulator() as ask:
        answer = await ask(question(stream=True, stream_options={"include_usage": True}), path=path)
        whole = await ask(question(stream=False), path=path)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    *chunks, usage = chunks_of(answer)
    role, *words, finish = chunks
    assert len({(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in [*chunks, usage]}) == 1
    assert role["object"] == "chat.completion.chunk"
    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(words) + 1) + ["stop"]
    assert finish["choices"][0]["delta"] == {}
    assert {chunk["usage"] for chunk in chunks} == {None}
    assert (usage["choices"], usage["usage"]) == ([], whole.json["usage"])
    pieces = [chunk["choices"][0]["delta"]["content"] for chunk in words]
    assert len(pieces) > 40
    assert "".join(pieces) == whole.json["choices"][0]["message"]["content"]


async def test_a_stream_has_no_usage_unless_it_is_asked_for():
    async with simulator() as ask:
        chunks = chunks_of(await ask(question(stream=True)))
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


async def test_a_tool_is_called_and_its_result_is_quoted():
    offered = question("What is the weather in Bern?", tools=[WEATHER])
    async with simulator() as ask:
        whole = await ask(offered)
        streamed = chunks_of(await ask(offered | {"stream": True}))
        (call,) = whole.json["choices"][0]["message"]["tool_calls"]
        history = [
            *offered["messages"],
            whole.json["choices"][0]["message"],
            {"role": "tool", "tool_call_id": call["id"], "content": "12 degrees"},
        ]
        answer = await ask(offered | {"messages": history})
    (choice,) = whole.json["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert (call["type"], call["function"]) == ("function", {"name": "get_weather", "arguments": '{"city":"Bern"}'})
    role, name, *pieces, finish = (chunk["choices"][0] for chunk in streamed)
    assert (role["delta"]["role"], role["delta"]["content"]) == ("assistant", None)
    (first,) = name["delta"]["tool_calls"]
    assert (first["index"], first["type"], first["function"]) == (
        0,
        "function",
        {"name": "get_weather", "arguments": ""},
    )
    assert first["id"].startswith("call_")
    parts = [piece["delta"]["tool_calls"][0] for piece in pieces]
    assert len(parts) > 3
    assert all(set(part) == {"index", "function"} and set(part["function"]) == {"arguments"} for part in parts)
    assert "".join(part["function"]["arguments"] for part in parts) == '{"city":"Bern"}'
    assert finish["finish_reason"] == "tool_calls"
    assert "12 degrees" in answer.json["choices"][0]["message"]["content"]


async def test_several_choices_are_counted_and_go_on_together():
    async with simulator() as ask:
        one = await ask(question())
        whole = await ask(question(n=3))
        chunks = chunks_of(await ask(question(n=2, stream=True, max_tokens=4)))
    assert [choice["index"] for choice in whole.json["choices"]] == [0, 1, 2]
    tokens = one.json["usage"]["completion_tokens"]
    assert whole.json["usage"]["completion_tokens"] == 3 * tokens
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [0, 1] * (len(chunks) // 2)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == ["length", "length"]


def test_several_choices_go_on_at_the_pace_of_one() -> None:
    reply = Reply(text="One two three.", prompt_tokens=1, completion_tokens=4)

    def pieces(**fields: object) -> list[bytes]:
        return list(completion.answer(completion.parse(json.dumps(question(**fields)).encode()), reply).as_events())

    assert len(pieces(n=4)) == len(pieces(n=1))
    assert pieces(n=4)[1].count(b"One ") == 4
    called = msgspec.structs.replace(reply, text="", tool_calls=(ToolCall("f", "{}"),))
    ids = re.findall(
        rb"call_\w+",
        b"".join(completion.answer(completion.parse(json.dumps(question(n=3)).encode()), called).as_events()),
    )
    assert len(set(ids)) == 3


async def test_a_tool_that_was_named_is_called_without_a_decision_of_the_model_s():
    async with simulator() as ask:
        named = {"type": "function", "function": {"name": "get_weather"}}
        forced = await ask(question(tools=[WEATHER], tool_choice=named))
        required = await ask(question(tools=[WEATHER], tool_choice="required"))
    (choice,) = forced.json["choices"]
    assert (choice["finish_reason"], len(choice["message"]["tool_calls"])) == ("stop", 1)
    assert required.json["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_token_limit_cuts_the_answer_and_says_so():
    async with simulator() as ask:
        answer = await ask(question(max_tokens=5))
        stream = await ask(question(max_tokens=5, stream=True))
    assert answer.json["choices"][0]["finish_reason"] == "length"
    assert answer.json["usage"]["completion_tokens"] == 5
    assert chunks_of(stream)[-1]["choices"][0]["finish_reason"] == "length"


async def test_the_first_words_arrive_long_before_the_last():
    """With most of a minute between two chunks, the first one is there at once."""
    async with simulator(tokens_per_second=0.02) as ask, await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
        await client.send_all(request_bytes(question(stream=True)))
        received = b""
        with trio.fail_after(10):
            while b'"role":"assistant"' not in received:
                received += await client.receive_some()
    assert b"[DONE]" not in received


async def test_health():
    async with simulator() as ask:
        answer = await ask(path="/health", method="GET")
    async with simulator(rai=True) as ask:
        existing = await ask(path="/health", method="GET")
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    assert existing.json == {"status": "healthy"}


async def test_the_models_that_stand_for_errors():
    async with simulator() as ask:
        quota = await ask(question(model="simulate-quota"))
        unknown = await ask(question(model="simulate-unknown", stream=True))
    assert (quota.status, quota.error["type"], quota.error["code"]) == (429, "insufficient_quota", "insufficient_quota")
    assert (unknown.status, unknown.error["type"], unknown.error["code"]) == (
        404,
        "invalid_request_error",
        "model_not_found",
    )


async def test_with_a_required_key_no_other_is_let_in():
    async with simulator(require_key="sk-é") as ask:
        refused = [
            await ask(question()),
            await ask(question(), Authorization="Bearer sk-other"),
            await ask(question(), Authorization="Bearer "),
            await ask(question(), Authorization="Basic sk-é".encode().decode("latin-1")),
        ]
        accepted = await ask(question(), Authorization="Bearer sk-é".encode().decode("latin-1"))
        health = await ask(path="/health", method="GET")
    assert [(answer.status, answer.error["code"]) for answer in refused] == [(401, "invalid_api_key")] * 4
    assert all("sk-" not in answer.error["message"] for answer in refused)
    assert (accepted.status, health.status) == (200, 200)


async def test_the_key_comes_in_the_header_of_each_api():
    azure = "/openai/deployments/mine/chat/completions?api-version=2024-10-21"
    async with simulator(require_key="right") as ask:
        answers = [
            await ask(question(), path=azure, **{"api-key": "right"}),
            await ask(question(), path=azure, Authorization="Bearer right"),
            await ask(path="/v1/models", method="GET", **{"x-api-key": "right", "anthropic-version": "2023-06-01"}),
            await ask(question(), path=azure, **{"api-key": "wrong"}),
            await ask(question(), path=azure, **{"x-api-key": "right"}),
            await ask(question(), **{"api-key": "right"}),
            await ask({"input": "Hello", "model": "any"}, path="/v1/embeddings"),
            await ask(b"", path="/test_completion"),
            await ask(path="/v1/models", method="GET", **{"x-api-key": "right"}),
        ]
    assert [answer.status for answer in answers] == [200] * 3 + [401] * 6
    assert "api-key: KEY" in answers[4].error["message"]


async def test_wrong_paths_and_methods_have_the_envelope_too():
    async with simulator() as ask:
        unknown = await ask(question(), path="/v1/nothing")
        slash = await ask(question(), path=COMPLETIONS + "/")
        nameless = await ask(method="GET", path="/v1/models/")
        proxied = await ask(method="GET", path="http://upstream.example/health")
        elsewhere = await ask(method="GET", path="http://upstream.example")
        method = await ask(method="GET")
    assert (unknown.status, unknown.error["message"]) == (404, "Invalid URL (POST /v1/nothing).")
    assert (slash.status, nameless.status) == (404, 404)
    assert (proxied.status, elsewhere.error["message"]) == (200, "Invalid URL (GET /).")
    assert (method.status, method.error["code"], method.headers["allow"]) == (405, "method_not_supported", "POST")


@pytest.mark.parametrize(("body", "param"), [(b"{", None), (b"[]", None), (b'{"model": "any"}', "messages")])
async def test_a_bad_request_is_answered_and_the_next_one_is_served(body, param):
    async with simulator() as ask:
        answer = await ask(body)
        assert (await ask(question())).status == 200
    assert (answer.status, answer.error["type"], answer.error["param"]) == (400, "invalid_request_error", param)


async def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_read():
    async with simulator() as ask:
        over = await ask(b" " * (MAX_BODY_BYTES + 1))
        at = await ask(json.dumps(question()).encode().ljust(MAX_BODY_BYTES))
    assert over.status == 413
    assert str(MAX_BODY_BYTES) in over.error["message"]
    assert at.status == 200
