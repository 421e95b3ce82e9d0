"""The official ``anthropic`` package and the simulator: every story goes the same directly and through the daemon."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterator
from typing import Any

import anthropic
import anthropic.types as message_types
import httpx2
import msgspec
import pydantic
import pytest
from daemon_process import DaemonProcess
from package_stories import (
    Suite,
    checked,
    data_of,
    failure,
    four_ways,
    got,
    items_of,
    opened,
    plain,
    plain_error,
    simulate,
    simulator_thread,
)

from connector_sdk import RuntimeConfig
from vastar_runtime.simulator import messages
from vastar_runtime.simulator.reply import Reply, ToolCall

HELLO: Any = [{"role": "user", "content": "Hello, what is a deadline?"}]
ASKED: Any = {"model": "large", "max_tokens": 1000, "messages": HELLO}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"name": "weather", "description": "How warm it is.", "input_schema": SCHEMA}
IMAGE = {"type": "image", "source": {"type": "url", "url": "http://localhost/a.png"}}
SEEN: Any = [{"role": "user", "content": [IMAGE]}]


class Place(pydantic.BaseModel):
    id: pydantic.UUID4
    network: ipaddress.IPv4Network
    name: str
    inhabitants: int


@pytest.fixture(scope="module")
def suite(running: DaemonProcess) -> Iterator[Suite]:
    config = RuntimeConfig(socket_path=running.socket_path, use_tcp=False, tenant_id="anthropic")
    with simulator_thread(require_key="sk-right", models=("large", "small")) as url, four_ways(config) as ways:
        yield Suite(
            ways,
            url,
            lambda way: (anthropic.AsyncAnthropic if way.is_async else anthropic.Anthropic)(
                base_url=url, api_key="sk-right", max_retries=0, **way.options()
            ),
        )


def test_a_message_whole_and_streamed(suite: Suite) -> None:
    async def story(client: Any) -> Any:
        asked: Any = ASKED | {"system": [{"type": "text", "text": "Be brief."}], "metadata": {"user_id": "u"}}
        whole = await got(client.messages.create(**asked))
        assert whole._request_id.startswith("req_")
        events = await items_of(await got(client.messages.create(**asked, stream=True)))
        async with opened(client.messages.stream(**asked)) as stream:
            texts = await items_of(stream.text_stream)
            final = await got(stream.get_final_message())
        count = await got(client.messages.count_tokens(model="large", messages=HELLO, system="Be brief."))
        short = await got(client.messages.create(**asked | {"max_tokens": 5}))
        stopped = await got(client.messages.create(**asked, stop_sequences=["xyz", " "]))
        return plain([whole, events, "".join(texts), final, count, short, stopped])

    whole, events, text, final, count, short, stopped = suite.told(story)
    (block,) = whole["content"]
    assert len(text.split()) > 30
    assert text == block["text"]
    assert final["content"][0]["text"] == text
    assert (final["stop_reason"], final["usage"]) == ("end_turn", whole["usage"])
    assert events[0]["message"]["usage"]["input_tokens"] == count["input_tokens"] == whole["usage"]["input_tokens"]
    assert (short["stop_reason"], short["usage"]["output_tokens"]) == ("max_tokens", 5)
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", " ")
    assert stopped["content"][0]["text"] == text.partition(" ")[0]


def test_a_tool_is_called_and_what_it_returned_is_talked_about(suite: Suite) -> None:
    async def story(client: Any) -> Any:
        called = []
        for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
            called.append(await got(client.messages.create(**ASKED, tools=[TOOL], tool_choice=choice)))
        async with opened(client.messages.stream(**ASKED, tools=[TOOL], tool_choice={"type": "any"})) as stream:
            events = await items_of(stream)
            called.append(await got(stream.get_final_message()))
        call = called[0].content[0]
        results = ["31 degrees", [{"type": "text", "text": "31 degrees"}]]
        said = []
        for content in results:
            result = {"type": "tool_result", "tool_use_id": call.id, "content": content}
            called_it = {"role": "assistant", "content": called[0].content}
            history = [*HELLO, called_it, {"role": "user", "content": [result]}]
            said.append(await got(client.messages.create(**ASKED | {"messages": history}, tools=[TOOL])))
        silent = await got(client.messages.create(**ASKED, tools=[TOOL], tool_choice={"type": "none"}))
        return plain([called, [event.type for event in events], said, silent])

    called, kinds, said, silent = suite.told(story)
    for message in called:
        (block,) = message["content"]
        assert (message["stop_reason"], block["type"], block["name"]) == ("tool_use", "tool_use", "weather")
        assert set(block["input"]) == {"city"}
    assert kinds.count("input_json") > 1
    assert said[0] == said[1]
    assert said[0]["stop_reason"] == silent["stop_reason"] == "end_turn"


def test_a_history_of_the_real_api_goes_on_with_its_thoughts_and_later_instructions(suite: Suite) -> None:
    thoughts = [
        {"type": "thinking", "thinking": "Perhaps it is warm there.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
    ]
    brief = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}

    async def story(client: Any) -> Any:
        called = await got(client.messages.create(**ASKED, tools=[TOOL], tool_choice={"type": "any"}))
        (call,) = called.content
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "31 degrees"}]}
        turns: Any = [*HELLO, {"role": "assistant", "content": [*thoughts, call]}, result]
        known: Any = {"model": "large", "tools": [TOOL], "thinking": {"type": "adaptive"}}
        said = await got(client.messages.create(**known, max_tokens=1000, messages=turns))
        turns += [{"role": "assistant", "content": said.content}, brief, *HELLO]
        last = await got(client.messages.create(**known, max_tokens=1000, messages=turns))
        counts = [
            await got(client.messages.count_tokens(model="large", messages=turns, tools=tools))
            for tools in ([], [TOOL], [TOOL | {"description": "warm " * 500}])
        ]
        return plain([said, last, counts])

    said, last, counts = suite.told(story)
    assert "31 degrees" in said["content"][0]["text"]
    assert last["stop_reason"] == "end_turn"
    without, offered, described = (count["input_tokens"] for count in counts)
    assert last["usage"]["input_tokens"] == offered > without
    assert described == offered - len(["How", "warm", "it", "is", "."]) + 500


def test_a_tool_runner_goes_on_until_the_model_has_said_something(suite: Suite) -> None:
    """It asks for a thread first, and does without when it is told that there is none."""

    def weather(city: str) -> str:
        """How warm it is."""
        return f"31 degrees in {city}"

    async def weather_later(city: str) -> str:
        """How warm it is."""
        return weather(city)

    async def story(client: Any) -> Any:
        is_async = isinstance(client, anthropic.AsyncAnthropic)
        tool = anthropic.beta_async_tool(weather_later, name="weather") if is_async else anthropic.beta_tool(weather)
        asked: Any = ASKED | {"messages": [{"role": "user", "content": "What is the weather?"}]}
        runner = client.beta.messages.tool_runner(**asked, tools=[tool])
        return plain(await items_of(runner))

    called, said = suite.told(story)
    assert (called["stop_reason"], said["stop_reason"]) == ("tool_use", "end_turn")
    assert "31 degrees in city" in said["content"][0]["text"]


def test_a_text_of_the_form_that_was_asked_for(suite: Suite) -> None:
    async def story(client: Any) -> Any:
        parsed = await got(client.messages.parse(**ASKED, output_format=Place))
        return parsed.parsed_output

    assert type(suite.told(story)) is Place


def test_the_apis_errors(suite: Suite) -> None:
    async def story(client: Any) -> Any:
        create = client.messages.create
        wrong_key = client.with_options(api_key="sk-wrong")
        busy = simulate("status=429;retry-after=7")
        return [
            await failure(lambda: create(**ASKED | {"messages": []}), anthropic.BadRequestError),
            await failure(lambda: create(**ASKED | {"messages": SEEN}), anthropic.BadRequestError),
            await failure(lambda: wrong_key.messages.create(**ASKED), anthropic.AuthenticationError),
            await failure(lambda: create(**ASKED | {"model": "unknown"}, stream=True), anthropic.NotFoundError),
            await failure(lambda: create(**ASKED, extra_headers=busy), anthropic.RateLimitError),
            await failure(lambda: create(**ASKED, extra_headers=simulate("status=500")), anthropic.InternalServerError),
            await failure(lambda: create(**ASKED, extra_headers=simulate("status=529")), anthropic.OverloadedError),
            await failure(lambda: client.beta.files.list(), anthropic.NotFoundError),
            await failure(
                lambda: client.beta.skills.list(extra_headers=simulate("status=529")), anthropic.OverloadedError
            ),
            await failure(
                lambda: create(**ASKED | {"messages": [{"role": "system", "content": "Be brief."}, *HELLO]}),
                anthropic.BadRequestError,
            ),
        ]

    errors = suite.told(story)
    assert [(error["status_code"], error["body"]["error"]["type"]) for error in errors] == [
        (400, "invalid_request_error"),
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
        (404, "not_found_error"),
        (529, "overloaded_error"),
        (400, "invalid_request_error"),
    ]
    assert "top-level 'system' parameter" in errors[9]["body"]["error"]["message"]
    assert "messages" in errors[0]["body"]["error"]["message"]
    assert "reads text, tool_use and tool_result" in errors[1]["body"]["error"]["message"]
    assert errors[4]["retry_after"] == "7"


def test_the_package_tries_again_as_long_as_it_was_told(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def at_once(client: Any, *args: Any) -> float:
        waits.append(calculated(client, *args))
        return 0

    calculated = anthropic._base_client.BaseClient._calculate_retry_timeout
    monkeypatch.setattr(anthropic._base_client.BaseClient, "_calculate_retry_timeout", at_once)

    async def story(client: Any) -> Any:
        waits.clear()
        user, other = uuid.uuid4().hex, uuid.uuid4().hex
        patient = client.with_options(max_retries=2)
        header = simulate("status=429;retry-after=7;first=2")
        found = await got(patient.messages.create(**ASKED, metadata={"user_id": user}, extra_headers=header))
        error = await failure(
            lambda: patient.with_options(max_retries=1).messages.create(
                **ASKED, metadata={"user_id": other}, extra_headers=simulate("status=529")
            ),
            anthropic.APIStatusError,
        )
        return [plain(found), error, waits[:2], len(waits), suite.seen(user), suite.seen(other)]

    found, _, named, waited, asked, failed = suite.told(story)
    assert found["content"]
    assert (named, waited, asked, failed) == ([7, 7], 3, 3, 2)


def test_a_stream_that_breaks_off_and_an_answer_that_does_not_come(suite: Suite) -> None:
    async def story(client: Any) -> Any:
        stream = await got(client.messages.create(**ASKED, stream=True, extra_headers=simulate("cut-after=5")))
        events: list[Any] = []
        with pytest.raises(httpx2.TransportError) as cut:
            await items_of(stream, events)
        hasty = client.with_options(timeout=0.1)
        late = await failure(
            lambda: hasty.messages.create(**ASKED, extra_headers=simulate("hang")), anthropic.APITimeoutError
        )
        return [plain(events), plain_error(cut.value), late]

    events, *_ = suite.told(story)
    assert events[0]["type"] == "message_start"


def test_every_message_is_of_the_packages_type_and_no_field_is_unknown() -> None:
    said = Reply(text="It is warm — 東京.", prompt_tokens=3, completion_tokens=6)
    called = msgspec.structs.replace(said, tool_calls=(ToolCall("weather", '{"city":"Bandung"}'),))
    stopped = msgspec.structs.replace(said, text="", stopped_at="It")
    for reply in (said, called, stopped, msgspec.structs.replace(said, is_cut=True)):
        answer = messages.answer(messages.parse(msgspec.json.encode(ASKED)), reply)
        checked(message_types.Message, answer.as_json())
        for event in data_of(answer.as_events()):
            if event != {"type": "ping"}:  # has no type: the package passes over it
                checked(message_types.RawMessageStreamEvent, event)
