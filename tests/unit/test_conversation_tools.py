"""Conversations in which the model calls tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chat_stories import (
    DONE,
    Chats,
    chats,
    endless,
    event,
    in_turn,
    messages_of,
    roles,
    saying,
    streaming,
    text,
)
from scripted_daemon import ScriptedDaemon, http_of, socket_path

from connector_sdk import ConnectorException
from connector_sdk.openai import Message

__all__ = ["chats", "socket_path"]

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "4"}


@pytest.mark.parametrize("is_stream", [True, False])
def test_tools_are_called_and_their_results_answered(chats: Chats, socket_path: str, is_stream: bool) -> None:
    parts = [{"index": 0, **CALL, "function": {"name": "add", "arguments": ""}}]
    parts += [{"index": 0, "function": {"arguments": part}} for part in ('{"a"', ": 2}")]
    pieces = [event(choices=[{"delta": {"tool_calls": [part]}}]) for part in parts]
    calling = streaming(*pieces, event(choices=[{"delta": {}, "finish_reason": "tool_calls"}]), DONE)
    answer = calling if is_stream else saying(None, message={"tool_calls": [CALL]})
    with ScriptedDaemon(in_turn(answer, saying("Four.")), socket_path) as daemon:
        connector = chats.connector(model="m")
        conversation = chats.conversation(connector, extra={"tools": [{"type": "function"}]})
        assert (chats.ask(conversation, "2+2?") if is_stream else [chats.ask_whole(conversation, "2+2?")]) in ([], [""])
        assert conversation.messages[-1]["tool_calls"] == [CALL]
        for question in ("And now?", None):
            with pytest.raises(ConnectorException, match=r"calls tools whose results are missing \(c1\)"):
                chats.ask(conversation, question)
        conversation.add(RESULT)
        assert chats.ask_whole(conversation) == "Four."
        assert messages_of(daemon.requests[-1])[1:] == [
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            RESULT,
        ]
        assert json.loads(http_of(daemon.requests[-1])["body"])["tools"] == [{"type": "function"}]
        assert roles(conversation.messages) == ["user", "assistant", "tool", "assistant"]
        daemon.script = endless(text("Wait") + pieces[0])
        assert chats.ask(conversation, "Again?", most=1) == ["Wait"]
        assert conversation.messages[-1] == Message("assistant", "Wait")
        chats.close(connector)


def test_a_call_of_a_tool_that_came_whole_needs_no_finish_reason(chats: Chats, socket_path: str) -> None:
    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [CALL]}}]})

    def calling(peer: Any, request: Any) -> None:
        peer.answer(request, headers={"content-type": "application/json"}, body=body)

    with ScriptedDaemon(calling, socket_path):
        connector = chats.connector(model="m")
        for ask in (chats.ask, chats.ask_whole):
            conversation = chats.conversation(connector)
            ask(conversation, "2+2?")
            assert conversation.messages[-1] == {"role": "assistant", "content": None, "tool_calls": [CALL]}
        chats.close(connector)


def test_halves_of_characters_in_calls_of_tools_are_replaced(chats: Chats, socket_path: str, tmp_path: Path) -> None:
    parts = (
        {"id": "c\ud800", "function": {"name": "f\udc00", "arguments": "\ud83d"}},
        {"function": {"arguments": "\ude00\ud83d"}},
    )
    pieces = [event(choices=[{"delta": {"tool_calls": [{"index": 0, **part}]}}]) for part in parts]
    end = event(choices=[{"delta": {}, "finish_reason": "tool_calls"}])
    with ScriptedDaemon(in_turn(streaming(*pieces, end, DONE), saying("Done.")), socket_path):
        connector = chats.connector(model="m")
        conversation = chats.conversation(connector)
        chats.ask(conversation, "?")
        (call,) = conversation.messages[-1]["tool_calls"]
        assert call == {
            "id": "c\ufffd",
            "type": "function",
            "function": {"name": "f\ufffd", "arguments": "\N{GRINNING FACE}\ufffd"},
        }
        conversation.add({"role": "tool", "tool_call_id": call["id"], "content": "4"})
        assert chats.ask_whole(conversation) == "Done."
        conversation.save(tmp_path / "talk.json")
        chats.close(connector)
