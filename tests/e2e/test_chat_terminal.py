"""``vastar-runtime chat`` at a terminal: Ctrl-C ends the answer and nothing else, and the API sees it end."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from daemon_process import daemon, environment
from test_async_openai_daemon import chat_api

PATIENCE_S = 20
# A process that began a session of its own takes the terminal on its standard input as the session's.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, "
    "[sys.executable, '-m', 'vastar_runtime', *sys.argv[1:]])"
)
# What readline switches on and off around each line.
BRACKETED_PASTE = re.compile(r"\x1b\[\?2004[hl]\r?")


class Person:
    """Somebody who types, and waits for what is written."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._seen = ""

    def types(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def sees(self, text: str) -> str:
        """All that was written up to this text, which has to come."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self._seen:
            left_s = deadline - time.monotonic()
            assert select.select([self._terminal], [], [], max(0, left_s))[0], f"{text!r} is not in {self._seen!r}"
            try:
                data = os.read(self._terminal, 4096)
            except OSError:  # nobody is left at the other end
                data = b""
            assert data, f"{text!r} is not in {self._seen!r}"
            self._seen = BRACKETED_PASTE.sub("", self._seen + data.decode())
        before, _, self._seen = self._seen.partition(text)
        return before + text


@contextmanager
def chatting(*options: str) -> Iterator[tuple[subprocess.Popen[bytes], Person]]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, "chat", *options],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=environment(TERM="dumb"),
    )
    os.close(theirs)
    with process:
        try:
            yield process, Person(ours)
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.unmeasured
def test_ctrl_c_ends_the_answer_and_nothing_else() -> None:
    with (
        daemon() as running,
        chat_api() as (api, url),
        chatting("--socket", running.socket_path, "--base-url", url, "--model", "m") as (process, person),
    ):
        assert f"m at {url}; /help lists commands" in person.sees("> ")
        person.types("Hello\n")
        assert person.sees("> ") == "Hello\r\nword\r\n> "
        person.types("/model endless\n")
        person.sees("Model: endless\r\n> ")
        person.types("On and on\n")
        person.sees("word")
        person.types("\x03")
        assert "(the answer was cancelled)" in person.sees("> ")
        assert api.is_gone.wait(PATIENCE_S)
        person.types("/model m\n")
        person.sees("> ")
        person.types("Again\n")
        assert person.sees("> ") == "Again\r\nword\r\n> "
        person.types("half a que\x03")
        person.sees("(once more, or Ctrl-D, ends)\r\n> ")
        person.types("\n")
        person.sees("> ")
        person.types("\x03")
        person.sees("(once more, or Ctrl-D, ends)\r\n> ")
        person.types("\x03")
        person.sees("m: 2 requests (2 of unknown usage)")
        person.sees("total: 3 requests")
        assert process.wait(PATIENCE_S) == 0
