"""``vastar-runtime chat`` with questions from a pipe: what is asked, said, kept and counted, and how it ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chat_stories import DONE, USAGE, endless, event, failing, in_turn, messages_of, saying, streaming, text
from click.testing import Result
from command_line import run
from scripted_daemon import Script, ScriptedDaemon, socket_path

from connector_sdk.openai import AsyncConversation, AsyncOpenAIConnector, RetryClock, UsageTracker
from vastar_runtime.cli import chat_input
from vastar_runtime.cli.chat_commands import ChatCommands, Said, kind_of, question_of
from vastar_runtime.cli.chat_session import ChatSession
from vastar_runtime.cli.exit_codes import ExitCode

__all__ = ["socket_path"]

KEY = "sk-4f9a8b7c6d5e"
TOLD = event(choices=[], model="gpt-4o-mini-2024-07-18", usage=USAGE)

Ask = Callable[..., Result]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("VASTAR_", "OPENAI_", "AZURE_")) or name in ("USE_SIMULATOR", "SIMULATOR_URL"):
            monkeypatch.delenv(name)


@contextmanager
def daemon(path: str, script: Script) -> Iterator[tuple[ScriptedDaemon, Ask]]:
    def ask(*lines: str | bytes, options: tuple[str, ...] = (), **environ: str) -> Result:
        data = b"".join(line if isinstance(line, bytes) else line.encode() + b"\n" for line in lines)
        return run("chat", "--socket", path, *options, data=data, environ={"VASTAR_CONFIG": os.devnull, **environ})

    with ScriptedDaemon(script, path) as scripted:
        yield scripted, ask


def _body(scripted: ScriptedDaemon) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(scripted.payloads[-1]["body"])
    return body


def test_each_line_is_a_question_with_all_that_was_said(socket_path: str) -> None:
    script = in_turn(streaming(text("Hel"), text("lö\x1b[0m"), TOLD, DONE), streaming(text("Fine."), DONE))
    with daemon(socket_path, script) as (scripted, ask):
        done = ask("Hi", "  ", "//etc?", "exit", "never asked", options=("--system", "Be brief.", "--tenant", "t"))
        assert (done.exit_code, done.stdout) == (0, "Hellö\x1b[0m\nFine.\n")
        assert done.stderr.splitlines()[0] == (
            "gpt-4o-mini: 1 request (1 of unknown usage), 0 prompt tokens, 0 completion tokens, cost unknown (no price)"
        )
        assert "gpt-4o-mini-2024-07-18: 1 request, 10 prompt tokens, 2 completion tokens" in done.stderr
        assert [(m["role"], m["content"]) for m in messages_of(scripted.requests[-1])] == [
            ("system", "Be brief."),
            ("user", "Hi"),
            ("assistant", "Hellö\x1b[0m"),
            ("user", "/etc?"),
        ]
        assert (_body(scripted)["model"], scripted.requests[-1].tenant_id) == ("gpt-4o-mini", "t")
        assert scripted.payloads[-1]["url"] == "http://localhost:4545/v1/chat/completions"
        assert "Authorization" not in scripted.payloads[-1]["headers"]


@pytest.mark.parametrize(
    ("options", "environ", "url", "model", "key"),
    [
        ((), {"OPENAI_API_KEY": KEY, "OPENAI_MODEL": "m"}, "https://api.openai.com/v1/chat/completions", "m", KEY),
        (("--base-url=http://h/v1", "--model=n"), {"OPENAI_API_KEY": KEY}, "http://h/v1/chat/completions", "n", KEY),
        (("--base-url", "http://h"), {"USE_SIMULATOR": "true"}, "http://h/v1/chat/completions", "gpt-4o-mini", None),
        ((), {"OPENAI_BASE_URL": "http://h"}, "http://h/v1/chat/completions", "gpt-4o-mini", None),
    ],
)  # fmt: skip
def test_where_it_asks_and_with_which_key(
    socket_path: str, options: tuple[str, ...], environ: dict[str, str], url: str, model: str, key: str | None
) -> None:
    with daemon(socket_path, saying("a")) as (scripted, ask):
        assert ask(b"Hi", options=options, **environ).stdout == "a\n"
        headers = scripted.payloads[-1]["headers"]
        assert (scripted.payloads[-1]["url"], _body(scripted)["model"]) == (url, model)
        assert headers.get("Authorization") == (None if key is None else f"Bearer {key}")


def test_an_answer_that_fails_is_a_line_and_the_conversation_goes_on(socket_path: str) -> None:
    script = in_turn(failing(401), streaming(text("half"), event(error={"message": "out of luck"})), saying("whole"))
    with daemon(socket_path, script) as (scripted, ask):
        done = ask("one", "two", b"\xff\n", "/sav x", "/load", "/load /none", "three")
        assert done.stdout == "half\nwhole\n"
        assert done.stderr.splitlines()[:6] == [
            "Error: status 401",
            "Error: out of luck",
            "Error: the line is no question: it is not UTF-8",
            "Error: there is no command /sav; did you mean /save? (a question that begins with / is written //)",
            "Error: it is written /load FILE",
            "Error: cannot read the conversation /none: No such file or directory",
        ]
        assert done.exit_code == 12, "of the first that failed"
        for line, exit_code in (("/sav x", 2), ("/load", 2), ("/load /none", 15), ("/save /none/talk", 23)):
            assert ask(line).exit_code == exit_code, line
        assert [m["content"] for m in messages_of(scripted.requests[-1])] == ["two", "half", "three"]


def test_a_line_that_is_too_long_is_passed_over(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_input, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(chat_input, "_READ_BYTES", 7)
    with daemon(socket_path, saying("a")) as (scripted, ask):
        done = ask("x" * 300, "y" * 100, "z" * 99 + "\r", b"w" * 101)
        assert (done.exit_code, len(scripted.requests)) == (15, 2)
        assert done.stderr.count("Error: the line is no question: it has more than 100 bytes") == 2


def test_commands_change_what_is_asked(socket_path: str, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    with daemon(socket_path, saying("a", usage=USAGE)) as (scripted, ask):
        done = ask(
            "/model m", "/system Be kind.", "Hi", f"/save {path}", "/reset", "/usage", "/system", "/model", "/help"
        )
        assert done.exit_code == 0
        assert done.stdout.startswith(
            f"Model: m\nSystem message: Be kind.\na\nSaved to {path}\nForgotten\n"
            "m: 1 request, 10 prompt tokens, 2 completion tokens, cost unknown (no price)\n"
            "System message: Be kind.\nModel: m\n/save FILE"
        )
        assert ask(f"/load {path}", "And?").stdout == "3 messages; m answers\na\n"
        assert [m["content"] for m in messages_of(scripted.requests[-1])] == ["Be kind.", "Hi", "a", "And?"]
        assert ask("/usage").stdout == "No usage yet\n"


def test_what_was_said_is_kept_within_a_budget(socket_path: str) -> None:
    with daemon(socket_path, saying("a" * 30)) as (scripted, ask):
        done = ask("b" * 30, "c" * 30, "d" * 30, "e" * 300, options=("--max-history-tokens", "60"))
        assert [m["content"][0] for m in messages_of(scripted.requests[-1])] == ["c", "a", "d"]
        assert "exceeds max_history_tokens of 60" in done.stderr
        assert done.exit_code == 15


def test_the_cost_is_by_the_prices_of_the_daemon(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "runtime.toml"
    file.write_text(
        "[usage]\ncurrency = 'EUR'\n"
        "[[price]]\nmodel = '*'\norigin = 'https://elsewhere'\nprompt_per_million = 1000.0\n"
        "[[price]]\nmodel = 'gpt-4o-mini*'\norigin = 'http://h:8080'\nprompt_per_million = 0.1\n"
        "completion_per_million = 0.5\n"
    )
    with daemon(socket_path, streaming(text("a"), TOLD, DONE)) as (_, ask):
        options = ("--config", str(file), "--base-url", "http://u:p@H:8080/v1")
        assert "cost 0.000002 EUR\n" in ask("Hi", options=options).stderr
        assert "cost unknown (no price)\n" in ask("Hi", options=("--config", str(file))).stderr
        nowhere = ("--config", str(file), "--base-url", "http://[h")
        assert "cost unknown (no price)\n" in ask("Hi", options=nowhere).stderr
        file.write_text("[[price]]\nmodel = '*'\nprompt_per_million = '0.1'\n[policy]\nx = 1\n")
        said = ask("Hi", options=("--config", str(file))).stderr
        assert said.startswith(f"Costs may be unknown: {file}:3: [[price]] number 1: prompt_per_million"), said
        assert ask("Hi", options=("--config", f"{file}.gone")).stderr.startswith("Costs may be unknown: ")


def test_ctrl_c_in_a_pipe_ends_all_of_it(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is there to ask on; what came is written."""
    write = ChatSession._write

    def interrupted_at_the_first_word(session: ChatSession, text: str) -> None:
        write(session, text)
        if text == "one":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ChatSession, "_write", interrupted_at_the_first_word)
    with daemon(socket_path, endless(text("one"))) as (scripted, ask):
        done = ask("Hi", "never asked")
        assert (done.exit_code, done.stdout, len(scripted.requests)) == (130, "one\n", 1)


