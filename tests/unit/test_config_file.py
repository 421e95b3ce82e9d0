"""Whatever lies where the configuration file should be: it is read, or refused in one line, and soon."""

import io
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from loaded_settings import load

from vastar_runtime.config import Settings, named_file
from vastar_runtime.config import file as file_module
from vastar_runtime.config.file import MAX_FILE_BYTES, read_file
from vastar_runtime.config.permissions import user_name
from vastar_runtime.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
VALID = "[admission]\nmax_queued = 7\n"


@pytest.fixture(autouse=True)
def default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The default path, where no file is yet."""
    path = tmp_path / "etc" / "runtime.toml"
    path.parent.mkdir()
    monkeypatch.setattr(file_module, "DEFAULT_CONFIG_PATH", str(path))
    return path


def refusal(path: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load({}, config_path=str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_flag_comes_before_the_variable_and_that_before_the_default(default: Path, tmp_path: Path) -> None:
    flag, variable = tmp_path / "flag.toml", tmp_path / "variable.toml"
    for number, path in enumerate((flag, variable, default), start=1):
        path.write_text(f"admission.max_queued = {number}")
    environ = {"VASTAR_CONFIG": str(variable)}
    assert load(environ, config_path=str(flag)).admission.max_queued == 1
    assert load(environ).admission.max_queued == 2
    assert load({}).admission.max_queued == 3
    assert load({"VASTAR_CONFIG": ""}).admission.max_queued == 3


def test_without_any_file_the_defaults_hold() -> None:
    assert load({}) == Settings()


def test_a_default_directory_that_is_a_file_has_no_default_file(default: Path) -> None:
    default.parent.rmdir()
    default.parent.write_text("")
    assert load({}) == Settings()


def test_a_start_without_a_file_takes_no_time_for_a_parser(default: Path) -> None:
    script = (
        "import sys, vastar_runtime.config.file as file\n"
        f"file.DEFAULT_CONFIG_PATH = {str(default)!r}\n"
        "from vastar_runtime.config import Policies, examine\n"
        "Policies(examine({}).valid())\n"
        "print(sorted({'tomllib', 'difflib', 'click', 'trio'} & set(sys.modules)))"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # which parses a file
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True, env=environ
    )
    assert done.stdout == "[]\n"


def test_dev_null_stands_for_no_file(default: Path) -> None:
    default.write_text(VALID)
    assert load({"VASTAR_CONFIG": os.devnull}) == Settings()


def test_a_relative_path_is_of_the_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert named_file({"VASTAR_CONFIG": "a.toml"}, None) == str(tmp_path / "a.toml")
    assert named_file({"VASTAR_CONFIG": "a.toml"}, "b/../c.toml") == str(tmp_path / "c.toml")
    assert named_file({}, None) is None


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_can_be_no_path_is_no_path(path: str) -> None:
    assert refusal(path) == f"--config: {path!r} is no path of a file"


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "missing.toml"
    assert refusal(path) == (
        f"cannot read {path}: No such file or directory; vastar-runtime config example prints one to begin with"
    )
    with pytest.raises(ConfigError, match="No such file"):
        load({"VASTAR_CONFIG": str(path)})


def test_a_link_that_leads_nowhere_is_a_mistake_and_no_missing_file(default: Path) -> None:
    default.symlink_to("elsewhere.toml")
    with pytest.raises(ConfigError, match=f"cannot read {default}: No such file or directory; let this user read it"):
        load({})


def test_a_default_file_that_may_not_be_read_is_a_mistake(default: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default.write_text(VALID)
    default.chmod(0o644)
    me = user_name(os.geteuid())

    def refused(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(file_module.os, "open", refused)
    with pytest.raises(ConfigError) as caught:
        load({})
    assert str(caught.value) == (
        f"cannot read {default}: Permission denied: it belongs to {me}, mode 0644; "
        f"let {me} read it, or choose another with --config or VASTAR_CONFIG"
    )


def test_a_default_directory_that_may_not_be_searched_is_a_mistake(
    default: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: str, *_flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(file_module.os, "lstat", refused)
    monkeypatch.setattr(file_module.os, "open", refused)
    with pytest.raises(ConfigError, match=f"cannot read {default}: Permission denied"):
        load({})


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    descriptors = os.listdir("/proc/self/fd")
    for _ in range(3):
        assert refusal(tmp_path) == f"{tmp_path} is a directory, not a file"
    assert os.listdir("/proc/self/fd") == descriptors


def test_a_fifo_that_nobody_writes_to_does_not_hold_us_up(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert refusal(path) == f"{path} is no regular file"


def test_a_device_without_end_is_not_read() -> None:
    assert refusal("/dev/zero") == "/dev/zero is no regular file"


def test_a_socket_is_no_file() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/s")
        assert refusal(f"{directory}/s").startswith(f"cannot read {directory}/s: ")


def test_a_file_of_100_mib_is_refused_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.toml"
    with open(path, "wb") as file:
        file.truncate(100 << 20)
    asked_for = []

    class Counting(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            asked_for.append(size)
            return super().read(size)

    monkeypatch.setattr("builtins.open", lambda fd, mode, closefd: Counting(fd, mode, closefd=closefd))
    assert refusal(path) == f"{path} is larger than 1 MiB: this is no configuration"
    assert asked_for == [MAX_FILE_BYTES + 1]


def test_a_file_of_just_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "full.toml"
    path.write_text(VALID + "#" * (MAX_FILE_BYTES - len(VALID)))
    assert load({}, config_path=str(path)).admission.max_queued == 7
    with open(path, "a") as file:
        file.write("#")
    assert "larger than 1 MiB" in refusal(path)


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing.toml"
    path.write_text(VALID)
    real_fstat = os.fstat
    looks = []

    def fstat(fd: int) -> os.stat_result:
        looks.append(fd)
        if len(looks) == 2:  # the look after reading
            with open(path, "a") as file:
                file.write("max_concurrent = 1\n")
        return real_fstat(fd)

    monkeypatch.setattr(file_module.os, "fstat", fstat)
    assert refusal(path) == f"{path} was written to while it was read: try again when it is complete"


NEWLINE_EXPECTED = "this is no TOML: Expected newline or end of document after a statement"
MANY_PARTS = b".".join([b"a"] * 200_000)
NO_TOML = [
    (b"[admission]\nmax_queued = 7\n[policy.re", ":3: this is no TOML: Expected ']' at the end of a table declaration"),
    (b"[admission]\nmax_queued", ":2: this is no TOML: Expected '=' after a key in a key/value pair (end of the file)"),
    (b"[listen]\nsocket = '/run/a.so", ":2: this is no TOML: "),
    (b"a = none\n", ":1: this is no TOML: Invalid value (column 5); a string needs quotes"),
    (b"\n\na = 10s\n", f":3: {NEWLINE_EXPECTED} (column 7); a string needs quotes"),
    (b"a = 0600\n", f":1: {NEWLINE_EXPECTED} (column 6); a string needs quotes"),
    (b"a = 1\na = 2\n", ":2: a: it stands here a second time; first in line 1; keep one of them"),
    (b"a = '\xff'\n", ":1: this is no UTF-8 text (byte 0xff)"),
    (b"a = 1\n\n# gr\xfc\xdf\n", ":3: this is no UTF-8 text (byte 0xfc)"),
    (b"\xff\xfea\0 \0=\0 \x001\0", ":1: this is no UTF-8 text (byte 0xff)"),
    (b"a = 1\0\n", ":1: this is no TOML: "),
    (b"\x7fELF\x02\x01\x01\0\0\0", ":1: this is no TOML: "),
    (b"a = " + b"9" * 5000, ": a number of too many digits"),
    (b"a = " + b"[" * 100_000, ": this is no configuration: arrays or tables nested too deeply"),
    (b"\n" + MANY_PARTS + b" = 1", ":2: a key of so many parts is none of ours"),
    (b"x = {" + MANY_PARTS + b" = 1}", ":1: a key of so many parts is none of ours"),
    (b"[" + MANY_PARTS + b"]", ":1: a key of so many parts is none of ours"),
    (b"[" + b"b" * 5000 + b"]\n[" + b"b" * 5000 + b"]", ":2: ['bbb"),
    (b"\n".join([b"[" + b".".join([b"b" * 90] * 90) + b"]"] * 2), ":2: this is no TOML: Cannot declare ('bbb"),
    (b"x = " + b'"""a" \\' * 130_000, ":1: this is no TOML: "),
]


