"""What of a conversation fits into a budget of tokens: the oldest turns go, whole; the rest is as it was."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from chat_stories import roles
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk import ConnectorException, ErrorClass
from connector_sdk.chat_history import TOKENS_PER_FILE, TOKENS_PER_MESSAGE, AnyMessage, ChatHistory
from connector_sdk.openai import Message, estimated_tokens

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLING: AnyMessage = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT: AnyMessage = {"role": "tool", "tool_call_id": "c1", "content": "4"}


def _history(max_tokens: int | None, *messages: AnyMessage) -> ChatHistory:
    """Each character of a text is a token."""
    history = ChatHistory(len, max_tokens)
    history.replace(messages)
    return history


def _size(messages: list[Any]) -> int:
    return sum(len(message.content) + TOKENS_PER_MESSAGE for message in messages)


def test_without_a_budget_everything_is_sent() -> None:
    turns = [Message(role, "x" * 1000) for role in ("user", "assistant") * 50]
    assert len(_history(None, *turns).fitting(Message("user", "?")).messages) == 101


def test_the_oldest_turns_go_and_the_system_message_stays_wherever_it_stands() -> None:
    history = _history(
        40,
        Message("user", "one"),
        Message("assistant", "1"),
        Message("developer", "be brief"),
        Message("user", "two"),
        Message("assistant", "2"),
    )
    fitting = history.fitting(Message("user", "three"), Message("system", "s")).messages
    assert fitting == [
        Message("developer", "be brief"),
        Message("user", "two"),
        Message("assistant", "2"),
        Message("user", "three"),
    ]
    assert len(history.messages) == 5


def test_tools_and_their_results_go_with_the_question_that_led_to_them() -> None:
    history = _history(
        200, Message("user", "2+2?"), CALLING, RESULT, Message("assistant", "4"), Message("user", "why?")
    )
    everything = history.fitting(None).messages
    assert roles(everything) == ["user", "assistant", "tool", "assistant", "user"]
    assert roles(history.fitting(Message("user", "x" * 50)).messages) == ["user", "user"]


def test_a_turn_that_still_goes_on_is_the_last() -> None:
    """A tool's result is to be answered: neither it nor the question goes."""
    history = _history(
        300, Message("user", "x" * 290), Message("assistant", "y"), Message("user", "2+2?"), CALLING, RESULT
    )
    assert roles(history.fitting(None).messages) == ["user", "assistant", "tool"]


@pytest.mark.parametrize("system", [None, Message("system", "s" * 50)])
def test_a_question_that_alone_is_too_long(system: Message | None) -> None:
    history = _history(60, Message("user", "one"), Message("assistant", "1"))
    with pytest.raises(
        ConnectorException, match=r"the question \(\d+ tokens, about\).* exceeds max_history_tokens of 60"
    ) as e:
        history.fitting(Message("user", "x" * (57 if system is None else 10)), system)
    assert e.value.error_class is ErrorClass.INVALID_REQUEST
    assert ("the system message (54)" in str(e.value)) == (system is not None)


SAID = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text("ab", max_size=12))


@given(st.lists(SAID, max_size=12), st.integers(20, 120), st.text("q", max_size=12))
def test_whatever_was_said_what_fits_is_the_longest_end_of_whole_turns(
    said: list[Message], budget: int, question: str
) -> None:
    asked = Message("user", question)
    system = [message for message in said if message.role == "system"]
    try:
        fitting = _history(budget, *said).fitting(asked).messages
    except ConnectorException:
        assert _size([*system, asked]) > budget
        return
    assert _size(fitting) <= budget
    assert fitting[-1] == asked
    assert [m for m in fitting if isinstance(m, Message) and m.role == "system"] == system
    spoken = [message for message in [*said, asked] if message.role != "system"]
    kept = [m for m in fitting if isinstance(m, Message) and m.role != "system"]
    assert kept == spoken[len(spoken) - len(kept) :]
    if len(kept) < len(spoken):
        assert kept[0].role == "user"
        dropped = spoken[: len(spoken) - len(kept)]
        begin = max((at for at, message in enumerate(dropped) if message.role == "user"), default=0)
        assert _size([*fitting, *dropped[begin:]]) > budget


def test_what_a_message_counts() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    message = {"role": "user", "content": [{"type": "text", "text": "x" * 9}, picture]}
    room = TOKENS_PER_MESSAGE + 9 + TOKENS_PER_FILE
    assert _history(room).fitting(message).messages == [message]
    with pytest.raises(ConnectorException):
        _history(room - 1).fitting(message)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Message("robot", "x"), "its role is 'robot'; known: system, developer, user, assistant, tool"),
        (Message("user", 7), "its content is no text"),  # type: ignore[arg-type]
        ({"role": "user"}, "its content is no text"),
        ({"role": "assistant", "content": None}, "its content is no text"),
        ({"role": "tool", "content": "4"}, "without a tool_call_id"),
        ({"content": "x"}, "it has no role; known: system"),
        ({"role": functools.reduce(lambda inner, _: [inner], range(5000), []), "content": "x"}, "its role is no text"),
        *(
            (
                {"role": "assistant", "content": "x", "tool_calls": calls},
                "its tool_calls are no list of objects with ids",
            )
            for calls in (5, True, "abc", {"id": "c1"}, ["x"], [CALL, {"type": "function"}], [{"id": 7}])
        ),
    ],
)
def test_what_can_be_no_message_is_refused(message: AnyMessage, error: str) -> None:
    with pytest.raises(ConnectorException) as e:
        _history(None).append(message)
    assert error in str(e.value)


def test_what_cannot_be_copied_or_sent_is_no_message() -> None:
    deep = functools.reduce(lambda inner, _: [inner], range(5000), [])
    with pytest.raises(ConnectorException, match="nested too deeply"):
        _history(None).append({"role": "user", "content": deep})
    with pytest.raises(ConnectorException, match="it cannot be sent: Object of type object"):
        _history(100).append({"role": "user", "content": "x", "name": object()})


def test_what_is_given_and_taken_are_copies() -> None:
    content = [{"type": "text", "text": "a"}]
    history = _history(None, {"role": "user", "content": content})
    content[0]["text"] = "b"
    given = history.messages[0]
    assert isinstance(given, dict)
    given["role"] = "tool"
    assert history.messages == [{"role": "user", "content": [{"type": "text", "text": "a"}]}]


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("The quick brown fox jumps over the lazy dog. " * 20, 200, 330),  # 201 by cl100k_base
        ("def f(x):\n    return {'a': x[0] + 1}\n" * 20, 200, 300),
        ("Die Köchin süßt für fünf Gäste. " * 10, 90, 180),
        ("吾輩は猫である。名前はまだ無い。", 12, 24),
        ("\ud800", 1, 1),
    ],
)
def test_the_estimate_is_rather_too_high(text: str, least: int, most: int) -> None:
    assert least <= estimated_tokens(text) <= most
