"""``vastar-runtime request`` and what it finds: a daemon or none, variables, options, and streams that fail."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest
from command_line import run
from request_command import URL, daemon, no_variables
from scripted_daemon import ScriptedDaemon, say_hello, socket_path

from vastar_runtime import cli, config
from vastar_runtime.cli.exit_codes import MEANINGS

__all__ = ["no_variables", "socket_path"]  # the fixtures


def test_no_daemon_has_a_code_of_its_own_and_says_how_to_start_one(socket_path: str) -> None:
    done = run("request", "--socket", socket_path, URL)
    assert done.exit_code == 3
    assert done.output == (
        f"Error: no daemon answers at socket {socket_path} (No such file or directory); "
        "start it with `vastar-runtime start`\n"
    )
    told = json.loads(run("request", "--json", "-s", "--socket", socket_path, URL).output)
    assert (told["exit_code"], told["status"], told["error"]["class"]) == (3, None, "TRANSIENT")


def test_a_daemon_that_is_stopped_has_no_more_than_the_time_for_all_of_it(socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stopped:
        stopped.bind(socket_path)
        stopped.listen()
        began_at = time.monotonic()
        done = run("request", "--json", "--socket", socket_path, "-m", "0.05", URL)
        assert time.monotonic() - began_at < 2
    assert done.exit_code == 28
    assert done.stderr.startswith(f"Error: the daemon at socket {socket_path} accepted a connection and did not answer")
    assert json.loads(done.stdout)["error"]["class"] == "TIMEOUT"


def test_a_socket_that_is_the_default_one_for_want_of_a_file_is_used_and_told_when_nobody_is_there(
    socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = config.ClientSocket(socket_path, "cannot read /etc/x.toml: Permission denied")
    monkeypatch.setattr(config, "client_socket", lambda **_: found)
    with daemon(socket_path):
        assert run("request", URL).output == "hello"
    done = run("request", URL)
    assert done.exit_code == 3
    assert done.output.endswith(
        "; the default socket was asked: cannot read /etc/x.toml: Permission denied "
        "(or say where the daemon is: --socket)\n"
    )


@pytest.mark.parametrize("words", ["No space left on device", "Broken pipe"])
def test_what_cannot_be_said_on_standard_error_changes_nothing(
    socket_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    class Unwritable(io.StringIO):
        def write(self, text: str) -> int:
            raise (BrokenPipeError if words == "Broken pipe" else OSError)(words)

    file = tmp_path / "answer"
    with daemon(socket_path) as (scripted, _):
        monkeypatch.setattr(sys, "stdout", None)
        monkeypatch.setattr(sys, "stderr", Unwritable())
        with pytest.raises(SystemExit) as ended:
            cli.main(["request", "--socket", socket_path, "-v", "-d", "x=1", "-o", str(file), URL])
        assert (ended.value.code or 0, file.read_text()) == (0, "hello")
        for options in (["-o", "-"], ["--json", "-o", str(file)]):  # which need the standard output that is closed
            with pytest.raises(SystemExit) as ended:
                cli.main(["request", "--socket", socket_path, *options, URL])
            assert ended.value.code == 23
        assert len(scripted.requests) == 1


def test_a_variable_that_cannot_be_used_is_bad_usage_unless_an_option_goes_over_it(socket_path: str) -> None:
    with daemon(socket_path) as (scripted, _):
        slow = {"VASTAR_TIMEOUT": "abc", "VASTAR_SOCKET_PATH": socket_path}
        done = run("request", URL, environ=slow)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith("Error: VASTAR_TIMEOUT: 'abc' cannot be used; it takes seconds above 0")
        assert run("request", URL, environ={"VASTAR_SOCKET_PATH": "x" * 200}).exit_code == 2
        assert scripted.requests == []
        assert run("request", "-m", "1", URL, environ=slow).output == "hello"


def test_the_socket_is_found_as_the_other_commands_and_the_sdk_find_it(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "runtime.toml"
    file.write_text(f'[listen]\nsocket = "{socket_path}"\n')
    with daemon(socket_path):
        assert run("request", "--config", str(file), URL).output == "hello"
        assert run("request", URL, environ={"VASTAR_SOCKET_PATH": socket_path}).output == "hello"
    with ScriptedDaemon(say_hello, None) as tcp:
        environ = {"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": str(tcp.port)}
        assert run("request", URL, environ=environ).output == "hello"
        assert run("request", URL, environ=environ | {"VASTAR_CONFIG": "/nowhere"}).output == "hello"
        assert run("request", "--socket", socket_path, URL, environ=environ).exit_code == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--json", "-i"], "--json prints one object, which has the head in it: it goes without -i, -N and -o -"),
        (["-m", "nan"], "Invalid value for '-m' / '--timeout' / '--max-time': 'nan' is no number of seconds above 0"),
        (["-m", "0"], "Invalid value for '-m' / '--timeout' / '--max-time': '0' is no number of seconds above 0"),
        (["-H", "secret"], "Invalid value for '-H' / '--header': number 1 is no 'Name: value'"),
        (["-d", "a", "--data-raw", "b"], "--data and --data-raw cannot be used together"),
        (["-d", "@/nowhere"], "Invalid value for '--data': cannot read '/nowhere': No such file or directory"),
        (["-X", os.fsdecode(b"\xe9")], "Invalid value for '-X' / '--request': it is no UTF-8 text (byte 0xe9)"),
        (["--tenant", os.fsdecode(b"\xe9")], "Invalid value for '--tenant': it is no UTF-8 text (byte 0xe9)"),
        (["http://other"], "Got unexpected extra argument"),
        (["--insecure"], "No such option '--insecure'"),
    ],
)
def test_bad_usage_is_one_line_and_asks_nobody(options: list[str], words: str) -> None:
    done = run("request", "--socket", "/nowhere", *options, URL)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"Error: {words}")
    assert bool(done.stdout) is ("--json" in options)
    as_json = run("request", "--socket", "/nowhere", *options, "--json", URL)
    assert (as_json.exit_code, as_json.stderr) == (2, done.stderr)
    told = json.loads(as_json.stdout)
    assert (told["exit_code"], told["status"], told["error"]["class"]) == (2, None, None)
    assert told["error"]["message"].startswith(words)


def test_no_url_is_told_in_json_too_and_a_closed_output_hides_no_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads(run("request", "--json").stdout)["error"]["message"] == "Missing argument 'URL'."
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["request", "--json", "-m", "abc", URL])
    assert ended.value.code == 2
    assert "'abc' is no number of seconds above 0" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_told_before_anything_is_sent(socket_path: str, tmp_path: Path) -> None:
    with daemon(socket_path) as (scripted, ask):
        done = ask("-o", str(tmp_path))
        assert (done.exit_code, done.output) == (23, f"Error: cannot write {tmp_path}: Is a directory\n")
        assert scripted.requests == []


def test_a_pipe_without_a_reader_has_no_more_than_the_time_for_all_of_it(socket_path: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with daemon(socket_path) as (_, ask):
        done = ask("-m", "0.05", "-o", str(pipe))
    assert done.exit_code == 28
    assert done.output == f"Error: cannot write {pipe}: it is a pipe, and nobody opened it to read in time\n"


def test_the_help_has_every_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    said = run("request", "--help").output
    for code, meaning in MEANINGS.items():
        assert f"    {code:<5}{meaning}\n" in said


def test_a_url_whose_bytes_are_no_text_is_told_how_to_write_them() -> None:
    done = run("request", "--socket", "/nowhere", os.fsdecode(b"http://h/caf\xe9"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "Error: Invalid value for 'URL': it is no UTF-8 text (byte 0xe9); write it as %E9\n"
