"""Conversations with both connectors: what is said stays, what was not answered is taken back."""

from __future__ import annotations

import gc
import json
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from chat_stories import (
    DONE,
    PATIENCE_S,
    Chats,
    StillClock,
    chats,
    endless,
    event,
    failing,
    in_turn,
    messages_of,
    roles,
    saying,
    streaming,
    text,
)
from scripted_daemon import ScriptedDaemon, config_for, socket_path

from connector_sdk import APIError, ConnectorException, ErrorClass
from connector_sdk.chat_state import ConversationState
from connector_sdk.openai import (
    AsyncConversation,
    AsyncOpenAIConnector,
    ChatChunk,
    ChatDelta,
    Conversation,
    Message,
    OpenAIConnector,
)

__all__ = ["chats", "socket_path"]


def _said(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


def test_each_question_goes_out_with_all_that_was_said(chats: Chats, socket_path: str) -> None:
    script = in_turn(streaming(text("Hel"), text("lo"), DONE), saying("Fine."), streaming(text("Bye")))
    with ScriptedDaemon(script, socket_path) as daemon:
        connector = chats.connector(model="big", max_tokens=7, temperature=1)
        conversation = chats.conversation(connector, "small", system="Be brief.", temperature=0)
        assert chats.ask(conversation, "Hi") == ["Hel", "lo"]
        assert chats.ask_whole(conversation, "How are you?") == "Fine."
        assert chats.ask(conversation, "Bye") == ["Bye"]
        assert messages_of(daemon.requests[-1]) == _said(
            ("system", "Be brief."),
            ("user", "Hi"),
            ("assistant", "Hello"),
            ("user", "How are you?"),
            ("assistant", "Fine."),
            ("user", "Bye"),
        )
        sent = json.loads(daemon.payloads[-1]["body"])
        assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("small", 7, 0)
        conversation.model, conversation.system = None, None
        conversation.reset()
        chats.ask(conversation, "Anew")
        sent = json.loads(daemon.payloads[-1]["body"])
        assert (sent["model"], sent["messages"]) == ("big", _said(("user", "Anew")))
        chats.close(connector)


def test_what_the_reader_cut_short_stays_and_is_cancelled(chats: Chats, socket_path: str) -> None:
    with ScriptedDaemon(endless(text("one ") + text("two") + text("three")), socket_path) as daemon:
        connector = chats.connector(model="m")
        conversation = chats.conversation(connector)
        assert chats.ask(conversation, "Count.", most=2) == ["one ", "two"]
        daemon.script = saying("four")
        assert chats.ask_whole(conversation, "Go on.") == "four"
        assert daemon.cancelled == [daemon.requests[0].request_id]
        assert [message.content for message in conversation.messages] == ["Count.", "one two", "Go on.", "four"]
        chats.close(connector)


def test_a_question_to_which_nothing_came_is_taken_back(chats: Chats, socket_path: str) -> None:
    broken = event(error={"message": "out of luck"})
    answers = (failing(401), failing(401), streaming(text("a"), broken), streaming(DONE), saying(None))
    with ScriptedDaemon(in_turn(*answers), socket_path):
        connector = chats.connector(model="m")
        conversation = chats.conversation(connector)
        for ask in (chats.ask, chats.ask_whole):
            with pytest.raises(APIError, match="status 401"):
                ask(conversation, "Lost?")
            assert conversation.messages == []
        with pytest.raises(APIError, match="out of luck"):
            chats.ask(conversation, "Said?")
        kept = [Message("user", "Said?"), Message("assistant", "a")]
        assert conversation.messages == kept
        assert (chats.ask(conversation, "Silence?"), chats.ask_whole(conversation, "Silence?")) == ([], "")
        assert conversation.messages == kept
        chats.close(connector)


def test_what_is_too_much_for_the_budget_is_forgotten(chats: Chats, socket_path: str) -> None:
    with ScriptedDaemon(saying("12345"), socket_path) as daemon:
        connector = chats.connector(model="m")
        conversation = chats.conversation(connector, max_history_tokens=60, count_tokens=len, system="s")
        for number in range(6):
            chats.ask_whole(conversation, f"question {number}")
        questions = [m["content"] for m in messages_of(daemon.requests[-1]) if m["role"] == "user"]
        assert questions == ["question 4", "question 5"]
        before = conversation.messages
        with pytest.raises(ConnectorException, match="exceeds max_history_tokens of 60"):
            chats.ask(conversation, "x" * 60)
        daemon.script = failing(401)
        with pytest.raises(APIError):
            chats.ask(conversation, "x" * 50)
        assert (conversation.messages, len(daemon.requests)) == (before, 7)
        chats.close(connector)


def test_halves_of_characters_become_whole_ones_or_are_replaced(chats: Chats, socket_path: str) -> None:
    """What was said has to be sent again, and a half cannot."""
    script = in_turn(streaming(text("a\ud83d"), text("\ude00\udc00")), saying("b"))
    with ScriptedDaemon(script, socket_path):
        connector = chats.connector(model="m")
        conversation = chats.conversation(connector)
        chats.ask(conversation, "?")
        assert conversation.messages[-1].content == "a\N{GRINNING FACE}\N{REPLACEMENT CHARACTER}"
        assert chats.ask_whole(conversation, "Go on.") == "b"
        chats.close(connector)


def test_one_answer_at_a_time(socket_path: str, tmp_path: Path) -> None:
    with (
        ScriptedDaemon(endless(text("one")), socket_path),
        OpenAIConnector(config=config_for(socket_path)) as connector,
    ):
        conversation = Conversation(connector, "m")
        texts = conversation.ask("Hi")
        assert next(texts) == "one"
        others = (
            lambda: next(conversation.ask("Hi")),
            lambda: conversation.ask("Hi", stream=False),
            conversation.reset,
            lambda: conversation.add(Message("user", "x")),
            lambda: conversation.save(tmp_path / "c"),
            lambda: conversation.load(tmp_path / "c"),
        )
        for other in others:
            with pytest.raises(ConnectorException, match="an answer of this conversation is on its way") as e:
                other()
            assert e.value.error_class is ErrorClass.INVALID_REQUEST
        texts.close()
        assert len(conversation.messages) == 2
        never_begun = conversation.ask("Hi")
        conversation.reset()
        del never_begun
        with pytest.raises(ConnectorException, match="nothing to answer"):
            conversation.ask(stream=False)
        with pytest.raises(TypeError, match="the question"):
            conversation.ask(7, stream=False)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_leave_answers_in_every_way(backend: str, socket_path: str) -> None:
    """Cancelled, dropped, closed by another task: what came stays, and the conversation goes on."""
    is_asked = threading.Event()

    def silent(peer: Any, request: Any) -> None:
        is_asked.set()

    async def main() -> None:
        async def read() -> None:
            with scope:
                async for _ in answer:
                    has_word.set()

        async with AsyncOpenAIConnector(config=config_for(socket_path)) as connector:
            conversation = AsyncConversation(connector, "m")
            for way in ("cancel", "close"):
                scope, has_word = anyio.CancelScope(), anyio.Event()
                answer = conversation.ask(way)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(read)
                    await has_word.wait()
                    with pytest.raises(anyio.BusyResourceError):
                        await anext(answer)
                    with pytest.raises(ConnectorException, match="on its way"):
                        await conversation.ask("at once", stream=False)
                    if way == "cancel":
                        scope.cancel()
                    else:
                        await answer.aclose()
                assert [text async for text in answer] == []
            async for _ in conversation.ask("drop"):
                break
            del answer
            gc.collect()
            daemon.script = silent
            async with anyio.create_task_group() as tasks:
                scope, answer = anyio.CancelScope(), conversation.ask("nothing came")
                tasks.start_soon(read)
                assert await anyio.to_thread.run_sync(is_asked.wait, PATIENCE_S)
                scope.cancel()
            daemon.script = saying("done")
            assert await conversation.ask("last", stream=False) == "done"
            questions = [m.content for m in conversation.messages if isinstance(m, Message) and m.role == "user"]
            assert questions == ["cancel", "close", "drop", "last"]
            assert len(daemon.cancelled) == 4

    with ScriptedDaemon(endless(text("one")), socket_path) as daemon:
        anyio.run(main, backend=backend)


def test_an_answer_without_end_is_given_up(chats: Chats, socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector_sdk.chat_turn.MAX_ANSWER_CHARACTERS", 1000)
    with ScriptedDaemon(endless(*[text("x" * 100)] * 50), socket_path):
        connector = chats.connector(model="m", retry_clock=StillClock())
        conversation = chats.conversation(connector)
        with pytest.raises(ConnectorException, match="more than 1,000 characters"):
            chats.ask(conversation, "?")
        assert roles(conversation.messages) == ["user", "assistant"]
        chats.close(connector)


def test_what_is_saved_goes_on_elsewhere(chats: Chats, socket_path: str, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    path.write_text("what was there before")
    with ScriptedDaemon(saying("Hellö"), socket_path) as daemon:
        connector = chats.connector(api_key="sk-secret-0123456789", model="m")
        conversation = chats.conversation(connector, "small", system="Be brief.")
        chats.ask_whole(conversation, "Hi")
        conversation.add({"role": "user", "content": [{"type": "text", "text": "and"}]})
        conversation.save(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.iterdir()) == [path]
        assert "sk-secret" not in path.read_text()
        other = chats.conversation(connector)
        other.load(path)
        assert (other.messages, other.model, other.system) == (conversation.messages, "small", "Be brief.")
        assert chats.ask_whole(other) == "Hellö"
        assert messages_of(daemon.requests[-1])[0] == {"role": "system", "content": "Be brief."}
        chats.close(connector)


def _only_plain(text: str) -> int:
    """As tokenizers that refuse their own marks."""
    if "<|" in text:
        raise ValueError("disallowed special token")
    return len(text)


def test_an_answer_that_the_tokenizer_refuses_stays_and_the_conversation_goes_on(
    chats: Chats, socket_path: str
) -> None:
    with ScriptedDaemon(in_turn(streaming(text("<|end|>")), saying("<|end|>"), saying("yes")), socket_path) as daemon:
        connector = chats.connector(model="m")
        conversation = chats.conversation(connector, max_history_tokens=1000, count_tokens=_only_plain)
        assert chats.ask(conversation, "Say it.") == ["<|end|>"]
        assert chats.ask_whole(conversation, "Again.") == "<|end|>"
        assert chats.ask_whole(conversation, "Still there?") == "yes"
        assert [message["content"] for message in messages_of(daemon.requests[-1])][1::2] == ["<|end|>"] * 2
        with pytest.raises(ValueError, match="special token"):
            chats.ask(conversation, "<|")
        conversation.reset()
        chats.close(connector)


def test_ctrl_c_while_an_answer_is_counted_loses_nothing() -> None:
    def interrupted(text: str) -> int:
        if text == "answer":
            raise KeyboardInterrupt
        return len(text)

    conversation = ConversationState(None, "m", max_history_tokens=1000, count_tokens=interrupted)
    turn = conversation._begin("question")
    turn.feed(ChatChunk(delta=ChatDelta(content="answer")))
    with pytest.raises(KeyboardInterrupt):
        turn.finish()
    assert conversation.messages == [Message("user", "question"), Message("assistant", "answer")]
    conversation.reset()


def test_a_question_that_cannot_be_asked_is_taken_back(chats: Chats, socket_path: str) -> None:
    connector = chats.connector()
    conversation = chats.conversation(connector)
    for ask in (chats.ask, chats.ask_whole):
        with pytest.raises(ConnectorException, match="model: the request names none"):
            ask(conversation, "Who?")
    conversation.reset()
    assert conversation.messages == []
    with pytest.raises(ConnectorException, match="max_history_tokens: 0 cannot be used"):
        chats.conversation(connector, max_history_tokens=0)
    chats.close(connector)
