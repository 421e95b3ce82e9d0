"""Settings of a connector from a YAML file, in the forms that the existing examples have:

    mode: openai                # or simulator, azure; or use_real_openai: true; or simulator.enabled: false
    openai: {api_key: "${OPENAI_API_KEY}", base_url: https://api.openai.com/v1, model: gpt-4o-mini}
    azure_openai: {api_key: …, endpoint: https://my-resource.openai.azure.com, deployment: …, api_version: …}
    simulator: {base_url: http://localhost:4545, model: …}
    common: {timeout: 300000, max_tokens: 2000, temperature: 0.7}      # timeout, as timeout_ms: milliseconds
    runtime: {socket_path: …, tenant_id: …, workspace_id: …, timeout_ms: …, use_tcp: …, tcp_host: …, tcp_port: …}

``timeout`` or ``timeout_ms``, ``max_tokens`` and ``temperature`` may stand in the first three as well, and win there.
A file that names no mode means Azure if it has no ``openai``; else the API if that has a key or a ``base_url``; else
the simulator. An API without a key needs a ``base_url``: the daemon adds the key.

``${NAME}`` in a value stands for a variable; those of tables that are not used need not be set. A key that is not known
in one of these tables is refused. Other tables are the application's own, unless they look like a slip of one of these.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .azure import DEFAULT_API_VERSION, AzureDeployment, azure_endpoint
from .chat_request import DEFAULT_TIMEOUT_MS, RequestDefaults
from .config import RuntimeConfig, check_timeout_ms
from .openai_settings import (
    API_BASE_URL,
    DEFAULT_MODEL,
    SIMULATOR_BASE_URL,
    OpenAISettings,
    refuse_placeholder,
)
from .settings_tree import SettingsTree
from .yaml_file import read_mapping, shown

_LIMITS: dict[str, type] = {"timeout": int, "timeout_ms": int, "max_tokens": int, "temperature": float}
_API: dict[str, type] = {"api_key": str, "base_url": str, "model": str, **_LIMITS}
KEYS: dict[str, type | dict[str, type]] = {
    "mode": str,
    "use_real_openai": bool,
    "openai": _API,
    "azure_openai": {"endpoint": str, "deployment": str, "api_version": str, "api_key": str, "model": str, **_LIMITS},
    "simulator": {"enabled": bool, **_API},
    "common": {"model": str, **_LIMITS},
    "runtime": {
        "socket_path": str,
        "tenant_id": str,
        "workspace_id": str,
        "timeout": int,
        "timeout_ms": int,
        "use_tcp": bool,
        "tcp_host": str,
        "tcp_port": int,
    },
}
_MODES = {"openai": "openai", "simulator": "simulator", "azure": "azure_openai", "azure_openai": "azure_openai"}


def settings_from_file(path: str | os.PathLike[str], environ: Mapping[str, str]) -> OpenAISettings:
    """See the module.

    Raises:
        ConnectorException: INVALID_REQUEST, naming the file, the key and what is wrong with it.
    """
    name = os.fspath(path)
    tree = SettingsTree(name, read_mapping(name, "configuration"), KEYS, environ)
    section = _section(tree)
    limits: dict[str, Any] = {
        "timeout_ms": _timeout_ms(tree, section) or _timeout_ms(tree, "common") or DEFAULT_TIMEOUT_MS,
        "max_tokens": tree.first("max_tokens", section, "common"),
        "temperature": tree.first("temperature", section, "common"),
        "model": tree.first("model", section, "common") or None,
    }
    for key, value in limits.items():
        with tree.errors_in(section if tree.get(section, key) is not None else "common"):
            RequestDefaults(**{key: value})
    if section == "azure_openai":
        return _azure(tree, limits)
    limits["model"] = limits["model"] or DEFAULT_MODEL
    runtime = _runtime(tree)
    if section == "simulator":
        url = tree.get(section, "base_url") or SIMULATOR_BASE_URL
        return OpenAISettings(base_url=url, api_key=tree.get(section, "api_key") or None, runtime=runtime, **limits)
    key, url = tree.get(section, "api_key"), tree.get(section, "base_url")
    if key:
        with tree.errors_in():
            refuse_placeholder("openai.api_key", key, "say mode: simulator")
    elif not url:
        raise tree.error(
            "openai.api_key is missing; set it, or openai.base_url if the daemon adds the key, or mode: simulator"
        )
    return OpenAISettings(base_url=url or API_BASE_URL, api_key=key or None, runtime=runtime, **limits)


def _section(tree: SettingsTree) -> str:
    """Which table says where the API is."""
    said = {}
    mode = tree.get("mode")
    if mode is not None:
        if mode.lower() not in _MODES:
            raise tree.error(f"mode: {shown(repr(mode))} is none; it takes openai, simulator or azure")
        said["mode"] = _MODES[mode.lower()]
    real = tree.get("use_real_openai")
    if real is not None:
        said["use_real_openai"] = "openai" if real else "simulator"
    enabled = tree.get("simulator", "enabled")
    if enabled is not None:
        said["simulator.enabled"] = "simulator" if enabled else "openai"
    wanted = {"openai" if section == "azure_openai" else section for section in said.values()}
    if len(wanted) > 1:
        raise tree.error(f"{' and '.join(said)} contradict each other; leave one of them")
    if "mode" not in said and "openai" in wanted and not tree.has("openai") and tree.has("azure_openai"):
        return "azure_openai"
    if said:
        return next(iter(said.values()))
    if tree.has("azure_openai") and not tree.has("openai"):
        return "azure_openai"
    if tree.has("openai") and (tree.get("openai", "api_key") or tree.get("openai", "base_url")):
        return "openai"
    if not (tree.has("openai") or tree.has("simulator")):
        raise tree.error("it says nothing of an API: it takes mode, openai, azure_openai, simulator, common, runtime")
    return "simulator"


def _azure(tree: SettingsTree, limits: dict[str, Any]) -> OpenAISettings:
    section = "azure_openai"
    found = {key: tree.get(section, key) or "" for key in ("endpoint", "deployment", "api_version", "api_key")}
    for key in ("endpoint", "deployment"):
        if not found[key]:
            raise tree.error(f"{section}.{key} is missing")
    with tree.errors_in():
        for key in ("endpoint", "api_key"):
            refuse_placeholder(f"{section}.{key}", found[key], "say mode: simulator")
    with tree.errors_in(section):
        azure = AzureDeployment(found["deployment"], found["api_version"] or DEFAULT_API_VERSION)
        endpoint = azure_endpoint(found["endpoint"])
    runtime = _runtime(tree)
    return OpenAISettings(base_url=endpoint, api_key=found["api_key"] or None, azure=azure, runtime=runtime, **limits)


def _runtime(tree: SettingsTree) -> RuntimeConfig | None:
    section = "runtime"
    names = ("socket_path", "tenant_id", "workspace_id", "use_tcp", "tcp_host", "tcp_port")
    given = {name: tree.get(section, name) for name in names} | {"timeout_ms": _timeout_ms(tree, section)}
    given = {name: value for name, value in given.items() if value is not None and value != ""}
    if not given:
        return None
    with tree.errors_in(section):
        return RuntimeConfig(**given)


def _timeout_ms(tree: SettingsTree, section: str) -> int | None:
    old, new = tree.get(section, "timeout"), tree.get(section, "timeout_ms")
    if old is not None and new is not None:
        raise tree.error(f"{section}.timeout and {section}.timeout_ms are the same; leave one of them")
    value: int | None = old if new is None else new
    if value is not None:
        with tree.errors_in(section):
            check_timeout_ms("timeout" if new is None else "timeout_ms", value)
    return value
