"""The demo, as a newcomer runs it; wherever it is cut off, nothing of it is left."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from command_place import Place, place, processes_in_session, read_until

KEY = "sk-demo-0123456789-wxyz"


@pytest.fixture
def runtime() -> Iterator[Place]:
    with place() as opened:
        yield opened


def begin_demo(runtime: Place, **environ: str) -> "subprocess.Popen[str]":
    return runtime.begin("demo", TMPDIR=str(runtime.directory), **environ)


def assert_nothing_is_left(runtime: Place, demo: "subprocess.Popen[str]") -> None:
    assert processes_in_session(demo.pid) == []
    assert list(runtime.directory.iterdir()) == []


@contextmanager
def api(runtime: Place, *options: str) -> Iterator[str]:
    """A server that asks for KEY; its base URL."""
    server = runtime.begin("simulator", "--port", "0", "--tokens-per-second", "0", "--require-key", KEY)
    yield read_until(server.stdout, "listening").split()[3] + "/v1"
    server.terminate()
    server.wait(50)


def test_three_examples_with_question_answer_and_time(runtime: Place) -> None:
    # A proxy, a daemon and a state directory of the user's are none of the demo's business.
    others = {"STATE_DIRECTORY": str(runtime.directory / "state"), "VASTAR_USE_TCP": "x"}
    demo = begin_demo(runtime, HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9", **others)
    out, err = demo.communicate(timeout=50)
    assert (demo.returncode, err) == (0, "")
    assert re.findall(r"^\d\. .*", out, re.MULTILINE) == [
        "1. Streaming",
        "2. Non-streaming",
        "3. Conversation with history",
    ]
    answers = re.findall(r"^   Answer:   (\S.*(?:\n|\n {13}.*)*?)\n   Time: +\d+\.\d\d s$", out, re.MULTILINE)
    assert len(re.findall(r"^   Question: \S", out, re.MULTILINE)) == len(answers) == 4
    # The simulator counts what it was sent before the last question.
    assert answers[3].startswith("I have read the 2 earlier messages here.")
    assert out.endswith(" s, with start and stop.\n")
    assert_nothing_is_left(runtime, demo)


def test_with_a_key_the_api_is_asked_and_the_key_is_not_shown(runtime: Place) -> None:
    with api(runtime) as base_url:
        demo = begin_demo(runtime, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=base_url, OPENAI_MODEL="some-model")
        out, err = demo.communicate(timeout=50)
    assert (demo.returncode, err) == (0, "")
    assert f"   Upstream: {base_url}, model some-model, key sk-…wxyz\n" in out
    assert KEY not in out
    assert_nothing_is_left(runtime, demo)


def test_a_refused_key_is_one_line_and_the_log(runtime: Place) -> None:
    wrong = KEY.replace("demo", "oops")
    with api(runtime) as base_url:
        demo = begin_demo(runtime, OPENAI_API_KEY=wrong, OPENAI_BASE_URL=base_url)
        out, err = demo.communicate(timeout=50)
    assert demo.returncode == 1
    [message] = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert "key" in message
    assert "The daemon's log ends with:\n" in err
    assert "/v1/chat/completions" in err
    assert wrong not in out + err
    assert "2. Non-streaming" not in out
    assert_nothing_is_left(runtime, demo)


def test_an_api_that_cannot_be_reached_is_one_line_and_the_log(runtime: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    demo = begin_demo(runtime, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1")
    _, err = demo.communicate(timeout=50)
    assert demo.returncode == 1
    [message] = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert f"127.0.0.1:{port}" in message
    assert "Traceback" not in err
    assert_nothing_is_left(runtime, demo)


@pytest.mark.unmeasured
def test_ctrl_c_in_the_middle_of_an_answer_leaves_nothing(runtime: Place) -> None:
    demo = begin_demo(runtime)
    read_until(demo.stdout, "Question")
    os.killpg(demo.pid, signal.SIGINT)
    _, err = demo.communicate(timeout=50)
    assert (demo.returncode, err) == (130, "\nInterrupted\n")
    assert_nothing_is_left(runtime, demo)


@pytest.mark.unmeasured
def test_a_demo_that_is_terminated_leaves_nothing(runtime: Place) -> None:
    demo = begin_demo(runtime)
    read_until(demo.stdout, "Question")
    demo.terminate()
    _, err = demo.communicate(timeout=50)
    assert (demo.returncode, err) == (128 + signal.SIGTERM, "")
    assert_nothing_is_left(runtime, demo)