@pytest.mark.parametrize(("content", "message"), NO_TOML, ids=range(len(NO_TOML)))
def test_what_is_no_toml_is_refused_with_its_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    said = refusal(path)
    assert said.startswith(f"{path}{message}")
    assert len(said) < len(str(path)) + 300


def test_every_half_of_a_file_is_loaded_or_refused_with_a_line(tmp_path: Path) -> None:
    whole = '[listen]\nsocket = "/run/ü.sock"\n[policy.retry]\nmax_retries = 1\n[[scope]]\ntenant = "a"\n'.encode()
    path = tmp_path / "half.toml"
    refused = []
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        try:
            load({}, config_path=str(path))
        except ConfigError as error:
            refused.append(str(error))
    assert len(refused) > len(whole) / 2
    assert all(text.startswith(f"{path}:") for text in refused)


@pytest.mark.parametrize(
    "content", [b"", b"\xef\xbb\xbf", b"\n", b"# nothing\r\n", b"\xef\xbb\xbf[admission]\r\nmax_queued = 1024\r\n"]
)
def test_an_empty_file_and_one_from_windows_are_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "plain.toml"
    path.write_bytes(content)
    assert load({}, config_path=str(path)) == Settings()


def test_a_path_with_a_line_break_stays_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.toml"
    path.write_text("x = 1")
    assert refusal(path).startswith(f"{str(path)!r}:1: x: unknown key")
    path.unlink()
    assert "two\\nlines" in refusal(path)


def test_the_document_knows_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(VALID)
    document = read_file(str(path))
    assert document.path == str(path)
    assert document.lines[("admission", "max_queued")] == 2