def test_a_daemon_that_is_not_running_is_a_line(socket_path: str) -> None:
    done = run("chat", "--socket", socket_path, data=b"Hi\n", environ={"VASTAR_CONFIG": os.devnull})
    assert done.exit_code == 3
    assert done.output == (
        f"Error: no daemon answers at socket {socket_path} (No such file or directory); "
        "start it with `vastar-runtime start`\n"
    )


@pytest.mark.parametrize(
    ("options", "environ", "said"),
    [
        (
            (),
            {"OPENAI_API_KEY": "sk-proj-xxxxxxxxxxxxxxxxxxxx"},
            "OPENAI_API_KEY still holds the example's placeholder",
        ),
        ((), {"USE_SIMULATOR": "maybe"}, "USE_SIMULATOR: 'maybe'"),
        (("--model", ""), {}, "model: ''"),
        (("--max-history-tokens", "0"), {}, "--max-history-tokens"),
        (("--system", "a\udcff"), {}, "Invalid value for '--system': it is not UTF-8"),
        (("--model", "a\udcff"), {}, "Invalid value for '--model': it is not UTF-8"),
        (("--base-url", "http://\udcff"), {}, "Invalid value for '--base-url': it is not UTF-8"),
        (("--tenant", "\udcff"), {}, "Invalid value for '--tenant': it is not UTF-8"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_asked(
    socket_path: str, options: tuple[str, ...], environ: dict[str, str], said: str
) -> None:
    done = run("chat", "--socket", socket_path, *options, environ={"VASTAR_CONFIG": os.devnull, **environ})
    assert done.exit_code == (15 if environ else 2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("", Said.NOTHING),
        (" \t", Said.NOTHING),
        ("exit", Said.END),
        ("/exit", Said.END),
        ("EXIT ", Said.END),
        ("quit", Said.END),
        ("exit?", Said.QUESTION),
        ("//exit", Said.QUESTION),
        ("//quit", Said.QUESTION),
        ("/help", Said.COMMAND),
        ("/", Said.COMMAND),
        ("//", Said.QUESTION),
        ("a/b", Said.QUESTION),
    ],
)
def test_what_a_line_is(line: str, kind: Said) -> None:
    assert kind_of(line) is kind
    if kind is Said.QUESTION:
        assert question_of(line) == line.strip().removeprefix("/")


def test_a_file_whose_calls_of_tools_are_none_is_a_line_and_the_conversation_goes_on(
    socket_path: str, tmp_path: Path
) -> None:
    path = tmp_path / "talk.json"
    path.write_text('{"version": 1, "messages": [{"role": "assistant", "content": "x", "tool_calls": 5}]}')
    with daemon(socket_path, saying("a")) as (_, ask):
        done = ask(f"/load {path}", "Hi")
        assert (done.exit_code, done.stdout) == (15, "a\n")
        assert done.stderr.startswith(f"Error: {path}: message 1: a message cannot be used: its tool_calls are no list")


def test_a_long_wait_is_told_and_a_short_one_is_not(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s = []

    async def sleep(_clock: RetryClock, seconds: float) -> None:
        slept_s.append(seconds)

    monkeypatch.setattr(RetryClock, "sleep_async", sleep)
    script = in_turn(failing(503, retry_after="1.5"), failing(429, retry_after="20"), saying("a"))
    with daemon(socket_path, script) as (_, ask):
        done = ask("Hi")
        assert (done.exit_code, done.stdout, slept_s) == (0, "a\n", [1.5, 20])
        assert done.stderr.splitlines()[0] == "Asking again in 20 s: status 429"


def test_a_reader_that_has_gone_ends_the_conversation_without_a_word(
    socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_session: ChatSession, _text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(ChatSession, "_write", broken)
    with daemon(socket_path, saying("a")) as (scripted, ask):
        done = ask("Hi", "never asked")
        assert (done.exit_code, done.output, len(scripted.requests)) == (ExitCode.NOT_WRITTEN, "", 1)


def test_a_deployment_without_the_name_of_a_model() -> None:
    connector = AsyncOpenAIConnector.azure(endpoint="https://r", deployment="d")
    commands = ChatCommands(AsyncConversation(connector), UsageTracker(), connector.model)
    assert commands.run("/model") == "Model: the deployment's model"


def test_a_variable_that_cannot_be_used_is_a_mistake_of_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("chat", environ={"VASTAR_TIMEOUT": "abc", "VASTAR_CONFIG": os.devnull})
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: VASTAR_TIMEOUT: 'abc' cannot be used")
