"""What the existing RAI endpoint simulator has: its streams, its connection test and its folder of answers."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from simulator_client import question, simulator

TEST = "/test_completion"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"messages"', b"{}", b'{"ping": 1}', b"\xff"])
async def test_a_connection_test_needs_no_body(body: bytes) -> None:
    async with simulator() as ask:
        answer = await ask(body, path=TEST)
        again = await ask(body, path=TEST)
    assert (answer.status, answer.json["object"]) == (200, "chat.completion")
    assert answer.json["choices"][0]["message"]["content"] == "The connection to the simulator works."
    assert answer.json == again.json


async def test_a_connection_test_with_a_question_is_answered_and_checked() -> None:
    async with simulator() as ask:
        assert (await ask(question(), path=TEST)).json["choices"] == (await ask(question())).json["choices"]
        refused = await ask({"messages": []}, path=TEST)
    assert refused.status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\x00", b'{"model": "simulate-quota"}', b'{"messages": []}'])
async def test_whatever_is_asked_is_streamed(body: bytes) -> None:
    async with simulator(rai=True, models=("other",)) as ask:
        answer = await ask(body)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, usage = map(json.loads, answer.events)
    assert len({chunk["id"] for chunk in [*chunks, usage]}) == len(chunks) + 1
    assert all(len(chunk["id"]) == len("chatcmpl-Ai") + 30 for chunk in chunks)
    assert {chunk["usage"] for chunk in chunks} == {None}
    assert all(set(chunk["choices"][0]["delta"]) == {"content"} for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 40


async def test_a_whole_answer_is_not_to_be_had_and_the_same_question_gets_the_same_text() -> None:
    async with simulator(rai=True) as ask:
        streams = [await ask(question("Hi", stream=stream)) for stream in (False, True)]
        fixed = await ask(question(), path=TEST)
    texts = [
        "".join(json.loads(event)["choices"][0]["delta"]["content"] for event in answer.events[:-1])
        for answer in streams
    ]
    assert texts[0] == texts[1]
    assert "connection" in fixed.json["choices"][0]["message"]["content"]


async def test_an_answer_is_the_text_of_the_folder_or_what_was_said(tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("# Jawaban\n\nSelesai.\n", encoding="utf-8")
    history = [*question("First")["messages"], {"role": "assistant", "content": "x"}, *question("Second")["messages"]]
    async with simulator(responses=str(tmp_path)) as ask:
        folder = await ask(question() | {"messages": history})
    async with simulator(echo=True) as ask:
        echo = await ask(question() | {"messages": history})
    assert folder.json["choices"][0]["message"]["content"] == "# Jawaban\n\nSelesai."
    assert echo.json["choices"][0]["message"]["content"] == "Second"


async def test_the_log_has_a_line_for_each_request_at_level_info(caplog: pytest.LogCaptureFixture) -> None:
    async with simulator() as ask:
        await ask(path="/health", method="GET")
        assert caplog.messages == []
        caplog.set_level(logging.INFO, "vastar_runtime.simulator")
        await ask(question(), path="/v1/no%0Asuch?key=secret")
        await ask(question())
    first, second = caplog.messages
    assert first.startswith("POST /v1/no%0Asuch 404 in ")
    assert second.startswith("POST /v1/chat/completions 200 in ")
