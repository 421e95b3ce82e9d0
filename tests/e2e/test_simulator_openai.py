"""A simulator in a process of its own, as a user runs it; what it answers the packages is in test_packages_*.py."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import openai
import pytest

COMMAND = [sys.executable, "-m", "vastar_runtime", "simulator"]
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
        [*COMMAND, "--port", "0", "--tokens-per-second", "0", "--ready-fd", str(writer), *options],
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


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_while_it_streams_without_a_word(stop):
    with (
        simulator("--tokens-per-second", "0.02", "--require-key", "sk-right") as running,
        running.client("sk-right") as client,
        running.client("sk-wrong") as stranger,
        client.chat.completions.create(model="any", messages=HELLO, stream=True) as stream,
    ):
        next(stream)
        with pytest.raises(openai.AuthenticationError):
            stranger.chat.completions.create(model="any", messages=HELLO)
        running.process.send_signal(stop)
        output, errors = running.process.communicate(timeout=10)
    assert (running.process.returncode, errors) == (0, "")
    assert output == f"Simulator listening on {running.url} (Ctrl-C stops it)\n"


def test_a_taken_port_is_one_line_and_exit_1():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
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
