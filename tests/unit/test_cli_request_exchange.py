"""``vastar-runtime request`` against a daemon that does what a story tells it to."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result
from command_line import run
from scripted_daemon import Peer, Script, ScriptedDaemon, say_hello, socket_path

from connector_sdk.wire import ErrorClass, ExecuteRequest
from vastar_runtime import cli, config
from vastar_runtime.cli import request_report
from vastar_runtime.cli.exit_codes import MEANINGS

__all__ = ["socket_path"]  # the fixture

URL = "http://h/p"
JSON_KEYS = {
    "exit_code",
    "status",
    "headers",
    "body",
    "body_base64",
    "body_bytes",
    "output",
    "first_byte_ms",
    "duration_ms",
    "attempts",
    "error",
}

Ask = Callable[..., Result]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VASTAR_")]:
        monkeypatch.delenv(name)


@contextmanager
def daemon(path: str, script: Script = say_hello) -> Iterator[tuple[ScriptedDaemon, Ask]]:
    def ask(*options: str, url: str = URL, data: bytes = b"") -> Result:
        return run("request", "--socket", path, *options, url, data=data)

    with ScriptedDaemon(script, path) as scripted:
        yield scripted, ask


def pieces(*data: bytes, status: int = 200, error: tuple[ErrorClass, str] | None = None) -> Script:
    """Answers with these pieces, and then perhaps breaks off."""

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, status, ("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
        for piece in data:
            peer.chunk(request, piece)
        peer.end(request.request_id, *(error or (ErrorClass.SUCCESS, None)))

    return script


def failing(error_class: ErrorClass, message: str = "no answer") -> Script:
    return lambda peer, request: peer.end(request.request_id, error_class, message)


def test_the_body_goes_to_standard_output_and_the_options_to_the_daemon(socket_path: str) -> None:
    with daemon(socket_path) as (scripted, ask):
        done = ask()
        assert (done.exit_code, done.stdout, done.stderr) == (0, "hello", "")
        done = ask("-X", "PUT", "-H", "A: 1", "-H", "a: 2", "-d", "-", "--tenant", "acme", "-m", "1.5", data=b"x\ny")
        assert done.exit_code == 0
        first, second = scripted.payloads
        assert first == {"method": "GET", "url": URL, "headers": {}, "timeout_ms": 60_000}
        assert second == {
            "method": "PUT",
            "url": URL,
            "headers": {"A": "1", "a": "2", "Content-Type": "application/x-www-form-urlencoded"},
            "body": "xy",
            "timeout_ms": 1500,
        }
        assert [request.tenant_id for request in scripted.requests] == ["default", "acme"]


def test_bytes_pass_untouched_to_standard_output_and_into_a_file(socket_path: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 500
    file = tmp_path / "answer"
    with daemon(socket_path, pieces(data[:70000], data[70000:])) as (_, ask):
        assert ask().stdout_bytes == data
        assert ask("-o", "-").stdout_bytes == data
        done = ask("-o", str(file), "--stream")
        assert (done.exit_code, done.output) == (0, "")
        assert file.read_bytes() == data


def test_the_head_as_curl_shows_it(socket_path: str, tmp_path: Path) -> None:
    head = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"
    with daemon(socket_path, pieces(b"body", status=404)) as (_, ask):
        assert ask("-i").stdout_bytes == head + b"body"
        ask("-i", "-o", str(tmp_path / "answer"))
        assert (tmp_path / "answer").read_bytes() == head + b"body"
    with daemon(socket_path, pieces(status=404)) as (scripted, ask):
        assert ask("-I").stdout_bytes == head
        assert scripted.payloads[0]["method"] == "HEAD"


def test_a_status_fails_the_command_only_where_that_is_asked_for(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "answer"
    with daemon(socket_path, pieces(b"why", status=404)) as (_, ask):
        assert (ask().exit_code, ask().stdout) == (0, "why")
        done = ask("-f", "-o", str(file))
        assert (done.exit_code, done.output) == (22, "Error: the upstream answered with status 404\n")
        assert not file.exists()
        done = ask("-fsL")
        assert (done.exit_code, done.output) == (22, "")
        assert ask("-fsSL").stderr == "Error: the upstream answered with status 404\n"
        told = json.loads(ask("-fs", "--json", "-o", str(file)).stdout)
        assert (told["exit_code"], told["output"], told["body"], file.exists()) == (22, None, None, False)
        told = json.loads(ask("-fs", "--json").stdout)
        assert (told["exit_code"], told["body"]) == (22, "why")
        assert told["error"] == {
            "class": None,
            "message": "the upstream answered with status 404",
            "retry_after_ms": 0,
        }


@pytest.mark.parametrize(
    ("error_class", "exit_code"),
    [
        (ErrorClass.TRANSIENT, 11),
        (ErrorClass.PERMANENT, 12),
        (ErrorClass.RATE_LIMITED, 13),
        (ErrorClass.INVALID_REQUEST, 15),
        (ErrorClass.CANCELLED, 16),
        (ErrorClass.TIMEOUT, 28),
    ],
)
def test_each_class_of_errors_has_its_exit_code(
    socket_path: str, tmp_path: Path, error_class: ErrorClass, exit_code: int
) -> None:
    file = tmp_path / "answer"
    with daemon(socket_path, failing(error_class, "no\nanswer\x1b[2J")) as (_, ask):
        done = ask("-o", str(file))
        assert (done.exit_code, done.output) == (exit_code, "Error: no answer\ufffd[2J\n")
        assert not file.exists()
        told = json.loads(ask("--json").stdout)
        assert told.keys() == JSON_KEYS
        assert (told["exit_code"], told["status"], told["body"]) == (exit_code, None, None)
        assert told["error"]["class"] == error_class.name


def test_what_came_before_an_answer_broke_off_is_kept_and_said_to_be_a_part(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "answer"
    with daemon(socket_path, pieces(b"half", error=(ErrorClass.TRANSIENT, "cut short"))) as (_, ask):
        done = ask("-o", str(file))
        assert done.exit_code == 11
        assert done.output == f"Error: cut short; {file} keeps the 4 bytes of the body that came before\n"
        assert file.read_bytes() == b"half"
        done = ask()
        assert (done.stdout, done.stderr) == (
            "half",
            "Error: cut short; the output has the 4 bytes of the body that came before\n",
        )
        told = json.loads(ask("--json").stdout)
        assert (told["status"], told["body"], told["error"]["message"]) == (200, "half", "cut short")


def test_json_is_one_object_of_ascii_for_scripts(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "answer"
    with daemon(socket_path, pieces("é\x1b".encode())) as (_, ask):
        done = ask("--json")
        assert (done.exit_code, done.stderr, done.stdout.count("\n")) == (0, "", 1)
        assert done.stdout.isascii()
        assert "\x1b" not in done.stdout
        told = json.loads(done.stdout)
        assert told.keys() == JSON_KEYS
        assert told.pop("duration_ms") >= told.pop("first_byte_ms") >= 0
        assert told == {
            "exit_code": 0,
            "status": 200,
            "headers": {"content-type": "text/plain", "set-cookie": "a=1\nb=2"},
            "body": "é\x1b",
            "body_base64": None,
            "body_bytes": 3,
            "output": None,
            "attempts": 0,
            "error": None,
        }
        told = json.loads(ask("--json", "-o", str(file)).stdout)
        assert (told["body"], told["body_bytes"], told["output"]) == (None, 3, str(file))
        assert file.read_text() == "é\x1b"
    with daemon(socket_path, pieces(b"\xff")) as (_, ask):
        told = json.loads(ask("--json").stdout)
        assert (told["body"], told["body_base64"]) == (None, "/w==")


def test_json_holds_no_more_than_it_should(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_report, "MAX_JSON_BODY_BYTES", 5)
    with daemon(socket_path, pieces(b"four", b"four")) as (_, ask):
        done = ask("--json")
        assert done.exit_code == 23
        assert done.stderr.endswith("the most that --json prints; write it to a file with -o FILE\n")
        assert json.loads(done.stdout)["body"] == "four"


def test_verbose_tells_everything_but_secrets(socket_path: str) -> None:
    with daemon(socket_path, pieces(b"body")) as (_, ask):
        headers = ("Authorization: Bearer s3cr3t", "X-Api-Key: s3cr3t", "Cookie: a=s3cr3t", "Idempotency-Key: 7")
        options = [word for header in headers for word in ("-H", header)]
        done = ask("-v", *options, "-d", "12345", url="http://me:s3cr3t@h/p?key=s3cr3t&n=1")
        assert done.stdout == "body"
        first, *lines = done.stderr.splitlines()
        assert first == f"* through the daemon at socket {socket_path}, as tenant 'default', within 60 s"
        assert lines[:11] == [
            "> POST http://***@h/p?key=***&n=1",
            "> Authorization: Bearer ***",
            "> X-Api-Key: ***",
            "> Cookie: ***",
            "> Idempotency-Key: 7",
            "> Content-Type: application/x-www-form-urlencoded",
            "> (body of 5 bytes)",
            "< HTTP/1.1 200 OK",
            "< Content-Type: text/plain",
            "< Set-Cookie: ***",
            "< Set-Cookie: ***",
        ]
        assert lines[11].endswith("attempts: not told")
        assert lines[12].startswith("* 4 bytes in ")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("X-Auth", "S", "***"),
        ("X-Amz-Credential", "S", "***"),
        ("X-Session-Id", "S", "***"),
        ("X-Author", "me", "me"),
        ("WWW-Authenticate", 'Bearer realm="x"', 'Bearer realm="x"'),
        (
            "Location",
            "https://u:S@h/?api_key=S&page=2#access_token=S",
            "https://***@h/?api_key=***&page=2#access_token=***",
        ),
        ("Location", "/done?code=S&state=1", "/done?code=***&state=1"),
        ("Link", '<https://h/?page=2&sig=S>; rel="next"', '<https://h/?page=2&sig=***>; rel="next"'),
        ("Referer", "http://h/?X-Amz-Signature=S&api%5Fkey=S", "http://h/?X-Amz-Signature=***&api%5Fkey=***"),
        ("Referer", "http://u:S/x@h/p", "http://***@h/p"),
        ("Referer", "http://u:S?x@h", "http://***@h"),
        ("Referer", "http://h/?next=http://u:S@h/", "http://h/?next=http://***@h/"),
        ("Referer", "http://[::1]:4873/@scope/package", "http://[::1]:4873/@scope/package"),
    ],
)
def test_a_secret_is_not_shown_wherever_it_stands(name: str, value: str, shown: str) -> None:
    assert request_report.shown_value(name, value) == shown


def test_an_event_stream_is_shown_as_it_comes(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vastar_runtime.cli.request_output import Output

    flushed: list[int] = []
    flush = Output.flush

    def noted(self: Output) -> None:
        flushed.append(self.body_bytes)
        flush(self)

    monkeypatch.setattr(Output, "flush", noted)

    def script(content_type: str) -> Script:
        def events(peer: Peer, request: ExecuteRequest) -> None:
            peer.head(request, 200, ("content-type", content_type))
            peer.chunk(request, b"data: 1\n\n")
            peer.chunk(request, b"data: 2\n\n")
            peer.end(request.request_id)

        return events

    with daemon(socket_path, script("Text/Event-Stream; charset=utf-8")) as (_, ask):
        assert ask().stdout == "data: 1\n\ndata: 2\n\n"
        assert flushed == [0, 9, 18]
    flushed.clear()
    with daemon(socket_path, script("text/plain")) as (_, ask):
        ask()
        assert flushed == [18]


def test_a_request_that_is_interrupted_is_cancelled_at_the_daemon(
    socket_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vastar_runtime.cli.request_output import Output

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 200)
        peer.chunk(request, b"a part")

    def interrupt(self: Output, piece: bytes) -> None:
        body(self, piece)
        raise KeyboardInterrupt

    body = Output.body
    monkeypatch.setattr(Output, "body", interrupt)
    file = tmp_path / "answer"
    with daemon(socket_path, script) as (scripted, ask):
        done = ask("-o", str(file))
        assert (done.exit_code, done.stdout) == (130, "")
        assert done.stderr.strip() == "Interrupted"
        assert scripted.cancelled == [1]
        assert file.read_bytes() == b"a part"
        done = ask("--json", "-o", str(file))
        assert (done.exit_code, done.stderr.strip()) == (130, "Interrupted")
        told = json.loads(done.stdout)
        assert (told["exit_code"], told["status"], told["body_bytes"], told["output"]) == (130, 200, 6, str(file))
        assert told["error"] == {"class": None, "message": "interrupted", "retry_after_ms": 0}


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
        (["-m", "nan"], "Invalid value for '-m' / '--timeout' / '--max-time': nan is no number of seconds above 0"),
        (["-m", "0"], "Invalid value for '-m' / '--timeout' / '--max-time': 0 is no number of seconds above 0"),
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
    assert done.exit_code == 2
    assert done.output.startswith(f"Error: {words}")
    assert done.output.count("\n") == 1


def test_an_output_that_cannot_be_written_is_told_before_anything_is_sent(socket_path: str, tmp_path: Path) -> None:
    with daemon(socket_path) as (scripted, ask):
        done = ask("-o", str(tmp_path))
        assert (done.exit_code, done.output) == (23, f"Error: cannot write {tmp_path}: Is a directory\n")
        assert scripted.requests == []


def test_the_help_has_every_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    said = run("request", "--help").output
    for code, meaning in MEANINGS.items():
        assert f"    {code:<5}{meaning}\n" in said


def test_a_url_whose_bytes_are_no_text_is_told_how_to_write_them() -> None:
    done = run("request", "--socket", "/nowhere", os.fsdecode(b"http://h/caf\xe9"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "Error: Invalid value for 'URL': it is no UTF-8 text (byte 0xe9); write it as %E9\n"
