"""Settings of a connector from environment variables; ``OpenAIConnector.from_env`` says what they mean."""

from __future__ import annotations

from collections.abc import Mapping

from .azure import DEFAULT_API_VERSION, AzureDeployment, azure_endpoint
from .config import invalid
from .errors import ConnectorException
from .openai_settings import (
    API_BASE_URL,
    DEFAULT_MODEL,
    SIMULATOR_BASE_URL,
    OpenAISettings,
    refuse_placeholder,
)
from .wire.messages import ErrorClass

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": None}


def settings_from_environment(environ: Mapping[str, str], *, base_url: str = "") -> OpenAISettings:
    """See the module.

    Args:
        base_url: in place of all that says where the API is; "": as the variables say.

    Raises:
        ConnectorException: INVALID_REQUEST, naming the variable and what is wrong with it.
    """

    def value(name: str) -> str:
        return _value(environ, name)

    key, endpoint, model = value("OPENAI_API_KEY"), value("AZURE_OPENAI_ENDPOINT"), value("OPENAI_MODEL")
    word = value("USE_SIMULATOR")
    if base_url:
        return _api(base_url, key, model)
    use_simulator = _WORDS.get(word.lower(), word)
    if isinstance(use_simulator, str):
        raise invalid("USE_SIMULATOR", word, "true or false")
    if use_simulator:
        return _simulator(value("SIMULATOR_URL"), model)
    if key and endpoint:
        raise ConnectorException(
            "both OPENAI_API_KEY and AZURE_OPENAI_ENDPOINT are set, and only one can be meant; unset the other",
            ErrorClass.INVALID_REQUEST,
        )
    if endpoint:
        return _azure(endpoint, environ, model)
    base_url = value("OPENAI_BASE_URL")
    if not (key or base_url) and use_simulator is None:
        return _simulator(value("SIMULATOR_URL"), model)
    return _api(base_url or API_BASE_URL, key, model)


def _value(environ: Mapping[str, str], name: str) -> str:
    text = environ.get(name, "").strip()
    try:
        text.encode()
    except UnicodeEncodeError as error:  # Python has other bytes as halves of characters, which cannot be sent
        raise ConnectorException(f"{name}: it is not UTF-8", ErrorClass.INVALID_REQUEST) from error
    return text


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first of these variables that says anything, with its value; ("", "") when none does."""
    return next(((name, text) for name in names if (text := _value(environ, name))), ("", ""))


def _api(base_url: str, key: str, model: str) -> OpenAISettings:
    if key:
        refuse_placeholder("OPENAI_API_KEY", key, "leave it empty for the simulator")
    return OpenAISettings(base_url=base_url, api_key=key or None, model=model or DEFAULT_MODEL)


def _simulator(url: str, model: str) -> OpenAISettings:
    return OpenAISettings(base_url=url or SIMULATOR_BASE_URL, model=model or DEFAULT_MODEL)


def _azure(endpoint: str, environ: Mapping[str, str], model: str) -> OpenAISettings:
    key_name, key = _first(environ, "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_KEY")
    _, deployment = _first(environ, "AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_DEPLOYMENT_NAME")
    _, api_version = _first(environ, "OPENAI_API_VERSION", "AZURE_OPENAI_API_VERSION")
    refuse_placeholder("AZURE_OPENAI_ENDPOINT", endpoint, "unset it")
    if key:
        refuse_placeholder(key_name, key, "unset it if the daemon adds the key")
    if not deployment:
        raise ConnectorException(
            "AZURE_OPENAI_ENDPOINT is set, and AZURE_OPENAI_DEPLOYMENT is not: set the name of the deployment",
            ErrorClass.INVALID_REQUEST,
        )
    try:
        azure = AzureDeployment(deployment, api_version or DEFAULT_API_VERSION)
        endpoint = azure_endpoint(endpoint)
    except ConnectorException as error:
        raise ConnectorException(f"AZURE_OPENAI_*: {error.message}", ErrorClass.INVALID_REQUEST) from error
    return OpenAISettings(base_url=endpoint, api_key=key or None, model=model or None, azure=azure)
