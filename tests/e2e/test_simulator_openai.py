"""The real ``openai`` package against a simulator in a process of its own, as a user runs it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import openai
import pytest

COMMAND = [sys.executable, "-c", "from vastar_runtime.cli.simulator import simulator; simulator()"]
HELLO = [{"role": "user", "content": "Hello"}]


@dataclass
class Simulator:
    process: subprocess.Popen[str]
    url: str

    def client(self, api_key: str = "sk-test") -> openai.OpenAI:
        # Without retries: a 429 is to be seen at once.
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=api_key, max_retries=0, timeout=10)


@contextmanager
def simulator(*options: str) -> Iterator[Simulator]:
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--chunk-delay-ms", "0", "--ready-fd", str(writer), *options],
        pass_fds=[writer],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            os.close(writer)
            # Ends when the simulator closes its side: after the line, or because it died.
            with open(reader) as ready:
                yield Simulator(process, ready.read().strip())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with simulator() as running:
        yield running


def test_a_question_is_answered(running):
    with running.client() as client:
        completion = client.chat.completions.create(model="any", messages=HELLO)
    assert completion.object == "chat.completion"
    assert completion.choices[0].finish_reason == "stop"
    assert len(completion.choices[0].message.content.split()) > 40
    assert completion.usage.prompt_tokens == 1


def test_a_stream_gives_the_same_words_and_the_usage(running):
    with running.client() as client:
        whole = client.chat.completions.create(model="any", messages=HELLO)
        chunks = list(client.chat.completions.create(model="any", messages=HELLO, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_a_conversation_shows_that_its_history_arrived(running):
    history = [*HELLO, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Go on."}]
    with running.client() as client:
        completion = client.chat.completions.create(model="any", messages=history)
    assert "2 earlier messages" in completion.choices[0].message.content


def test_max_tokens_is_honoured(running):
    with running.client() as client:
        completion = client.chat.completions.create(model="any", messages=HELLO, max_tokens=7)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 7


@pytest.mark.parametrize(
    ("request_", "expected", "code", "param"),
    [
        ({"model": "simulate-quota", "messages": HELLO}, openai.RateLimitError, "insufficient_quota", None),
        ({"model": "simulate-unknown", "messages": HELLO}, openai.NotFoundError, "model_not_found", "model"),
        ({"model": "any", "messages": []}, openai.BadRequestError, None, "messages"),
        (
            {"model": "any", "messages": HELLO, "stream": True, "max_tokens": 0},
            openai.BadRequestError,
            None,
            "max_tokens",
        ),
    ],
)
def test_errors_arrive_as_the_exceptions_of_the_package(running, request_, expected, code, param):
    with running.client() as client, pytest.raises(expected) as caught:
        client.chat.completions.create(**request_)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_wrong_key_is_an_authentication_error():
    with simulator("--require-key", "sk-right") as running:
        with running.client("sk-wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model="any", messages=HELLO)
        with running.client("sk-right") as client:
            assert client.chat.completions.create(model="any", messages=HELLO).choices
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_while_it_streams_without_a_word(stop):
    with (
        simulator("--chunk-delay-ms", "60000") as running,
        running.client() as client,
        client.chat.completions.create(model="any", messages=HELLO, stream=True) as stream,
    ):
        next(stream)
        running.process.send_signal(stop)
        output, errors = running.process.communicate(timeout=10)
    assert (running.process.returncode, errors) == (0, "")
    assert output == f"Simulator listening on {running.url} (Ctrl-C stops it)\n"


def test_a_taken_port_is_one_line_and_exit_1(running):
    port = running.url.rpartition(":")[2]
    result = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, timeout=10)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: cannot listen on 127.0.0.1:{port}: address already in use; choose another with --port\n"
    )


def test_a_ready_fd_that_is_not_open_is_one_line_and_exit_1():
    result = subprocess.run([*COMMAND, "--port", "0", "--ready-fd", "200"], capture_output=True, text=True, timeout=10)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: cannot announce http://127.0.0.1:")
    assert result.stderr.count("\n") == 1


def test_an_empty_key_is_refused():
    result = subprocess.run([*COMMAND, "--port", "0", "--require-key", ""], capture_output=True, text=True, timeout=10)
    assert result.returncode == 2
    assert "Error: Invalid value for --require-key: the key is empty" in result.stderr
