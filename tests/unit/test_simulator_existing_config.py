"""The existing simulator's config.yml: what applies, what is said to have no effect, and what is refused where."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vastar_runtime.errors import ConfigError
from vastar_runtime.simulator.existing_config import MAX_UNUSED, ExistingConfig, read

WHOLE = """\
binding: {port: 4546, host: 0.0.0.0}
source: file
database: {url: http://127.0.0.1:8123, username: simulator_app, password: "secret"}
redis:
  url: redis://127.0.0.1:6379
  prefix: rai_simulator
tracking: {enabled: false}
log_level: warn
channel_capacity: 1000
semaphore_limit: 10000
workers: 8
cache_ttl: 60
semaphor_limit: 1
"""


def reading(folder: Path, text: str | bytes) -> ExistingConfig:
    (folder / "config.yml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(str(folder / "config.yml"))


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        reading(folder, text)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message.replace(f"{folder}/", "")


def test_a_whole_file_applies_and_says_of_the_rest_that_it_has_no_effect(tmp_path: Path) -> None:
    found = reading(tmp_path, WHOLE)
    assert (found.host, found.port, found.log_level) == ("0.0.0.0", 4546, "warning")
    assert (found.folder, found.database) == (str(tmp_path / "zresponse"), None)
    begun = [line.replace(f"{tmp_path}/", "").partition(" has no effect: ")[0] for line in found.unused]
    assert begun == [
        "config.yml:3: database",
        "config.yml:4: redis",
        "config.yml:7: tracking",
        "config.yml:9: channel_capacity",
        "config.yml:10: semaphore_limit",
        "config.yml:11: workers",
        "config.yml:12: cache_ttl",
        "config.yml:13: semaphor_limit",
    ]
    assert "unknown" in found.unused[-1]
    assert all("\n" not in line and "secret" not in line for line in found.unused)


def test_an_empty_file_says_nothing_and_a_folder_beside_it_is_the_source(tmp_path: Path) -> None:
    for text in ("", "# nothing\n", "---\n", "binding:\n"):
        assert reading(tmp_path, text) == ExistingConfig()
    (tmp_path / "zresponse").mkdir()
    assert reading(tmp_path, "") == ExistingConfig(folder=str(tmp_path / "zresponse"))


def test_a_level_is_read_in_capitals_too(tmp_path: Path) -> None:
    assert reading(tmp_path, "log_level: INFO").log_level == "info"


@settings(max_examples=50)
@given(st.text("0123456789:.-+_eExXtTzZ nNaAfF!?&*|>'\"{}[],~=<yo", min_size=1, max_size=15))
def test_any_value_is_read_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for line in ("binding: {port: %s}", "binding:\n  host: %s", "log_level: %s", "%s"):
            with contextlib.suppress(ConfigError):
                reading(Path(folder), line % text)


def test_a_database_is_known_by_its_place(tmp_path: Path) -> None:
    assert reading(tmp_path, "\nsource: database\n").database == f"{tmp_path}/config.yml:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "config.yml:1: the whole is a mapping, such as binding: {port: 4545}"),
        ("text", "config.yml:1: the whole is a mapping, such as binding: {port: 4545}"),
        ("binding: [1]", "config.yml:1: binding is a mapping, such as binding: {port: 4545}"),
        ("binding: 4545", "config.yml:1: binding is a mapping, such as binding: {port: 4545}"),
        (
            "binding:\n  port: many",
            "config.yml:2: binding.port is a whole number from 0 to 65535, not 'many'",
        ),
        ("binding: {port: 70000}", "config.yml:1: binding.port is a whole number from 0 to 65535, not 70000"),
        ("binding: {port: true}", "config.yml:1: binding.port is a whole number from 0 to 65535, not true"),
        ("binding: {port: [1]}", "config.yml:1: binding.port is a whole number from 0 to 65535, not a list"),
        ("binding: {host: }", "config.yml:1: binding.host is an address or a name, not nothing"),
        ("binding: {host: 1}", "config.yml:1: binding.host is an address or a name, not 1"),
        ("binding: {port: 1:15}", "config.yml:1: binding.port is a whole number from 0 to 65535, not '1:15'"),
        ("binding: {port: 010}", "config.yml:1: binding.port is a whole number from 0 to 65535, not '010'"),
        ('binding: {port: !!int ""}', "config.yml:1: tags ('!!int') are not read, leave them out"),
        ("binding: {port: !!bool maybe}", "config.yml:1: tags ('!!bool') are not read, leave them out"),
        ("workers: !!timestamp foo", "config.yml:1: tags ('!!timestamp') are not read, leave them out"),
        ("? !!int ''\n: 1", "config.yml:1: tags ('!!int') are not read, leave them out"),
        ("binding: {port: ! 5}", "config.yml:1: tags ('!') are not read, leave them out"),
        ("source: disk", "config.yml:1: source is one of file, database, not 'disk'"),
        ("log_level: loud", "config.yml:1: log_level is one of trace, debug, info, warn, warning, error, not 'loud'"),
        ("source: file\nsource: file", "config.yml:2: 'source' is set twice"),
        ("? [a]\n: b", "config.yml:1: a key is a single word"),
        ("a: &x 1\nb: *x", "config.yml:2: aliases (*name) are not read, write the value out"),
        ("a: [[" + "[" * 30, "config.yml:1: values nested more than 16 deep are none of this file's"),
        (
            "a: {b",
            "config.yml:1: this is no YAML: while parsing a flow mapping, expected ',' or '}', but got '<stream end>'",
        ),
        ("a: b: c", "config.yml:1: this is no YAML: mapping values are not allowed here"),
        (
            "a: 1\n--- \nb: 2",
            "config.yml:2: this is no YAML: expected a single document in the stream, but found another document",
        ),
        ("\0", "config.yml: this is no YAML: "),
        (b"a: \xff", "cannot read config.yml: it is no UTF-8 text (line 1, byte 0xff)"),
        ("#" * 70_000, "cannot read config.yml: it has more than 65536 bytes"),
    ],
)
def test_what_cannot_be_is_one_line_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert refusal(tmp_path, text).startswith(message)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot read .*/missing\.yml: no such file or directory$"):
        read(str(tmp_path / "missing.yml"))
    with pytest.raises(ConfigError, match=r": (it is no regular file|is a directory)$"):
        read(str(tmp_path))


def test_hostile_files_are_refused_or_cut(tmp_path: Path) -> None:
    merges = "a: &a {x: 1}\nb: {<<: [" + "*a, " * 1000 + "*a]}\n"
    assert "aliases" in refusal(tmp_path, merges)
    assert len(reading(tmp_path, "".join(f"key{number}: 1\n" for number in range(500))).unused) == MAX_UNUSED + 1
    assert "binding.port" in refusal(tmp_path, "binding: {port: " + "9" * 60_000 + "}")
    assert "binding.port" in refusal(tmp_path, "binding: {port: 1" + ":1" * 30_000 + "}")
    assert "tags" in refusal(tmp_path, f"binding: {{port: !{'t' * 5000} 4545}}")
    (unused,) = reading(tmp_path, f'"{"k" * 1000}": 1').unused
    assert len(unused) < 400 + len(str(tmp_path))
