"""Settings in files that cannot be used: what is wrong, and where, and never a key."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from connector_sdk import ConnectorException
from connector_sdk.openai import OpenAIConnector
from connector_sdk.openai_file import settings_from_file
from connector_sdk.openai_settings import OpenAISettings

SIMULATOR = "http://localhost:4545"


@pytest.fixture(autouse=True)
def _no_variables_of_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VASTAR_SOCKET_PATH", "VASTAR_USE_TCP", "VASTAR_TCP_HOST", "VASTAR_TCP_PORT", "VASTAR_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


def _settings(tmp_path: Path, content: str, **environ: str) -> OpenAISettings:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    return settings_from_file(path, environ)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", "it says nothing of an API: it takes mode, openai"),
        ("[1]", "no mapping"),
        ("a: [", "config.yaml:1: no YAML: "),
        ("mode: openai\n\tx: 1", "config.yaml:2: no YAML: "),
        ("mode: remote", "mode: 'remote' is none; it takes openai, simulator or azure"),
        ("mode: 7.5", "mode: '7.5' is none"),
        ("mode: " + "x" * 16_000, "mode: 'xxxx"),
        ("mode: " + "x" * 16_385, "mode: it has more than 16,384 characters"),
        ("use_real_openai: true\nsimulator: {enabled: true}", "use_real_openai and simulator.enabled contradict"),
        (
            "use_real_openai: true\nsimulator: {enabled: true}\nazure_openai: {endpoint: https://r, deployment: d}",
            "use_real_openai and simulator.enabled contradict",
        ),
        ("mode: simulator\nsimulator:\n  model: a\n  'model': b", "config.yaml:4: model is there twice"),
        ("mode: simulator\nown: [{x: [{y: 1, y: 2}]}]", "config.yaml:2: y is there twice"),
        ("mode: true", "mode: True cannot be used; it takes text"),
        ("opnai: {api_key: x}", "there is no opnai; did you mean openai?"),
        ("mode: simulator\napi_key: x", "api_key belongs in a table, such as openai: openai.api_key"),
        ("openai: {apikey: x}", "openai: there is no apikey; did you mean api_key?"),
        ("openai: {banana: x}", "openai: there is no banana; known: api_key, base_url"),
        ("openai: [api_key]", "openai: it takes a mapping with api_key, base_url"),
        ("openai: {api_key: [sk-secret]}", "openai.api_key: a value (not shown) cannot be used; it takes text"),
        ("openai: {api_key: '${NOT_SET}'}", "openai.api_key: the variable NOT_SET is not set"),
        ("openai: {api_key: '${a b}'}", "openai.api_key: a variable is written ${NAME}"),
        ("openai: {api_key: '${NOT_SET'}", "openai.api_key: a variable is written ${NAME}"),
        ("openai: {api_key: sk-proj-xxxxxxxxxxxxxxxxxxxx}", "openai.api_key still holds the example's placeholder"),
        ("openai: {api_key: your_api_key_here}", "openai.api_key still holds"),
        ("mode: openai", "openai.api_key is missing; set it, or openai.base_url if the daemon adds the key"),
        ("mode: openai\nuse_real_openai: false", "mode and use_real_openai contradict each other"),
        ("mode: azure", "azure_openai.endpoint is missing"),
        ("azure_openai: {endpoint: https://r}", "azure_openai.deployment is missing"),
        ("azure_openai: {endpoint: ftp://r, deployment: d}", "azure_openai.endpoint: 'ftp://r' cannot be used"),
        ("mode: simulator\ncommon: {timeout: soon}", "common.timeout: soon cannot be used; it takes a whole number"),
        ("mode: simulator\ncommon: {timeout: 1.5}", "common.timeout: 1.5 cannot be used"),
        ("mode: simulator\ncommon: {timeout: 0}", "common.timeout: 0 cannot be used; it takes milliseconds"),
        ("mode: simulator\ncommon: {timeout: 99999999999}", "common.timeout: 99999999999 cannot be used"),
        ("openai: {base_url: http://h, timeout: 3000000000}", "openai.timeout: 3000000000 cannot be used"),
        ("mode: simulator\nruntime: {timeout_ms: 3000000000}", "runtime.timeout_ms: 3000000000 cannot be used"),
        ("mode: simulator\ncommon: {timeout: 1, timeout_ms: 1}", "common.timeout and common.timeout_ms are the same"),
        ("mode: simulator\ncommon: {max_tokens: -5}", "common.max_tokens: -5 cannot be used; it takes a number from 1"),
        ("mode: simulator\nsimulator: {temperature: .nan}", "simulator.temperature: nan cannot be used"),
        ("mode: simulator\nruntime: {tcp_port: 99999}", "runtime.tcp_port: 99999 cannot be used"),
        (
            "mode: simulator\nsimulator: {enabled: 'yes'}",
            "simulator.enabled: yes cannot be used; it takes true or false",
        ),
        ('mode: simulator\nruntime: {socket_path: "\\ud800"}', r"runtime.socket_path: '\ud800' cannot be used"),
        ("mode: simulator\ncommon: {max_tokens: [0x" + "f" * 5000 + "]}", "common.max_tokens: a list cannot be used"),
        ("common: {max_tokens: 0x" + "f" * 5000 + "}\nmode: simulator", "a number of more than 20 digits"),
        ("common: {max_tokens: " + "9" * 5000 + "}", "it holds a value that its type does not have"),
        ("mode: 2024-02-30", "it holds a value that its type does not have"),
        ("x: !!timestamp foo", "it holds a value that its type does not have"),
        ('x: !!int ""', "it holds a value that its type does not have"),
        ("x: !!bool foo", "it holds a value that its type does not have"),
        ("x: 1" + ":1" * 300 + ".5", "it holds a value that its type does not have"),
        ("mode: \a", "no YAML: a character that it does not have (U+0007)"),
        ("a: 1\n\tb: 1", "config.yaml:2: no YAML: found character '\\t' that cannot start any token"),
        ("a: " + "[" * 40 + "]" * 40, "more than 32 levels"),
        ("a: &a [1]\nb: [" + "*a," * 17 + "]", "more than 16 aliases"),
        ("openai: {api_key: !!python/object/apply:os.getcwd []}", "no YAML: could not determine a constructor"),
        ("x" * 300_000, "more than 65,536 bytes"),
    ],
)
def test_files_that_cannot_be_used_are_told_why(tmp_path: Path, content: str, error: str) -> None:
    with pytest.raises(ConnectorException) as e:
        _settings(tmp_path, content)
    assert error in str(e.value)
    assert str(tmp_path / "config.yaml") in str(e.value)
    assert "sk-secret" not in str(e.value)
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 500


@pytest.mark.parametrize(
    "content",
    [
        'openai:\n  api_key: "sk-secret\n  model: m\n',
        "openai: {api_key: sk-secret, model: m]",
        "openai: {api_key: *sk-secret}",
        "openai: {api_key: !sk-secret x}",
        "openai: {api_key: sk-secret}\n\tmode: openai",
    ],
)
def test_a_key_in_a_file_that_is_no_yaml_is_in_no_traceback(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConnectorException, match=r"config.yaml:\d: no YAML: ") as e:
        _settings(tmp_path, content)
    assert e.value.__context__ is None
    assert "sk-secret" not in "".join(line for line in traceback.format_exception(e.value) if "test_" not in line)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("soon", "common.max_tokens: soon cannot be used; it takes a whole number"),
        ("0" * 64 + "5", "common.max_tokens: 0000"),
        ("", "common.max_tokens: '' cannot be used"),
    ],
)
def test_a_variable_that_holds_no_number_is_none(tmp_path: Path, value: str, error: str) -> None:
    with pytest.raises(ConnectorException) as e:
        _settings(tmp_path, "mode: simulator\ncommon: {max_tokens: '${N}'}", N=value)
    assert error in str(e.value)


def test_merged_keys_are_not_there_twice(tmp_path: Path) -> None:
    content = "own: &own {model: a}\nother: &other {max_tokens: 7}\nsimulator: {<<: *own, <<: *other, model: b}"
    assert _settings(tmp_path, content) == OpenAISettings(base_url=SIMULATOR, model="b", max_tokens=7)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConnectorException, match=r"cannot read the configuration .*none.yaml: No such file"):
        OpenAIConnector.from_config(tmp_path / "none.yaml")
