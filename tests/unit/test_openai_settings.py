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
from connector_sdk.openai_settings import OpenAISettings, refuse_placeholder

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
        ({"OPENAI_API_KEY": f"{KEY}\udcff"}, "OPENAI_API_KEY: it is not UTF-8"),
        ({"OPENAI_BASE_URL": "http://\udcff"}, "OPENAI_BASE_URL: it is not UTF-8"),
        (
            {"AZURE_OPENAI_ENDPOINT": "https://r", "AZURE_OPENAI_KEY": "\udcff"},
            "AZURE_OPENAI_KEY: it is not UTF-8",
        ),
    ],
)
def test_variables_that_cannot_be_used_are_named(environ: dict[str, str], error: str) -> None:
    with pytest.raises(ConnectorException) as e:
        settings_from_environment(environ)
    assert error in str(e.value)
    assert KEY not in str(e.value)


@pytest.mark.parametrize(
    "value",
    [
        "sk-...",
        "sk-proj-xxxx",
        "<your key>",
        "your_api_key_here",
        "YOUR-KEY",
        "sk-your-key",
        "https://your-resource.openai.azure.com",
        "https://YOUR_RESOURCE_NAME.openai.azure.com/",
        "paste_your_openai_api_key_here",
        "Enter your key",
    ],
)
def test_placeholders_of_examples_are_refused(value: str) -> None:
    with pytest.raises(ConnectorException, match="KEY still holds the example's placeholder"):
        refuse_placeholder("KEY", value, "unset it")


@pytest.mark.parametrize(
    "value",
    [KEY, "https://made-for-your-home.openai.azure.com", "https://keyboards-for-your-keys.openai.azure.com", "any"],
)
def test_what_is_somebodys_own_is_no_placeholder(value: str) -> None:
    refuse_placeholder("KEY", value, "unset it")


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
        (
            "use_real_openai: true" + AZURE.replace("2024-02-15-preview", "2024-10-21"),
            {},
            OpenAISettings(
                base_url="https://r.openai.azure.com",
                api_key="k",
                max_tokens=5,
                azure=AzureDeployment("d", "2024-10-21"),
            ),
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
