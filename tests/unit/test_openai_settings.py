"""Connectors from the variables and the files of the existing examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connector_sdk import ConnectorException, RuntimeConfig
from connector_sdk.azure import AzureDeployment
from connector_sdk.openai import AsyncOpenAIConnector, OpenAIConnector, UsageTracker
from connector_sdk.openai_environment import settings_from_environment
from connector_sdk.openai_file import settings_from_file
from connector_sdk.openai_settings import OpenAISettings

KEY = "sk-proj-4f9a8b7c6d5e"
SIMULATOR = "http://localhost:4545"
API = "https://api.openai.com"
MINI = "gpt-4o-mini"


# --- variables ---


@pytest.mark.parametrize(
    ("environ", "settings"),
    [
        ({}, OpenAISettings(base_url=SIMULATOR, model=MINI)),
        (
            {"OPENAI_API_KEY": "", "SIMULATOR_URL": "http://s", "OPENAI_MODEL": "m"},
            OpenAISettings(base_url="http://s", model="m"),
        ),
        ({"OPENAI_API_KEY": f" {KEY}\n"}, OpenAISettings(base_url=API, api_key=KEY, model=MINI)),
        (
            {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://h/v1"},
            OpenAISettings(base_url="http://h/v1", api_key=KEY, model=MINI),
        ),
        ({"OPENAI_BASE_URL": "http://h/v1"}, OpenAISettings(base_url="http://h/v1", model=MINI)),
        ({"USE_SIMULATOR": "true", "OPENAI_API_KEY": KEY}, OpenAISettings(base_url=SIMULATOR, model=MINI)),
        ({"USE_SIMULATOR": "False"}, OpenAISettings(base_url=API, model=MINI)),
        (
            {
                "AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com/",
                "AZURE_OPENAI_DEPLOYMENT": "d",
                "AZURE_OPENAI_KEY": "k",
            },
            OpenAISettings(base_url="https://r.openai.azure.com", api_key="k", azure=AzureDeployment("d")),
        ),
        (
            {
                "AZURE_OPENAI_ENDPOINT": "https://r",
                "AZURE_OPENAI_DEPLOYMENT": "d",
                "AZURE_OPENAI_API_KEY": "new",
                "AZURE_OPENAI_KEY": "old",
                "OPENAI_API_VERSION": "2025-01-01-preview",
                "OPENAI_MODEL": "m",
            },
            OpenAISettings(
                base_url="https://r", api_key="new", model="m", azure=AzureDeployment("d", "2025-01-01-preview")
            ),
        ),
    ],
)
def test_what_variables_say(environ: dict[str, str], settings: OpenAISettings) -> None:
    assert settings_from_environment(environ) == settings


@pytest.mark.parametrize(
    ("environ", "error"),
    [
        ({"USE_SIMULATOR": "maybe"}, "USE_SIMULATOR: 'maybe' cannot be used; it takes true or false"),
        ({"OPENAI_API_KEY": "sk-proj-xxxxxxxxxxxxxxxxxxxx"}, "OPENAI_API_KEY still holds the example's placeholder"),
        (
            {"OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": "https://r"},
            "both OPENAI_API_KEY and AZURE_OPENAI_ENDPOINT",
        ),
        ({"AZURE_OPENAI_ENDPOINT": "https://r"}, "AZURE_OPENAI_DEPLOYMENT is not"),
        ({"AZURE_OPENAI_ENDPOINT": "r", "AZURE_OPENAI_DEPLOYMENT": "d"}, "endpoint: 'r' cannot be used"),
        (
            {"AZURE_OPENAI_ENDPOINT": "https://your-resource.openai.azure.com", "AZURE_OPENAI_DEPLOYMENT": "d"},
            "AZURE_OPENAI_ENDPOINT still holds",
        ),
    ],
)
def test_variables_that_cannot_be_used_are_named(environ: dict[str, str], error: str) -> None:
    with pytest.raises(ConnectorException) as e:
        settings_from_environment(environ)
    assert error in str(e.value)
    assert KEY not in str(e.value)


# --- files ---


GO = f"""
mode: "openai"
openai: {{api_key: {KEY}, model: "gpt-3.5-turbo"}}
simulator: {{base_url: "http://localhost:4545", model: s}}
common: {{timeout: 300000, max_tokens: 2000, temperature: 0.7}}
"""
PYTHON = """
openai:
  api_key: ${OPENAI_API_KEY}
  base_url: https://api.openai.com/v1
  model: gpt-4o
  timeout_ms: 60000
