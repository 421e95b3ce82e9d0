"""What both connectors share: their settings, and where those come from. No I/O but the reading of a file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self, TypedDict, Unpack

from .azure import DEFAULT_API_VERSION, AzureDeployment
from .chat import Usage
from .chat_request import (
    DEFAULT_BASE_URL,
    DEFAULT_TIMEOUT_MS,
    TEST_MODEL,
    ChatCompletionRequest,
    ChatEndpoint,
    RequestDefaults,
    tiny_request,
)
from .chat_retry import DEFAULT_MAX_RETRIES, MAX_RETRIES, OnRetry, RetryClock, Tries
from .config import RuntimeConfig, check_type, invalid
from .errors import ConnectorException
from .wire.daemon_connection import MAX_WINDOW_BYTES

if TYPE_CHECKING:
    from .openai_settings import OpenAISettings
    from .usage_tracker import UsageTracker

DEFAULT_STREAM_BUFFER = 100  # as the existing connectors'
# What a chunk of the API's streams has, with its JSON and its event, is 200 to 400 bytes; some have more.
BYTES_PER_CHUNK = 512
MAX_STREAM_BUFFER = MAX_WINDOW_BYTES // BYTES_PER_CHUNK


class ConnectorOptions(TypedDict, total=False):
    """What a connector takes wherever its address and its key come from; see ``OpenAIConnector``."""

    config: RuntimeConfig | None
    max_retries: int
    stream_buffer: int
    usage_tracker: UsageTracker | None
    retry_clock: RetryClock | None
    on_retry: OnRetry | None


class ChatConnector:
    """See the module, and ``OpenAIConnector``."""

    def __init__(
        self,
        base_url: str = DEFAULT_BASE_URL,
        api_key: str | None = None,
        *,
        config: RuntimeConfig | None = None,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        max_retries: int = DEFAULT_MAX_RETRIES,
        stream_buffer: int = DEFAULT_STREAM_BUFFER,
        usage_tracker: UsageTracker | None = None,
        azure_deployment: AzureDeployment | None = None,
        retry_clock: RetryClock | None = None,
        on_retry: OnRetry | None = None,
    ) -> None:
        defaults = RequestDefaults(timeout_ms, model, max_tokens, temperature)
        self._endpoint = ChatEndpoint(base_url, api_key, defaults, azure_deployment)
        self._max_retries = _in_range("max_retries", max_retries, 0, MAX_RETRIES)
        self._retry_clock = retry_clock or RetryClock()
        self._on_retry = on_retry
        self._usage_tracker = usage_tracker
        self.last_usage: Usage | None = None
        window_bytes = BYTES_PER_CHUNK * _in_range("stream_buffer", stream_buffer, 1, MAX_STREAM_BUFFER)
        self._connect_to(dataclasses.replace(config or RuntimeConfig(), stream_window_bytes=window_bytes))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **options: Unpack[ConnectorOptions]) -> Self:
        """A connector by the variables of the existing examples. Variables that are empty are as if not set.

        - ``USE_SIMULATOR=true``: the simulator at ``SIMULATOR_URL`` (http://localhost:4545), without a key.
        - ``OPENAI_API_KEY``: the API at ``OPENAI_BASE_URL`` (https://api.openai.com) with this key.
        - ``AZURE_OPENAI_ENDPOINT``: that Azure resource, with ``AZURE_OPENAI_DEPLOYMENT``, ``AZURE_OPENAI_API_KEY`` or
          ``AZURE_OPENAI_KEY`` (neither: the daemon adds the key), and ``OPENAI_API_VERSION``.
        - ``OPENAI_BASE_URL`` alone, or ``USE_SIMULATOR=false``: the API without a key, which the daemon adds.
        - none of these: the simulator.

        The default model is ``OPENAI_MODEL``, else gpt-4o-mini; of an Azure deployment, its own.

        Args:
            options: as of the class.

        Raises:
            ConnectorException: INVALID_REQUEST, naming the variable and what is wrong with it.
        """
        from .openai_environment import settings_from_environment

        return cls.from_settings(settings_from_environment(environ), **options)

    @classmethod
    def from_config(
        cls,
        path: str | os.PathLike[str] = "config.yaml",
        *,
        environ: Mapping[str, str] = os.environ,
        **options: Unpack[ConnectorOptions],
    ) -> Self:
        """A connector by a YAML file with the keys of the existing examples; see ``openai_file`` for all of them.

        Args:
            environ: what ``${NAME}`` in a value stands for.
            options: as of the class; ``config`` wins over the file's ``runtime``.

        Raises:
            ConnectorException: INVALID_REQUEST, naming the file, the key and what is wrong with it.
        """
        from .openai_file import settings_from_file

        return cls.from_settings(settings_from_file(path, environ), **options)

    @classmethod
    def azure(
        cls,
        *,
        endpoint: str,
        deployment: str,
        api_version: str | None = None,
        api_key: str | None = None,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        **options: Unpack[ConnectorOptions],
    ) -> Self:
        """A connector to a deployment at Azure; the key goes into the header ``api-key``.

        Args:
            endpoint: such as "https://my-resource.openai.azure.com".
            deployment: its name.
            api_version: None: DEFAULT_API_VERSION of ``azure``.
            api_key: None or "": no header; the daemon may add it.
            timeout_ms, model, max_tokens, temperature, options: as of the class; a deployment needs no model.

        Raises:
            ConnectorException: INVALID_REQUEST, an argument that cannot be used.
            TypeError: an argument of the wrong type.
        """
        return cls(
            endpoint,
            api_key,
            timeout_ms=timeout_ms,
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            azure_deployment=AzureDeployment(deployment, DEFAULT_API_VERSION if api_version is None else api_version),
            **options,
        )

    @property
    def model(self) -> str | None:
        """What completions ask that name no model; None: those fail, unless it is an Azure deployment."""
        return self._endpoint.defaults.model

    @property
    def base_url(self) -> str:
        """Where the API is."""
        return self._endpoint.base_url

    @classmethod
    def from_settings(cls, settings: OpenAISettings, **options: Unpack[ConnectorOptions]) -> Self:
        """A connector by settings that somebody else has read.

        Raises:
            ConnectorException: INVALID_REQUEST, one that cannot be used.
        """
        if options.get("config") is None:
            options["config"] = settings.runtime
        return cls(
            settings.base_url,
            settings.api_key,
            timeout_ms=settings.timeout_ms,
            model=settings.model,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            azure_deployment=settings.azure,
            **options,
        )

    def _connect_to(self, config: RuntimeConfig) -> None:
        """Make the client; it connects when it first has to."""
        raise NotImplementedError

    def _tries(self) -> Tries:
        return Tries(self._max_retries, self._endpoint.defaults.timeout_ms, self._retry_clock, self._tell_of_retry)

    def _tell_of_retry(self, error: ConnectorException, wait_s: float) -> None:
        if self._on_retry is not None:
            self._endpoint.hide_key(error)
            self._on_retry(error, wait_s)

    def _test_request(self, model: str | None) -> ChatCompletionRequest:
        is_named = model or self.model or self._endpoint.is_azure
        return tiny_request(model if is_named else TEST_MODEL)

    def _count(self, request: ChatCompletionRequest, model: str | None, usage: Usage | None) -> None:
        """Tell the tracker of a completion that came, all of it or its beginning.

        Args:
            model: as the answer says it.
        """
        if self._usage_tracker is not None:
            self._usage_tracker.add(model or self._endpoint.model_of(request), usage)


def _in_range(name: str, value: int, least: int, most: int) -> int:
    check_type(name, value, int)
    if not least <= value <= most:
        raise invalid(name, value, f"a number from {least} to {most}")
    return value
