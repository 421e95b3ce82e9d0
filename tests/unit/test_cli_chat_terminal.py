"""``vastar-runtime chat`` at a terminal, in this process: what a person types, and what is shown."""

from __future__ import annotations

import builtins
import io
import sys
from types import ModuleType
from typing import Any

import pytest

from connector_sdk.config import RuntimeConfig
from connector_sdk.errors import ConnectorException
from connector_sdk.openai import AsyncConversation, AsyncOpenAIConnector, UsageTracker
from vastar_runtime.cli.chat_input import Questions
from vastar_runtime.cli.chat_session import ChatSession
from vastar_runtime.cli.exit_codes import ExitCode


@pytest.fixture(autouse=True)
def _no_readline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "readline", ModuleType("readline"))  # which may write to the terminal of the tests


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _at_a_terminal() -> tuple[ChatSession, _Terminal]:
    connector = AsyncOpenAIConnector(model="m")
    tracker, screen = UsageTracker(), _Terminal()
    conversation = AsyncConversation(connector)
    questions = Questions(_Terminal(), screen)
    return ChatSession(conversation, connector, tracker, questions, screen, RuntimeConfig()), screen


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["a\u00a0b\u202fc\u3000d\u00ad\ue000"], "a\u00a0b\u202fc\u3000d\u00ad\ue000"),
        (["\U0001f468\u200d\U0001f469 \u0646\u200c\u0647"], "\U0001f468\u200d\U0001f469 \u0646\u200c\u0647"),
        (["a\r\nb\tc\n"], "a\nb\tc\n"),
        (["a\r", "\nb\r", "c", "\r", "\n"], "a\nb\ufffdc\n"),
        (["\x1b[2J\x9b31m\x07\x7f"], "\ufffd[2J\ufffd31m\ufffd\ufffd"),
        (["\u202eevil\u2066\u061c\u200f"], "\ufffdevil\ufffd\ufffd\ufffd"),
        (["\u2028\u2029\ud800"], "\ufffd\ufffd\ufffd"),
    ],
)
def test_a_terminal_is_shown_what_was_said_and_not_driven_by_it(pieces: list[str], shown: str) -> None:
    session, screen = _at_a_terminal()
    for piece in pieces:
        session._write(piece)
    assert screen.getvalue() == shown


def test_a_person_ends_with_a_second_ctrl_c_at_the_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["/model x", KeyboardInterrupt, " ", KeyboardInterrupt, KeyboardInterrupt, "never read"])

    def input_of(_prompt: str) -> str:
        if isinstance(line := next(typed), str):
            return line
        raise line

    monkeypatch.setattr(builtins, "input", input_of)
    session, screen = _at_a_terminal()
    assert session.run() is ExitCode.OK
    assert screen.getvalue() == (
        "m at http://localhost:4545; /help lists commands\nModel: x\n" + "\n(once more, or Ctrl-D, ends)\n" * 2 + "\n"
    )
    assert capsys.readouterr().err == ""


def test_ctrl_d_ends_what_a_person_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "input", _no_more)
    session, screen = _at_a_terminal()
    assert session.run() is ExitCode.OK
    assert screen.getvalue().endswith("/help lists commands\n\n")


def _no_more(_prompt: str) -> str:
    raise EOFError


@pytest.mark.parametrize("typed", ["a\udcff", UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")])
def test_what_is_typed_and_not_utf_8_is_no_question(monkeypatch: pytest.MonkeyPatch, typed: Any) -> None:
    def input_of(_prompt: str) -> str:
        if isinstance(typed, str):
            return typed
        raise typed

    monkeypatch.setattr(builtins, "input", input_of)
    with pytest.raises(ConnectorException, match=r"the line is no question: it is not UTF-8"):
        Questions(_Terminal(), _Terminal()).next_line()