runtime: {tenant_id: t, workspace_id: w, timeout_ms: 30000, socket_path: /tmp/x.sock}
simulator: {enabled: false, base_url: http://s}
server: {port: 8080}
"""
JAVA = """
use_real_openai: false
openai: {api_key: "${OPENAI_API_KEY}", base_url: https://api.openai.com, model: gpt-4, timeout_ms: 60000}
simulator: {base_url: "http://localhost:4545", timeout_ms: 5000}
runtime: {socket_path: /tmp/x.sock, tenant_id: t, workspace_id: w}
"""
AZURE = """
azure_openai: {api_key: k, endpoint: "https://r.openai.azure.com", deployment: d, api_version: 2024-02-15-preview}
common: {max_tokens: 5}
"""
OWN = f"""
openai: {{api_key: {KEY}, timeout: 5, max_tokens: 1, temperature: 1}}
common: {{timeout: 9, max_tokens: 2, model: m}}
"""
RUNTIME = RuntimeConfig(tenant_id="t", workspace_id="w", socket_path="/tmp/x.sock")


@pytest.fixture(autouse=True)
def _no_variables_of_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VASTAR_SOCKET_PATH", "VASTAR_USE_TCP", "VASTAR_TCP_HOST", "VASTAR_TCP_PORT", "VASTAR_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


def _settings(tmp_path: Path, content: str, **environ: str) -> OpenAISettings:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    return settings_from_file(path, environ)


@pytest.mark.parametrize(
    ("content", "environ", "settings"),
    [
        (GO, {}, OpenAISettings(base_url=API, api_key=KEY, model="gpt-3.5-turbo", max_tokens=2000, temperature=0.7)),
        (
            GO.replace('"openai"', "Simulator"),
            {},
            OpenAISettings(base_url=SIMULATOR, model="s", max_tokens=2000, temperature=0.7),
        ),
        (
            PYTHON,
            {"OPENAI_API_KEY": KEY},
            OpenAISettings(
                base_url=f"{API}/v1",
                api_key=KEY,
                model="gpt-4o",
                timeout_ms=60_000,
                runtime=RuntimeConfig("t", "w", timeout_ms=30_000, socket_path="/tmp/x.sock"),
            ),
        ),
        (
            PYTHON.replace("false", "true"),
            {},
            OpenAISettings(base_url="http://s", model=MINI, runtime=RuntimeConfig("t", "w", 30_000, "/tmp/x.sock")),
        ),
        (JAVA, {}, OpenAISettings(base_url=SIMULATOR, model=MINI, timeout_ms=5000, runtime=RUNTIME)),
        (
            JAVA.replace("false", "${REAL}").replace("gpt-4,", "4,"),
            {"REAL": "true", "OPENAI_API_KEY": KEY},
            OpenAISettings(base_url=API, api_key=KEY, model="4", timeout_ms=60_000, runtime=RUNTIME),
        ),
        (
            AZURE,
            {},
            OpenAISettings(
                base_url="https://r.openai.azure.com",
                api_key="k",
                max_tokens=5,
                azure=AzureDeployment("d", "2024-02-15-preview"),
            ),
        ),
        (
            "mode: azure\nopenai: {api_key: x}" + AZURE.replace("02-15-preview", "10-21"),
            {},
            OpenAISettings(
                base_url="https://r.openai.azure.com",
                api_key="k",
                max_tokens=5,
                azure=AzureDeployment("d", "2024-10-21"),
            ),
        ),
        (OWN, {}, OpenAISettings(base_url=API, api_key=KEY, model="m", timeout_ms=5, max_tokens=1, temperature=1)),
        (
            "openai: {base_url: http://h}\ncommon: {timeout_ms: '${T}'}",
            {"T": "77"},
            OpenAISettings(base_url="http://h", model=MINI, timeout_ms=77),
        ),
        ("openai: {api_key: '${K}'}\nsimulator:", {"K": ""}, OpenAISettings(base_url=SIMULATOR, model=MINI)),
        (
            "simulator: {api_key: k, base_url: 'http://${H}:${P}/$x'}",
            {"H": "h", "P": "1"},
            OpenAISettings(base_url="http://h:1/$x", api_key="k", model=MINI),
        ),
    ],
)
def test_what_files_say(tmp_path: Path, content: str, environ: dict[str, str], settings: OpenAISettings) -> None:
    assert _settings(tmp_path, content, **environ) == settings


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", "it says nothing of an API: it takes mode, openai"),
        ("[1]", "no mapping"),
        ("a: [", "config.yaml:1: no YAML: "),
        ("mode: openai\n\tx: 1", "config.yaml:2: no YAML: "),
        ("mode: remote", "mode: 'remote' is none; it takes openai, simulator or azure"),
        ("mode: 7.5", "mode: '7.5' is none"),
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
        ("mode: simulator\ncommon: {timeout: 0}", "common.timeout: 0 is no time in milliseconds"),
        ("mode: simulator\ncommon: {timeout: 99999999999}", "common.timeout_ms: 99999999999 cannot be used"),
        ("mode: simulator\ncommon: {timeout: 1, timeout_ms: 1}", "common.timeout and common.timeout_ms are the same"),
        ("mode: simulator\ncommon: {max_tokens: -5}", "common.max_tokens: -5 cannot be used; it takes a number from 1"),
        ("mode: simulator\nsimulator: {temperature: .nan}", "simulator.temperature: nan cannot be used"),
        ("mode: simulator\nruntime: {tcp_port: 99999}", "runtime.tcp_port: 99999 cannot be used"),
        (
            "mode: simulator\nsimulator: {enabled: 'yes'}",
            "simulator.enabled: yes cannot be used; it takes true or false",
        ),
        ("common: {max_tokens: 0x" + "f" * 5000 + "}\nmode: simulator", "a number of more than 20 digits"),
        ("common: {max_tokens: " + "9" * 5000 + "}", "it holds a value that its type does not have"),
        ("mode: 2024-02-30", "it holds a value that its type does not have"),
        ("a: " + "[" * 40 + "]" * 40, "more than 32 levels"),
        ("a: &a [1]\nb: [" + "*a," * 17 + "]", "more than 16 aliases"),
        ("openai: {api_key: !!python/object/apply:os.getcwd []}", "no YAML: could not determine a constructor"),
        ("x" * 300_000, "more than 262,144 bytes"),
    ],
)
def test_files_that_cannot_be_used_are_told_why(tmp_path: Path, content: str, error: str) -> None:
    with pytest.raises(ConnectorException) as e:
        _settings(tmp_path, content)
    assert error in str(e.value)
    assert str(tmp_path / "config.yaml") in str(e.value)
    assert "sk-secret" not in str(e.value)
    assert "\n" not in str(e.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConnectorException, match=r"cannot read the configuration .*none.yaml: No such file"):
        OpenAIConnector.from_config(tmp_path / "none.yaml")


# --- connectors ---


@pytest.mark.parametrize("kind", [OpenAIConnector, AsyncOpenAIConnector])
def test_connectors_of_both(tmp_path: Path, kind: Any) -> None:
    tracker = UsageTracker()
    connector = kind.from_env({"OPENAI_API_KEY": KEY, "OPENAI_MODEL": "m"}, usage_tracker=tracker, max_retries=0)
    assert (type(connector), connector.model, connector.base_url) == (kind, "m", API)
    (tmp_path / "config.yaml").write_text(PYTHON)
    connector = kind.from_config(tmp_path / "config.yaml", environ={"OPENAI_API_KEY": KEY})
    assert "socket /tmp/x.sock" in repr(connector._client)
    assert KEY not in repr(connector)
    config = RuntimeConfig(socket_path="/tmp/y.sock", use_tcp=False)
    connector = kind.from_config(tmp_path / "config.yaml", environ={"OPENAI_API_KEY": KEY}, config=config)
    assert "socket /tmp/y.sock" in repr(connector._client)
    assert KEY not in repr(settings_from_environment({"OPENAI_API_KEY": KEY}))
