"""``vastar-runtime request`` against a daemon that does what a story tells it to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from request_command import URL, daemon, failing, no_variables, pieces
from scripted_daemon import Peer, Script, socket_path

from connector_sdk.wire import ErrorClass, ExecuteRequest
from vastar_runtime.cli import request_report

__all__ = ["no_variables", "socket_path"]  # the fixtures

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
